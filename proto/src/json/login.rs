//! Auth methods, binding rules and logins of the ACL pages.
//!
//! **Source**: Consul: api-docs/acl/auth-methods, api-docs/acl/binding-rules,
//! api-docs/acl#login-to-auth-method.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weft_core::acl::{
    AuthConfig, AuthMethod, AuthMethodName, BindType, BindingRule, BindingRuleId, JwtAlgorithm,
    JwtConfig, JwtKeys, KubernetesConfig, TokenLocality,
};
use weft_core::index::Index;
use weft_core::limits;
use weft_core::time::Span;

use super::{Fault, Options, Unknown, from_slice, from_value};

/// How long before or after its only date a JSON web token is good, when nothing else is said.
///
/// **Source**: Consul: docs/security/acl/auth-methods/jwt (150 s).
const LEEWAY_DEFAULT: Duration = Duration::from_secs(150);
/// How far clocks may be apart, when nothing else is said (the same page: 60 s).
const CLOCK_SKEW_DEFAULT: Duration = Duration::from_secs(60);

/// The body of `PUT /v1/acl/auth-method`.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AuthMethodBody {
    /// The name.
    pub name: String,
    /// `jwt` or `kubernetes`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What people see instead of the name.
    pub display_name: String,
    /// A remark for people.
    pub description: String,
    /// How long its tokens live; nothing or zero means without end.
    #[serde(rename = "MaxTokenTTL")]
    pub max_token_ttl: Option<Span>,
    /// `local` or `global`; empty means local.
    pub token_locality: String,
    /// What the kind of method needs to know.
    pub config: Value,
}

/// The `Config` of a method of the kind `jwt`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwtBody {
    /// Values of `aud` that are accepted.
    pub bound_audiences: Vec<String>,
    /// What `iss` must be.
    pub bound_issuer: String,
    /// From claims to names.
    pub claim_mappings: BTreeMap<String, String>,
    /// From claims that are lists to names.
    pub list_claim_mappings: BTreeMap<String, String>,
    /// How far clocks may be apart; nothing or zero means 60 s.
    pub clock_skew_leeway: Option<Span>,
    /// For tokens without `exp`; nothing or zero means 150 s.
    pub expiration_leeway: Option<Span>,
    /// For tokens without `nbf` and `iat`; nothing or zero means 150 s.
    pub not_before_leeway: Option<Span>,
    /// Authorities for the key set, in PEM.
    #[serde(rename = "JWKSCACert")]
    pub jwks_ca_cert: String,
    /// Where the key set is.
    #[serde(rename = "JWKSURL")]
    pub jwks_url: String,
    /// Algorithms that are accepted; empty means RS256.
    #[serde(rename = "JWTSupportedAlgs")]
    pub jwt_supported_algs: Vec<String>,
    /// Public keys in PEM.
    #[serde(rename = "JWTValidationPubKeys")]
    pub jwt_validation_pub_keys: Vec<String>,
    /// An OpenID Connect issuer.
    #[serde(rename = "OIDCDiscoveryURL")]
    pub oidc_discovery_url: String,
    /// Authorities for it, in PEM.
    #[serde(rename = "OIDCDiscoveryCACert")]
    pub oidc_discovery_ca_cert: String,
}

/// The `Config` of a method of the kind `kubernetes`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct KubernetesBody {
    /// The API server's URL.
    pub host: String,
    /// Authorities for it, in PEM.
    #[serde(rename = "CACert")]
    pub ca_cert: String,
    /// A token with the right to review others.
    #[serde(rename = "ServiceAccountJWT")]
    pub service_account_jwt: String,
    /// Namespaces are those of one edition of Consul; only `false` is taken.
    pub map_namespaces: bool,
}

impl std::fmt::Debug for KubernetesBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesBody").field("host", &self.host).finish_non_exhaustive()
    }
}

/// What a reviewer's token is shown as; sent back it means the one that is kept.
pub const HIDDEN: &str = "<hidden>";

impl AuthMethodBody {
    /// Decodes a body.
    ///
    /// # Errors
    /// Every fault, by field.
    pub fn decode(body: &[u8]) -> Result<Self, Vec<Fault>> {
        from_slice(body, Unknown::Ignore)
    }

    /// Checks the body and makes a method of it; `at` is the name in the path, if there is one.
    ///
    /// # Errors
    /// Every fault, by field.
    pub fn method(&self, at: Option<&str>) -> Result<AuthMethod, Vec<Fault>> {
        let mut faults = Vec::new();
        if let Some(at) = at
            && !self.name.is_empty()
            && self.name != at
        {
            faults.push(Fault::new("Name", format!("must be {at:?}, as in the path")));
        }
        let name = AuthMethodName::parse(at.unwrap_or(&self.name));
        let name = name.map_err(|error| faults.push(Fault::new("Name", error.to_string()))).ok();
        let token_lifetime = self.max_token_ttl.map(|it| it.0).filter(|it| !it.is_zero());
        let (least, most) = (limits::ACL_TOKEN_LIFETIME_MIN, limits::ACL_TOKEN_LIFETIME_MAX);
        if token_lifetime.is_some_and(|it| it < least || it > most) {
            let reason = format!("must be between {} and {}", Span(least), Span(most));
            faults.push(Fault::new("MaxTokenTTL", reason));
        }
        let token_locality = match self.token_locality.as_str() {
            "" | "local" => TokenLocality::Local,
            "global" => TokenLocality::Global,
            other => {
                let reason = format!("{other:?} is neither local nor global");
                faults.push(Fault::new("TokenLocality", reason));
                TokenLocality::Local
            }
        };
        let config = match self.kind.as_str() {
            "jwt" => decode_config::<JwtBody>(&self.config, &mut faults)
                .and_then(|body| body.config(&mut faults).map(AuthConfig::Jwt)),
            "kubernetes" => decode_config::<KubernetesBody>(&self.config, &mut faults)
                .and_then(|body| body.config(&mut faults).map(AuthConfig::Kubernetes)),
            "oidc" | "aws-iam" => {
                let reason = format!("{:?} is not supported; write jwt or kubernetes", self.kind);
                faults.push(Fault::new("Type", reason));
                None
            }
            other => {
                let reason = format!("{other:?} is not one of jwt, kubernetes");
                faults.push(Fault::new("Type", reason));
                None
            }
        };
        match (name, config) {
            (Some(name), Some(config)) if faults.is_empty() => Ok(AuthMethod {
                name,
                display_name: self.display_name.clone(),
                description: self.description.clone(),
                token_lifetime,
                token_locality,
                config,
                create_index: Index::default(),
                modify_index: Index::default(),
            }),
            _ => Err(faults),
        }
    }
}

fn decode_config<T: serde::de::DeserializeOwned>(
    value: &Value,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    let empty = json!({});
    let value = if value.is_null() { &empty } else { value };
    from_value(value, &Options::new(Unknown::Ignore))
        .map_err(|found: Vec<Fault>| {
            faults.extend(found.into_iter().map(|fault| Fault {
                path: format!("Config.{}", fault.path).trim_end_matches('.').to_owned(),
                ..fault
            }));
        })
        .ok()
}

impl JwtBody {
    fn config(self, faults: &mut Vec<Fault>) -> Option<JwtConfig> {
        let before = faults.len();
        let sources = [
            !self.jwt_validation_pub_keys.is_empty(),
            !self.jwks_url.is_empty(),
            !self.oidc_discovery_url.is_empty(),
        ];
        if sources.into_iter().filter(|is_set| *is_set).count() != 1 {
            let reason = "set one of JWTValidationPubKeys, JWKSURL and OIDCDiscoveryURL";
            faults.push(Fault::new("Config", reason));
        }
        let algorithms = match self.jwt_supported_algs.is_empty() {
            true => vec![JwtAlgorithm::RS256],
            false => {
                self.jwt_supported_algs.iter().filter_map(|it| algorithm(it, faults)).collect()
            }
        };
        for (field, names) in [
            ("ClaimMappings", &self.claim_mappings),
            ("ListClaimMappings", &self.list_claim_mappings),
        ] {
            for (claim, name) in names {
                if name.is_empty() || name.contains(['}', '.', '"']) {
                    let reason = "must be a name without '.', '}' and quotes";
                    faults.push(Fault::new(format!("Config.{field}[{claim:?}]"), reason));
                }
            }
        }
        let keys = if !self.jwks_url.is_empty() {
            check_url("JWKSURL", &self.jwks_url, faults);
            JwtKeys::KeySet { url: self.jwks_url, ca_pem: self.jwks_ca_cert }
        } else if !self.oidc_discovery_url.is_empty() {
            check_url("OIDCDiscoveryURL", &self.oidc_discovery_url, faults);
            let url = self.oidc_discovery_url.trim_end_matches('/').to_owned();
            JwtKeys::Discovery { url, ca_pem: self.oidc_discovery_ca_cert }
        } else {
            JwtKeys::Pem(self.jwt_validation_pub_keys)
        };
        let or = |span: Option<Span>, default| {
            span.map(|span| span.0).filter(|it| !it.is_zero()).unwrap_or(default)
        };
        (faults.len() == before).then(|| JwtConfig {
            keys,
            algorithms,
            issuer: self.bound_issuer,
            audiences: self.bound_audiences,
            claims: self.claim_mappings,
            list_claims: self.list_claim_mappings,
            expiration_leeway: or(self.expiration_leeway, LEEWAY_DEFAULT),
            not_before_leeway: or(self.not_before_leeway, LEEWAY_DEFAULT),
            clock_skew: or(self.clock_skew_leeway, CLOCK_SKEW_DEFAULT),
        })
    }
}

fn algorithm(word: &str, faults: &mut Vec<Fault>) -> Option<JwtAlgorithm> {
    let found = JwtAlgorithm::ALL.into_iter().find(|it| it.as_str() == word);
    if found.is_none() {
        let known = JwtAlgorithm::ALL.map(JwtAlgorithm::as_str).join(", ");
        let reason = format!("{word:?} is not one of {known}");
        faults.push(Fault::new("Config.JWTSupportedAlgs", reason));
    }
    found
}

/// Keys must come from who they are said to come from, so plain HTTP is for loopback alone.
fn check_url(field: &str, url: &str, faults: &mut Vec<Fault>) {
    let is_local = ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|start| {
        url.strip_prefix(start).is_some_and(|it| it.is_empty() || it.starts_with([':', '/']))
    });
    if !url.starts_with("https://") && !is_local {
        let reason = "must start with https://; http:// is for loopback only";
        faults.push(Fault::new(format!("Config.{field}"), reason));
    }
}

impl KubernetesBody {
    fn config(self, faults: &mut Vec<Fault>) -> Option<KubernetesConfig> {
        let before = faults.len();
        check_url("Host", &self.host, faults);
        if self.service_account_jwt.is_empty() {
            let reason = "must be the token of a service account that may review tokens";
            faults.push(Fault::new("Config.ServiceAccountJWT", reason));
        }
        if self.ca_cert.is_empty() && self.host.starts_with("https://") {
            let reason = "must be the authorities that vouch for Host, in PEM";
            faults.push(Fault::new("Config.CACert", reason));
        }
        if self.map_namespaces {
            let reason = "is not supported: this mesh has no namespaces";
            faults.push(Fault::new("Config.MapNamespaces", reason));
        }
        (faults.len() == before).then(|| KubernetesConfig {
            host: self.host.trim_end_matches('/').to_owned(),
            ca_pem: self.ca_cert,
            reviewer_jwt: self.service_account_jwt,
        })
    }
}

/// Writes a method as the API shows it. The reviewer's token is not shown.
pub fn show_method(method: &AuthMethod) -> Value {
    let config = match &method.config {
        AuthConfig::Kubernetes(config) => json!({
            "Host": config.host,
            "CACert": config.ca_pem,
            "ServiceAccountJWT": HIDDEN,
        }),
        AuthConfig::Jwt(config) => show_jwt(config),
    };
    let mut shown = show_method_briefly(method);
    shown["Config"] = config;
    shown
}

/// Writes a method as lists of the API show it.
pub fn show_method_briefly(method: &AuthMethod) -> Value {
    let mut shown = json!({
        "Name": method.name,
        "Type": method.kind(),
        "Description": method.description,
        "TokenLocality": method.token_locality,
        "CreateIndex": method.create_index,
        "ModifyIndex": method.modify_index,
    });
    if !method.display_name.is_empty() {
        shown["DisplayName"] = json!(method.display_name);
    }
    if let Some(lifetime) = method.token_lifetime {
        shown["MaxTokenTTL"] = json!(Span(lifetime).to_string());
    }
    shown
}

fn show_jwt(config: &JwtConfig) -> Value {
    let algorithms = config.algorithms.iter().map(|it| it.as_str());
    let mut shown = json!({
        "JWTSupportedAlgs": algorithms.collect::<Vec<_>>(),
        "BoundIssuer": config.issuer,
        "BoundAudiences": config.audiences,
        "ClaimMappings": config.claims,
        "ListClaimMappings": config.list_claims,
        "ExpirationLeeway": Span(config.expiration_leeway).to_string(),
        "NotBeforeLeeway": Span(config.not_before_leeway).to_string(),
        "ClockSkewLeeway": Span(config.clock_skew).to_string(),
    });
    match &config.keys {
        JwtKeys::Discovery { url, ca_pem } => {
            shown["OIDCDiscoveryURL"] = json!(url);
            shown["OIDCDiscoveryCACert"] = json!(ca_pem);
        }
        JwtKeys::KeySet { url, ca_pem } => {
            shown["JWKSURL"] = json!(url);
            shown["JWKSCACert"] = json!(ca_pem);
        }
        JwtKeys::Pem(keys) => shown["JWTValidationPubKeys"] = json!(keys),
    }
    shown
}

/// The body of `PUT /v1/acl/binding-rule`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindingRuleBody {
    /// A remark for people.
    pub description: String,
    /// The method.
    pub auth_method: String,
    /// A filter expression.
    pub selector: String,
    /// What is granted.
    pub bind_type: String,
    /// Its name.
    pub bind_name: String,
    /// What is filled into a template.
    pub bind_vars: Option<BindVars>,
}

/// The `BindVars` of a [`BindingRuleBody`].
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindVars {
    /// The name.
    pub name: String,
}

impl BindingRuleBody {
    /// Decodes a body.
    ///
    /// # Errors
    /// Every fault, by field.
    pub fn decode(body: &[u8]) -> Result<Self, Vec<Fault>> {
        from_slice(body, Unknown::Ignore)
    }

    /// Checks the body and makes a rule of it. Whether it suits its method is judged by the state.
    ///
    /// # Errors
    /// Every fault, by field.
    pub fn rule(self, id: BindingRuleId) -> Result<BindingRule, Vec<Fault>> {
        let mut faults = Vec::new();
        let auth_method = AuthMethodName::parse(&self.auth_method)
            .map_err(|error| faults.push(Fault::new("AuthMethod", error.to_string())));
        let bind_type = self
            .bind_type
            .parse::<BindType>()
            .map_err(|error| faults.push(Fault::new("BindType", error.to_string())));
        match (auth_method, bind_type) {
            (Ok(auth_method), Ok(bind_type)) => Ok(BindingRule {
                id,
                description: self.description,
                auth_method,
                bind_type,
                bind_name: self.bind_name,
                bind_variable: self.bind_vars.unwrap_or_default().name,
                selector: self.selector,
                create_index: Index::default(),
                modify_index: Index::default(),
            }),
            _ => Err(faults),
        }
    }
}

/// Writes a rule as the API shows it.
pub fn show_rule(rule: &BindingRule) -> Value {
    let mut shown = json!({
        "ID": rule.id,
        "Description": rule.description,
        "AuthMethod": rule.auth_method,
        "Selector": rule.selector,
        "BindType": rule.bind_type,
        "BindName": rule.bind_name,
        "CreateIndex": rule.create_index,
        "ModifyIndex": rule.modify_index,
    });
    if !rule.bind_variable.is_empty() {
        shown["BindVars"] = json!({ "Name": rule.bind_variable });
    }
    shown
}

/// The body of `POST /v1/acl/login`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LoginBody {
    /// The method.
    pub auth_method: String,
    /// The credential. Never shown.
    pub bearer_token: String,
    /// What the token's description will tell of where it was made.
    pub meta: BTreeMap<String, String>,
}

impl std::fmt::Debug for LoginBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginBody").field("auth_method", &self.auth_method).finish_non_exhaustive()
    }
}

impl LoginBody {
    /// Decodes a body.
    ///
    /// # Errors
    /// Every fault, by field.
    pub fn decode(body: &[u8]) -> Result<Self, Vec<Fault>> {
        let read: Self = from_slice(body, Unknown::Ignore)?;
        let mut faults = Vec::new();
        for (field, value) in
            [("AuthMethod", &read.auth_method), ("BearerToken", &read.bearer_token)]
        {
            if value.is_empty() {
                faults.push(Fault::new(field, "is needed"));
            }
        }
        if read.meta.len() > limits::META_PAIRS_MAX {
            let reason = format!("has more than {} pairs", limits::META_PAIRS_MAX);
            faults.push(Fault::new("Meta", reason));
        }
        if faults.is_empty() { Ok(read) } else { Err(faults) }
    }

    /// Returns the description of the token that is made.
    pub fn description(&self) -> String {
        match self.meta.is_empty() {
            true => "token created via login".to_owned(),
            false => format!("token created via login: {}", json!(self.meta)),
        }
    }
}
