//! The bodies of `/v1/config`: one config entry of any kind.
//!
//! **Source**: Consul: api-docs/config. An entry written there has a `Kind` and the fields of
//! that kind; one exported there carries fields of releases and editions that mean nothing here
//! while they are empty.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use weft_core::config_entry::{ConfigEntry, EntryKind, InvalidEntry};

use super::decode::decode as decode_record;
use super::{Fault, Options, Unknown, is_key, parse};

/// Decodes, checks and normalises a config entry.
///
/// `Kind` is taken in any case and with underscores, as in `service_splitter`.
///
/// # Errors
/// Every fault, by field. Fields that Consul has and that do nothing here yet, such as the
/// `Permissions` of an intention, are refused by name unless they are empty.
pub fn decode(body: &[u8]) -> Result<ConfigEntry, Vec<Fault>> {
    let value = parse(body).map_err(|fault| vec![fault])?;
    from_value(value, Options::new(Unknown::Refuse))
}

/// Decodes, checks and normalises a config entry written in a file.
///
/// # Errors
/// As [`decode`].
pub fn decode_file(value: Value) -> Result<ConfigEntry, Vec<Fault>> {
    from_value(value, Options::new(Unknown::Refuse).blocks())
}

fn from_value(value: Value, options: Options) -> Result<ConfigEntry, Vec<Fault>> {
    let Value::Object(mut object) = value else {
        return Err(vec![Fault::new("", "must be an object with a Kind and a Name")]);
    };
    let kind = take_kind(&mut object).map_err(|fault| vec![fault])?;
    drop_editions(&mut object);
    let value = Value::Object(object);
    let entry = match kind {
        EntryKind::ProxyDefaults => {
            record(&value, options.not_yet(PROXY_DEFAULTS)).map(ConfigEntry::ProxyDefaults)
        }
        EntryKind::ServiceDefaults => {
            record(&value, options.not_yet(SERVICE_DEFAULTS)).map(ConfigEntry::ServiceDefaults)
        }
        EntryKind::ServiceIntentions => {
            record(&value, options.not_yet(SERVICE_INTENTIONS)).map(ConfigEntry::ServiceIntentions)
        }
        EntryKind::ServiceResolver => {
            record(&value, options.not_yet(SERVICE_RESOLVER)).map(ConfigEntry::ServiceResolver)
        }
        EntryKind::ServiceRouter => {
            record(&value, options.not_yet(SERVICE_ROUTER)).map(ConfigEntry::ServiceRouter)
        }
        EntryKind::ServiceSplitter => {
            record(&value, options.not_yet(SERVICE_SPLITTER)).map(ConfigEntry::ServiceSplitter)
        }
    }?;
    entry.normalise().map_err(|invalid| invalid.into_iter().map(fault).collect())
}

fn record<T: DeserializeOwned>(value: &Value, options: Options) -> Result<T, Vec<Fault>> {
    decode_record(value, &options)
}

/// Says what `core` found wrong with an entry in the words of the API.
pub fn fault(invalid: InvalidEntry) -> Fault {
    match invalid {
        InvalidEntry::Field { field, reason } => Fault::new(field, reason),
        InvalidEntry::Name(reason) => Fault::new("Name", reason.to_string()),
    }
}

fn take_kind(object: &mut Map<String, Value>) -> Result<EntryKind, Fault> {
    let kinds = EntryKind::ALL.map(EntryKind::as_str).join(", ");
    let keys: Vec<String> = object.keys().filter(|key| is_key(key, "Kind")).cloned().collect();
    let [key] = &keys[..] else {
        let reason = match keys.is_empty() {
            true => format!("is missing; write one of {kinds}"),
            false => "is given twice".to_owned(),
        };
        return Err(Fault::new("Kind", reason));
    };
    match object.remove(key) {
        Some(Value::String(word)) => {
            let plain = word.trim().to_ascii_lowercase().replace('_', "-");
            let kind = EntryKind::ALL
                .into_iter()
                .find(|kind| kind.as_str() == plain || kind.as_str().replace('-', "") == plain);
            kind.ok_or_else(|| Fault::new("Kind", unknown_kind(&word, &plain, &kinds)))
        }
        Some(_) | None => Err(Fault::new("Kind", format!("must be one of {kinds}"))),
    }
}

fn unknown_kind(word: &str, plain: &str, kinds: &str) -> String {
    let word: String = word.chars().take(64).collect();
    match KINDS_NOT_YET.contains(&plain) {
        true => format!("{word:?} is not supported yet; the kinds are {kinds}"),
        false => format!("{word:?} is not a kind of config entry; the kinds are {kinds}"),
    }
}

/// Drops what only says "the one there is": namespace and partition `default`, and the hash that
/// exports carry.
fn drop_editions(object: &mut Map<String, Value>) {
    object.retain(|key, value| {
        let tenancy = is_key(key, "Namespace") || is_key(key, "Partition");
        let default = matches!(value.as_str(), Some("" | "default"));
        let hash = is_key(key, "Hash");
        !(hash || tenancy && default)
    });
}

const KINDS_NOT_YET: &[&str] = &[
    "api-gateway",
    "control-plane-request-limit",
    "exported-services",
    "file-system-certificate",
    "http-route",
    "ingress-gateway",
    "inline-certificate",
    "jwt-provider",
    "mesh",
    "sameness-group",
    "tcp-route",
    "terminating-gateway",
];

// Consul's fields, of an entry and of what is inside it, that do nothing here yet.

const PROXY_DEFAULTS: &[&str] = &[
    "AccessLogs",
    "EnvoyExtensions",
    "Expose",
    "FailoverPolicy",
    "MeshGateway",
    "Mode",
    "MutualTLSMode",
    "Namespace",
    "Partition",
    "PrioritizeByLocality",
    "TransparentProxy",
];

const SERVICE_DEFAULTS: &[&str] = &[
    "BalanceInboundConnections",
    "Destination",
    "EnvoyExtensions",
    "Expose",
    "ExternalSNI",
    "MaxRequestHeadersKB",
    "MeshGateway",
    "Mode",
    "MutualTLSMode",
    "Namespace",
    "Partition",
    "RateLimits",
    "TransparentProxy",
    "UpstreamConfig",
];

const SERVICE_INTENTIONS: &[&str] = &[
    "JWT",
    "LegacyCreateTime",
    "LegacyID",
    "LegacyMeta",
    "LegacyUpdateTime",
    "Namespace",
    "Partition",
    "Peer",
    "Permissions",
    "SamenessGroup",
];

const SERVICE_RESOLVER: &[&str] = &[
    "Failover",
    "LoadBalancer",
    "Namespace",
    "Partition",
    "Peer",
    "PrioritizeByLocality",
    "SamenessGroup",
];

const SERVICE_ROUTER: &[&str] = &[
    "IdleTimeout",
    "Namespace",
    "NumRetries",
    "Partition",
    "RequestHeaders",
    "ResponseHeaders",
    "RetryOn",
    "RetryOnConnectFailure",
    "RetryOnStatusCodes",
];

const SERVICE_SPLITTER: &[&str] = &["Namespace", "Partition", "RequestHeaders", "ResponseHeaders"];

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: &str) -> Vec<String> {
        let faults = decode(body.as_bytes()).expect_err(body);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_kind_may_be_spelled_as_in_any_client() {
        for kind in ["service-splitter", "Service_Splitter", "SERVICE-SPLITTER", "servicesplitter"]
        {
            let body = format!(r#"{{"kind":"{kind}","name":"web","splits":[{{"weight":100}}]}}"#);
            let entry = decode(body.as_bytes()).expect(kind);
            assert_eq!(entry.key().to_string(), "service-splitter/web");
        }
    }

    #[test]
    fn a_kind_that_is_none_is_answered_with_those_that_are() {
        let kinds = "the kinds are proxy-defaults, service-defaults, service-intentions, \
                     service-resolver, service-router, service-splitter";
        assert_eq!(
            faults(r#"{"Kind":"service-spliter","Name":"web"}"#),
            [format!("Kind: \"service-spliter\" is not a kind of config entry; {kinds}")]
        );
        assert_eq!(
            faults(r#"{"Kind":"mesh"}"#),
            [format!("Kind: \"mesh\" is not supported yet; {kinds}")]
        );
        assert!(faults(r#"{"Name":"web"}"#)[0].starts_with("Kind: is missing; write one of"));
        assert_eq!(faults(r#"{"Kind":"mesh","kind":"mesh"}"#), ["Kind: is given twice"]);
        assert_eq!(faults("[1]"), ["must be an object with a Kind and a Name"]);
    }

    #[test]
    fn permissions_are_refused_by_name() {
        assert_eq!(
            faults(
                r#"{"Kind":"service-intentions","Name":"db","Sources":[{"Name":"web",
                "Permissions":[{"Action":"allow","HTTP":{"PathPrefix":"/"}}]}]}"#
            ),
            [
                "Sources[0].Permissions: is not supported yet; remove it",
                "Sources[0].Action: is missing",
            ]
        );
    }

    #[test]
    fn a_slip_in_a_field_is_refused_with_a_suggestion() {
        assert_eq!(
            faults(r#"{"Kind":"service-defaults","Name":"web","Protocl":"http"}"#),
            ["Protocl: is not a field here; did you mean Protocol?"]
        );
    }

    #[test]
    fn an_exported_entry_is_taken_back() {
        let body = br#"{"Kind":"service-defaults","Name":"web","Partition":"default",
            "Namespace":"default","Protocol":"HTTP","TransparentProxy":{},"MeshGateway":{},
            "Expose":{"Checks":false,"Paths":null},"UpstreamConfig":null,"Hash":7,
            "CreateIndex":10,"ModifyIndex":12}"#;
        let entry = decode(body).expect("what is empty says nothing");
        assert_eq!(entry.name(), "web");
        assert_eq!(
            faults(
                r#"{"Kind":"service-defaults","Name":"web","Namespace":"a",
                "Expose":{"Checks":true}}"#
            ),
            [
                "Expose: is not supported yet; remove it",
                "Namespace: is not supported yet; remove it",
            ]
        );
    }

    #[test]
    fn what_core_finds_is_reported_by_field() {
        assert_eq!(
            faults(r#"{"Kind":"service-splitter","Name":"web","Splits":[{"Weight":90}]}"#),
            ["Splits: the weights add up to 90, not to 100"]
        );
    }
}
