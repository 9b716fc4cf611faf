//! The fields that filters know against the records they are for, and the parser on any text.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CHECK, Filter, NODE, SERVICE, SERVICE_INSTANCE, Schema};
use crate::catalog::{HealthCheck, Node, Service, ServiceInstance};

/// A record with every field filled in.
fn full() -> ServiceInstance {
    let record = json!({
        "Node": { "ID": "n", "Node": "host", "Address": "10.0.0.1", "Datacenter": "dc1",
            "TaggedAddresses": { "lan": "10.0.0.1" }, "Meta": { "rack": "a" } },
        "Service": { "Kind": "connect-proxy", "ID": "web-1", "Service": "web", "Tags": ["v1"],
            "Address": "10.0.0.2", "TaggedAddresses": { "lan": { "Address": "a", "Port": 1 } },
            "Meta": { "version": "v1" }, "Port": 80,
            "Locality": { "Region": "r1", "Zone": "z1" },
            "Proxy": { "DestinationServiceName": "app", "DestinationServiceID": "app-1",
                "LocalServiceAddress": "127.0.0.1", "LocalServicePort": 8080,
                "Config": { "protocol": "http" },
                "Upstreams": [{ "DestinationName": "db" }] },
            "Connect": { "Native": true } },
        "Checks": [{ "Node": "host", "CheckID": "c", "Name": "c", "Status": "passing",
            "ServiceID": "web-1", "ServiceName": "web", "ServiceTags": ["v1"] }],
    });
    serde_json::from_value(record).expect("a record")
}

/// Returns the paths of all leaves, lists and maps of names among `maps`.
fn paths(value: &Value, schema: &Schema, prefix: &str, into: &mut Vec<String>) {
    let Value::Object(object) = value else {
        into.push(prefix.to_owned());
        return;
    };
    let known = |path: &str| schema.fields.iter().any(|(field, _)| *field == path);
    let is_map = known(prefix);
    if is_map {
        into.push(prefix.to_owned());
    }
    for (key, value) in object {
        let key = if is_map { "*" } else { key };
        let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        paths(value, schema, &path, into);
    }
}

fn covers<T: serde::Serialize>(schema: &Schema, record: &T) {
    let value = serde_json::to_value(record).expect("a record");
    let mut found = Vec::new();
    paths(&value, schema, "", &mut found);
    // Indexes are for waiting, and what is opaque to the mesh is opaque to its filters.
    found.retain(|path| !path.ends_with("Index") && !path.contains("Proxy.Config"));
    found.sort();
    let known: Vec<&str> = schema.fields.iter().map(|(path, _)| *path).collect();
    assert_eq!(found, known, "{}", schema.record);
}

#[test]
fn schemas_name_every_field_of_their_records_in_order() {
    let full = full();
    covers::<Node>(&NODE, &full.node);
    covers::<Service>(&SERVICE, &full.service);
    covers::<HealthCheck>(&CHECK, &full.checks[0]);
    covers::<ServiceInstance>(&SERVICE_INSTANCE, &full);
}

#[test]
fn a_record_and_its_json_are_the_same_to_a_filter() {
    let full = full();
    let value = serde_json::to_value(&full).expect("a record");
    for text in [
        "Service.Tags.x == y",
        "Checks.Name == c",
        "Service.Port.x == 80",
        "Node == host",
        "Service.Proxy.Config.protocol == http",
        "Service.Kind == \"connect-proxy\"",
        "Service.Proxy.DestinationServiceName == app",
        "Service.TaggedAddresses.lan.Port == 1",
        "Service.Meta.version == v1",
        "Service.Meta.none is empty",
        "Nothing.at.all != x",
        "v1 in Service.Tags",
        "Service.Connect.Native == true",
    ] {
        let filter = Filter::parse(text).expect(text);
        assert_eq!(filter.matches_record(&full), filter.matches(&value), "{text}");
    }
    let entry = json!({"Kind":"service-defaults","Name":"web","Protocol":"http"});
    let entry: crate::config_entry::ConfigEntry = serde_json::from_value(entry).expect("an entry");
    for text in ["Kind == \"service-defaults\"", "Name == web", "Protocol == http"] {
        assert!(Filter::parse(text).expect(text).matches_record(&entry), "{text}");
    }
}

#[test]
fn long_chains_and_deep_nesting_are_bounded() {
    let long = vec!["a == b"; 800].join(" or ");
    assert!(Filter::parse(&long).is_ok());
    assert!(Filter::parse(&format!("{} a == b", "not ".repeat(2_000))).is_ok());
    assert!(Filter::parse(&"(".repeat(8_000)).is_err());
    assert!(Filter::parse(&"x".repeat(8_193)).is_err());
    let deep = format!("{}a == b{}", "(".repeat(64), ")".repeat(64));
    assert!(Filter::parse(&deep).is_ok());
}

fn any_filter() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "and",
        "or",
        "not",
        "in",
        "is",
        "empty",
        "contains",
        "matches",
        "==",
        "!=",
        "(",
        ")",
        "Service.Meta.version",
        "Service.Tags",
        "Service.Port",
        "v1",
        "80",
        "\"a b\"",
        "`x`",
        "Node.Meta[\"rack\"]",
        "[",
        ".",
        "\"",
    ]);
    prop::collection::vec(word, 0..12).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,64}") {
        let _ = Filter::parse(&text);
    }

    #[test]
    fn whatever_parses_and_suits_the_record_can_be_negated(text in any_filter()) {
        let record = serde_json::to_value(full()).expect("a record");
        if let Ok(filter) = Filter::parse_for(&text, &SERVICE_INSTANCE) {
            let negated = Filter::parse_for(&format!("not ({text})"), &SERVICE_INSTANCE);
            let negated = negated.expect("the same in parentheses");
            prop_assert_ne!(filter.matches(&record), negated.matches(&record));
            prop_assert_eq!(filter.matches(&record), filter.matches_record(&full()));
        }
    }
}
