//! One full entry of each kind: decoded, checked, stored and shown without losing a field.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use weft_core::config_entry::{ConfigEntry, EntryKind};
use weft_proto::{envelope, json};

/// The entry of a kind with every field filled in.
fn full(kind: EntryKind) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/entries/{kind}.json"));
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

fn decode(value: &Value) -> ConfigEntry {
    json::config_entry::decode(value.to_string().as_bytes()).unwrap_or_else(|faults| {
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        panic!("{}: {}", value["Kind"], told.join("\n"))
    })
}

#[test]
fn every_kind_is_shown_in_the_shape_in_which_it_is_written() {
    for kind in EntryKind::ALL {
        let written = full(kind);
        let entry = decode(&written);
        assert_eq!(entry.kind(), kind);
        assert_eq!(serde_json::to_value(&entry).expect("text keys"), written, "{kind}");
        assert_eq!(entry.clone().normalise().expect("normalised already"), entry);
    }
}

#[test]
fn every_kind_crosses_the_log_unchanged() {
    for kind in EntryKind::ALL {
        let entry = decode(&full(kind));
        let read: ConfigEntry = envelope::decode(&envelope::encode(&entry)).expect("an envelope");
        assert_eq!(read, entry, "{kind}");
    }
}

/// Spells every field as HCL files and some clients do, in lower case with underscores.
fn snake(value: &Value, is_free: bool) -> Value {
    match value {
        Value::Object(object) => {
            let entries = object.iter().map(|(key, value)| {
                let free = ["Meta", "Config", "Add", "Set", "Subsets", "Failover"];
                let mut spelled = String::new();
                for (at, c) in key.chars().enumerate() {
                    let after = key.chars().nth(at.saturating_sub(1));
                    let starts = at > 0
                        && c.is_ascii_uppercase()
                        && after.is_some_and(|c| c.is_ascii_lowercase());
                    if starts && !is_free {
                        spelled.push('_');
                    }
                    spelled.push(if is_free { c } else { c.to_ascii_lowercase() });
                }
                (spelled, snake(value, free.contains(&key.as_str())))
            });
            Value::Object(entries.collect())
        }
        Value::Array(items) => items.iter().map(|item| snake(item, false)).collect(),
        other => other.clone(),
    }
}

#[test]
fn fields_are_taken_in_lower_case_with_underscores() {
    for kind in EntryKind::ALL {
        let written = full(kind);
        assert_eq!(decode(&snake(&written, false)), decode(&written), "{kind}");
    }
}

/// A path of a warning without the numbers of list items, and with `*` for the key of a map.
fn plain(warning: &str) -> String {
    let path = warning.split(": ").next().unwrap_or_default();
    let steps: Vec<&str> = path.split('.').collect();
    let plain = steps.iter().enumerate().map(|(at, step)| {
        let is_key = at > 0 && steps[at - 1] == "Failover";
        if is_key { "*".to_owned() } else { step.chars().filter(|c| !c.is_ascii_digit()).collect() }
    });
    plain.collect::<Vec<String>>().join(".")
}

#[test]
fn each_field_that_is_kept_without_effect_is_warned_of() {
    for kind in EntryKind::ALL {
        let standing = kind.standing();
        let warnings = decode(&full(kind)).warnings();
        match standing.waits_for {
            Some(what) => assert!(warnings.len() == 1 && warnings[0].ends_with(what), "{kind}"),
            None => {
                let warned: BTreeSet<String> = warnings.iter().map(|it| plain(it)).collect();
                let kept: BTreeSet<String> =
                    standing.kept.iter().map(|path| (*path).to_owned()).collect();
                assert_eq!(warned, kept, "{kind}");
            }
        }
    }
}

#[test]
fn what_is_in_force_is_not_warned_of() {
    for body in [
        r#"{"Kind":"mesh","IntentionPrecedence":"deny-overrides"}"#,
        r#"{"Kind":"mesh","IntentionPrecedence":""}"#,
        r#"{"Kind":"mesh","AllowEnablingPermissiveMutualTLS":true}"#,
        r#"{"Kind":"proxy-defaults","Name":"global","MutualTLSMode":"permissive"}"#,
        r#"{"Kind":"service-defaults","Name":"web","Protocol":"http","MutualTLSMode":"strict",
            "MaxInboundConnections":7,"MeshGateway":{},"Expose":{},"TransparentProxy":{}}"#,
        r#"{"Kind":"mesh","TLS":{"Incoming":{"TLSMinVersion":"TLSv1_3"}},
            "HTTP":{"Incoming":{"RequestNormalization":{"MergeSlashes":true,
            "PathWithEscapedSlashesAction":"REJECT_REQUEST"}}}}"#,
        r#"{"Kind":"service-resolver","Name":"web","ConnectTimeout":"1s","Failover":{}}"#,
    ] {
        let entry = json::config_entry::decode(body.as_bytes()).expect(body);
        assert_eq!(entry.warnings(), [""; 0], "{body}");
    }
}

#[test]
fn each_field_that_would_narrow_who_may_do_what_is_refused_by_name() {
    // Where each of them stands in Consul.
    for (kind, body) in [
        ("api-gateway", r#"{"Listeners":[{"Name":"a","Port":1,"Default":{"JWT":{"x":1}}}]}"#),
        ("api-gateway", r#"{"Listeners":[{"Name":"a","Port":1,"Override":{"JWT":{"x":1}}}]}"#),
        ("exported-services", r#"{"Services":[{"Name":"a","Consumers":[{"SamenessGroup":"x"}]}]}"#),
        ("http-route", r#"{"Rules":[{"Filters":{"JWT":{"Providers":[1]}}}]}"#),
        (
            "mesh",
            r#"{"HTTP":{"Incoming":{"RequestNormalization":{
                "HeadersWithUnderscoresAction":"REJECT_REQUEST"}}}}"#,
        ),
        ("service-intentions", r#"{"Sources":[{"Name":"a","Peer":"x","Action":"allow"}]}"#),
        ("service-intentions", r#"{"Sources":[{"Name":"a","SamenessGroup":"x"}]}"#),
        ("service-resolver", r#"{"Redirect":{"Peer":"x"}}"#),
        ("service-resolver", r#"{"Failover":{"*":{"SamenessGroup":"x"}}}"#),
    ] {
        let mut value: Value = serde_json::from_str(body).expect(body);
        value["Kind"] = kind.into();
        value["Name"] = "web".into();
        let faults = json::config_entry::decode(value.to_string().as_bytes()).expect_err(body);
        let refused = faults.iter().any(|fault| fault.reason == "is not supported yet; remove it");
        assert!(refused, "{kind} {body}: {faults:?}");
    }
    for body in [
        r#"{"Kind":"service-defaults","Name":"web","EnvoyExtensions":[{"Name":"builtin/lua"}]}"#,
        r#"{"Kind":"proxy-defaults","Name":"global","EnvoyExtensions":[{"Name":"builtin/wasm"}]}"#,
        r#"{"Kind":"mesh","TLS":{"Incoming":{"TLSMaxVersion":"TLSv1_2"}}}"#,
        r#"{"Kind":"mesh","HTTP":{"Incoming":{"RequestNormalization":{
            "InsecureDisablePathNormalization":true}}}}"#,
        r#"{"Kind":"mesh","HTTP":{"Incoming":{"RequestNormalization":{
            "PathWithEscapedSlashesAction":"KEEP_UNCHANGED"}}}}"#,
    ] {
        assert!(json::config_entry::decode(body.as_bytes()).is_err(), "{body}");
    }
}

/// Reads `# goal`, an entry and the faults wanted, parted by blank lines and `----`.
#[test]
fn all_faults_of_an_entry_are_told_at_once() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/entries/refused.txt");
    let script = std::fs::read_to_string(path).expect("the script is there");
    let mut cases = 0;
    for case in script.split("\n\n").filter(|case| case.contains("\n----\n")) {
        let (body, wanted) = case.split_once("----\n").expect("an entry and its faults");
        let body: String = body.lines().filter(|line| !line.starts_with('#')).collect();
        let faults = json::config_entry::decode(body.as_bytes()).expect_err(&body);
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(told.join("\n"), wanted.trim_end(), "{body}");
        cases += 1;
    }
    assert!(cases > 10, "{cases} cases were read");
}
