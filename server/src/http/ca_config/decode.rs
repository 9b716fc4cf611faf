//! The CA's configuration as clients of Consul write it: every key is known or refused by name.

use serde_json::{Map, Value, json};
use weft_core::ca::{CaSettings, KeyKind, VaultAccess, VaultAuth};
use weft_core::limits;
use weft_core::time::Span;
use weft_proto::json::{Fault, parse};

use crate::ca::{ChangeRequest, Given, WantedProvider};

/// The file with the token of a pod, where none is named.
const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The keys of `Config`, as they are folded, with their names.
const KEYS: [(&str, &str); 19] = [
    ("address", "Address"),
    ("authmethod", "AuthMethod"),
    ("cafile", "CAFile"),
    ("csrmaxpersecond", "CSRMaxPerSecond"),
    ("forcewithoutcrosssigning", "ForceWithoutCrossSigning"),
    ("intermediatecert", "IntermediateCert"),
    ("intermediatecertttl", "IntermediateCertTTL"),
    // Taken and not needed: intermediates are made at the servers.
    ("intermediatepkipath", "IntermediatePKIPath"),
    ("leafcertttl", "LeafCertTTL"),
    ("namespace", "Namespace"),
    ("privatekey", "PrivateKey"),
    ("privatekeybits", "PrivateKeyBits"),
    ("privatekeytype", "PrivateKeyType"),
    ("rootcert", "RootCert"),
    ("rootcertttl", "RootCertTTL"),
    ("rootpkinamespace", "RootPKINamespace"),
    ("rootpkipath", "RootPKIPath"),
    ("token", "Token"),
    ("intermediatepkinamespace", "IntermediatePKINamespace"),
];

/// Keys that only Vault has.
const OF_VAULT: [&str; 9] = [
    "address",
    "authmethod",
    "cafile",
    "intermediatepkinamespace",
    "intermediatepkipath",
    "namespace",
    "rootpkinamespace",
    "rootpkipath",
    "token",
];

/// What stands in `Config`, by folded key; empty values are as good as none.
struct Keys<'a> {
    found: Map<String, Value>,
    faults: &'a mut Vec<Fault>,
}

/// Reads a configuration.
pub(super) fn configuration(body: &[u8]) -> Result<ChangeRequest, Vec<Fault>> {
    let value = parse(body).map_err(|fault| vec![fault])?;
    let (mut faults, mut provider, mut force) = (Vec::new(), "consul", false);
    let mut config = None;
    for (key, value) in value.as_object().into_iter().flatten() {
        match folded(key).as_str() {
            "provider" => match value.as_str() {
                Some("consul" | "builtin") => {}
                Some("vault") => provider = "vault",
                Some(_) | None => {
                    let reason = "must be \"consul\", which is built in, or \"vault\"";
                    faults.push(Fault::new("Provider", reason.to_owned()));
                }
            },
            "config" => config = value.as_object(),
            "state" | "createindex" | "modifyindex" => {}
            "forcewithoutcrosssigning" => {
                force = flag("ForceWithoutCrossSigning", value, &mut faults)
            }
            _ => faults.push(Fault::new(key, "is not known; remove it".to_owned())),
        }
    }
    let mut keys = Keys { found: Map::new(), faults: &mut faults };
    keys.take_in(config, provider);
    force |= keys.found.get("forcewithoutcrosssigning") == Some(&Value::Bool(true));
    let settings = CaSettings {
        leaf_lifetime: keys.span("leafcertttl"),
        intermediate_lifetime: keys.span("intermediatecertttl"),
        root_lifetime: keys.span("rootcertttl"),
        signatures_per_second: keys.count("csrmaxpersecond"),
        ..CaSettings::default()
    };
    let kind = keys.key_kind();
    let provider = match provider {
        "vault" => keys.vault(kind),
        _ => keys.built_in(kind),
    };
    match (provider, faults.is_empty()) {
        (Some(provider), true) => Ok(ChangeRequest { settings, provider, renew: false, force }),
        (Some(_) | None, _) => Err(faults),
    }
}

/// Reads what is said about a rotation: the kind of the new root's key, and whether to go on
/// without cross-signing. Nothing needs to be said.
pub(super) fn rotation(body: &[u8]) -> Result<(Option<KeyKind>, bool), Vec<Fault>> {
    let value = match body.is_empty() {
        true => json!({}),
        false => parse(body).map_err(|fault| vec![fault])?,
    };
    let (mut faults, mut force) = (Vec::new(), false);
    let mut found = Map::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        match folded(key).as_str() {
            "forcewithoutcrosssigning" => {
                force = flag("ForceWithoutCrossSigning", value, &mut faults)
            }
            known @ ("privatekeytype" | "privatekeybits") => {
                found.insert(known.to_owned(), value.clone());
            }
            _ => faults.push(Fault::new(key, "is not known; remove it".to_owned())),
        }
    }
    let kind = Keys { found, faults: &mut faults }.key_kind();
    if faults.is_empty() { Ok((kind, force)) } else { Err(faults) }
}

impl Keys<'_> {
    fn take_in(&mut self, config: Option<&Map<String, Value>>, provider: &str) {
        for (key, value) in config.into_iter().flatten() {
            let name = folded(key);
            if value.is_null() || value == "" {
                continue;
            }
            if !KEYS.iter().any(|(known, _)| *known == name) {
                let reason = match name.as_str() {
                    // 0 is none, which is how it is.
                    "csrmaxconcurrent" if *value == 0 => continue,
                    "csrmaxconcurrent" => "is not known; write CSRMaxPerSecond instead",
                    _ => "is not known; remove it",
                };
                self.fault(key, reason);
            } else if provider != "vault" && OF_VAULT.contains(&name.as_str()) {
                self.fault(key, "is for the provider \"vault\" alone; remove it");
            } else {
                self.found.insert(name, value.clone());
            }
        }
    }

    fn fault(&mut self, key: &str, reason: impl Into<String>) {
        self.faults.push(Fault::new(format!("Config.{key}"), reason.into()));
    }

    fn text(&mut self, key: &str) -> Option<String> {
        let value = self.found.get(key)?;
        let text = value.as_str().map(str::to_owned);
        match text {
            Some(text) if text.len() <= limits::CA_PEM_BYTES_MAX => Some(text),
            Some(_) => {
                let reason = format!("is longer than {} bytes", limits::CA_PEM_BYTES_MAX);
                self.fault(name_of(key), reason);
                None
            }
            None => {
                self.fault(name_of(key), "must be a text");
                None
            }
        }
    }

    fn span(&mut self, key: &str) -> Option<Span> {
        let value = self.found.get(key)?.clone();
        match serde_json::from_value::<Span>(value) {
            Ok(span) => Some(span),
            Err(error) => {
                self.fault(name_of(key), error.to_string());
                None
            }
        }
    }

    fn count(&mut self, key: &str) -> Option<u32> {
        let value = self.found.get(key)?;
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        if count.is_none() {
            self.fault(name_of(key), "must be a whole number; 0 is for any number");
        }
        count
    }

    fn key_kind(&mut self) -> Option<KeyKind> {
        let kind = self.text("privatekeytype");
        let bits = self.found.get("privatekeybits").cloned().unwrap_or(json!(0));
        let read = |text: &str| text.parse().ok();
        let Some(bits) = bits.as_u64().or_else(|| bits.as_str().and_then(read)) else {
            self.fault("PrivateKeyBits", "must be a number");
            return None;
        };
        if kind.is_none() && bits == 0 {
            return None;
        }
        let found = KeyKind::parse(kind.as_deref().unwrap_or("ec"), bits);
        if found.is_none() {
            let reason = "must be \"ec\" with 256 or 384 bits, \"rsa\" with 2048 or 4096, or \
                          \"ed25519\"";
            self.fault("PrivateKeyType", reason);
        }
        found
    }

    fn built_in(&mut self, kind: Option<KeyKind>) -> Option<WantedProvider> {
        let (root, key) = (self.text("rootcert"), self.text("privatekey"));
        let chain_pem = self.text("intermediatecert");
        match (root, key) {
            (Some(root_pem), Some(key_pem)) => {
                Some(WantedProvider::Given(Given { root_pem, key_pem, chain_pem }))
            }
            (None, None) if chain_pem.is_none() => Some(WantedProvider::BuiltIn(kind)),
            (None, _) => {
                self.fault("RootCert", "is missing beside PrivateKey or IntermediateCert");
                None
            }
            (Some(_), None) => {
                self.fault("PrivateKey", "is missing: that of RootCert, or of IntermediateCert");
                None
            }
        }
    }

    fn vault(&mut self, key_kind: Option<KeyKind>) -> Option<WantedProvider> {
        for key in ["rootcert", "privatekey", "intermediatecert"] {
            if self.found.contains_key(key) {
                self.fault(name_of(key), "is for the provider \"consul\" alone; remove it");
            }
        }
        let address = self.text("address").unwrap_or_default();
        let is_url = ["http://", "https://"].iter().any(|scheme| address.starts_with(scheme));
        if !is_url || address.contains(['?', '#', ' ']) {
            self.fault("Address", "must be a URL such as \"https://vault.example:8200\"");
        }
        let root_path = self.text("rootpkipath").unwrap_or_default();
        let root_path = root_path.trim_matches('/').to_owned();
        if !is_path(&root_path) {
            self.fault("RootPKIPath", "must be the path of a mount such as \"pki\"");
        }
        let namespace = self.text("rootpkinamespace").or_else(|| self.text("namespace"));
        let namespace = namespace.unwrap_or_default();
        if !namespace.is_empty() && !is_path(namespace.trim_matches('/')) {
            self.fault("Namespace", "must be the path of a namespace such as \"team-a\"");
        }
        let ca_file = self.text("cafile").unwrap_or_default();
        let (auth, secret) = self.auth()?;
        let access = VaultAccess { address, root_path, namespace, ca_file, auth };
        Some(WantedProvider::Vault { access, secret, key_kind })
    }

    /// Reads how servers log in, and the secret if one is given.
    fn auth(&mut self) -> Option<(VaultAuth, Option<String>)> {
        let token = self.text("token");
        let Some(method) = self.found.get("authmethod").cloned() else {
            return Some((VaultAuth::Token, token));
        };
        let text = |value: &Value| value.as_str().map(str::to_owned).filter(|it| !it.is_empty());
        let at = |value: &Value, name: &str| {
            let fields = value.as_object()?.iter();
            fields.into_iter().find(|(key, _)| folded(key) == name).map(|(_, value)| value.clone())
        };
        let kind = at(&method, "type").as_ref().and_then(text).unwrap_or_default();
        let mount = at(&method, "mountpath").as_ref().and_then(text).unwrap_or(kind.clone());
        let params = at(&method, "params").unwrap_or_default();
        let param = |name: &str| at(&params, name).as_ref().and_then(text);
        if token.is_some() {
            self.fault("Token", "and AuthMethod exclude each other; remove one");
        }
        if !is_path(mount.trim_matches('/')) {
            self.fault("AuthMethod.MountPath", "must be the path of a mount such as \"approle\"");
        }
        let (auth, secret, needed) = match kind.as_str() {
            "approle" => {
                let role_id = param("roleid").unwrap_or_default();
                let missing = role_id.is_empty().then_some("role_id");
                (VaultAuth::AppRole { mount, role_id }, param("secretid"), missing)
            }
            "jwt" => {
                let (role, path) = (param("role").unwrap_or_default(), param("path"));
                let missing = role.is_empty().then_some("role");
                let path = path.unwrap_or_default();
                (VaultAuth::Jwt { mount, role, path }, param("jwt"), missing)
            }
            "kubernetes" => {
                let role = param("role").unwrap_or_default();
                let missing = role.is_empty().then_some("role");
                let path = param("tokenpath").unwrap_or_else(|| POD_TOKEN.to_owned());
                (VaultAuth::Kubernetes { mount, role, path }, None, missing)
            }
            _ => {
                let reason = "must be \"approle\", \"jwt\" or \"kubernetes\"; for a token, write \
                              Token instead";
                self.fault("AuthMethod.Type", reason);
                return None;
            }
        };
        if let Some(missing) = needed {
            self.fault(&format!("AuthMethod.Params.{missing}"), "is missing");
        }
        Some((auth, secret))
    }
}

fn flag(name: &str, value: &Value, faults: &mut Vec<Fault>) -> bool {
    let flag = value.as_bool();
    if flag.is_none() && !value.is_null() {
        faults.push(Fault::new(name, "must be true or false".to_owned()));
    }
    flag.unwrap_or_default()
}

/// What may stand in the path of a URL as it is.
fn is_path(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    !text.is_empty() && text.len() <= 256 && text.chars().all(is_plain) && !text.contains("..")
}

fn name_of(key: &str) -> &'static str {
    KEYS.iter().find(|(known, _)| *known == key).map_or("", |(_, name)| name)
}

fn folded(key: &str) -> String {
    key.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests;
