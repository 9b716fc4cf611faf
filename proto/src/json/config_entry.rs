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
/// Every fault, by field. Fields that Consul has and that do nothing here yet, such as
/// `SamenessGroup`, are refused by name unless they are empty.
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
    let options = options.not_yet(kind.standing().refused);
    let entry = match kind {
        EntryKind::ApiGateway => record(&value, options).map(ConfigEntry::ApiGateway),
        EntryKind::ExportedServices => record(&value, options).map(ConfigEntry::ExportedServices),
        EntryKind::FileSystemCertificate => {
            record(&value, options).map(ConfigEntry::FileSystemCertificate)
        }
        EntryKind::HttpRoute => record(&value, options).map(ConfigEntry::HttpRoute),
        EntryKind::IngressGateway => record(&value, options).map(ConfigEntry::IngressGateway),
        EntryKind::InlineCertificate => record(&value, options).map(ConfigEntry::InlineCertificate),
        EntryKind::JwtProvider => record(&value, options).map(ConfigEntry::JwtProvider),
        EntryKind::Mesh => record(&value, options).map(ConfigEntry::Mesh),
        EntryKind::ProxyDefaults => record(&value, options).map(ConfigEntry::ProxyDefaults),
        EntryKind::Rollout => record(&value, options).map(ConfigEntry::Rollout),
        EntryKind::ServiceDefaults => record(&value, options).map(ConfigEntry::ServiceDefaults),
        EntryKind::ServiceIntentions => record(&value, options).map(ConfigEntry::ServiceIntentions),
        EntryKind::ServiceResolver => record(&value, options).map(ConfigEntry::ServiceResolver),
        EntryKind::ServiceRouter => record(&value, options).map(ConfigEntry::ServiceRouter),
        EntryKind::ServiceSplitter => record(&value, options).map(ConfigEntry::ServiceSplitter),
        EntryKind::TcpRoute => record(&value, options).map(ConfigEntry::TcpRoute),
        EntryKind::TerminatingGateway => {
            record(&value, options).map(ConfigEntry::TerminatingGateway)
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
    match EntryKind::refused(plain) {
        Some(reason) => format!("{word:?} is not taken: {reason}"),
        None => format!("{word:?} is not a kind of config entry; the kinds are {kinds}"),
    }
}

/// Drops what only says "the one there is", wherever it stands: namespace and partition
/// `default`, a protocol that is not said, and at the top what exports carry along.
fn drop_editions(object: &mut Map<String, Value>) {
    object.retain(|key, _| !(is_key(key, "Hash") || is_key(key, "Status")));
    drop_tenancy(object);
}

fn drop_tenancy(object: &mut Map<String, Value>) {
    object.retain(|key, value| {
        let tenancy = is_key(key, "Namespace") || is_key(key, "Partition");
        let unsaid = value.as_str() == Some("")
            && (tenancy || is_key(key, "Protocol") || is_key(key, "Action"));
        !(unsaid || tenancy && value.as_str() == Some("default"))
    });
    for (key, value) in object {
        // Keys of free maps are the writer's own.
        let is_free = FREE_MAPS.iter().any(|free| is_key(key, free));
        match value {
            Value::Object(inner) if !is_free => drop_tenancy(inner),
            Value::Array(items) => {
                items.iter_mut().filter_map(Value::as_object_mut).for_each(drop_tenancy);
            }
            _ => {}
        }
    }
}

/// Maps whose keys are the writer's own.
const FREE_MAPS: [&str; 5] = ["Add", "Config", "LegacyMeta", "Meta", "Set"];

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
        let kinds = format!("the kinds are {}", EntryKind::ALL.map(EntryKind::as_str).join(", "));
        assert_eq!(
            faults(r#"{"Kind":"service-spliter","Name":"web"}"#),
            [format!("Kind: \"service-spliter\" is not a kind of config entry; {kinds}")]
        );
        assert!(faults(r#"{"Kind":"sameness-group"}"#)[0].contains("is not taken: there are no"),);
        assert!(faults(r#"{"Name":"web"}"#)[0].starts_with("Kind: is missing; write one of"));
        assert_eq!(faults(r#"{"Kind":"mesh","kind":"mesh"}"#), ["Kind: is given twice"]);
        assert_eq!(faults("[1]"), ["must be an object with a Kind and a Name"]);
    }

    #[test]
    fn what_is_not_judged_in_a_permission_is_refused_by_name() {
        let entry = |permission: &str| {
            format!(
                r#"{{"Kind":"service-intentions","Name":"db","Sources":[{{"Name":"web",
                "Action":"","Permissions":[{permission}]}}]}}"#
            )
        };
        let right = entry(r#"{"Action":"allow","HTTP":{"PathPrefix":"/"},"JWT":null}"#);
        assert!(decode(right.as_bytes()).is_ok());
        let wrong = r#"{"Action":"allow","HTTP":{"PathPrefix":"/","Host":"x"},"JWT":{"x":1}}"#;
        let told = faults(&entry(wrong)).join("; ");
        assert!(
            told.contains("Sources[0].Permissions[0].HTTP.Host: is not a field here"),
            "{told}"
        );
        let jwt = "Sources[0].Permissions[0].JWT.x: is not a field here";
        assert!(told.contains(jwt), "{told}");
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
                r#"{"Kind":"service-resolver","Name":"web","Namespace":"a",
                "Redirect":{"Peer":"x"}}"#
            ),
            [
                "Namespace: is not supported yet; remove it",
                "Redirect.Peer: is not supported yet; remove it",
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
