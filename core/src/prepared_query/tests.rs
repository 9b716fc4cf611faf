//! What queries are refused for, what templates become, and whom a question means.

use serde_json::json;

use super::{PreparedQuery, choose};
use crate::catalog::ServiceInstance;

fn query(value: serde_json::Value) -> PreparedQuery {
    serde_json::from_value(value).expect("a query")
}

#[test]
fn all_faults_of_a_query_are_told() {
    let faults = query(json!({ "Service": { "Failover": { "Datacenters": ["a"],
        "Targets": [{}, { "Peer": "x" }] } }, "DNS": { "TTL": "10" },
        "Template": { "Type": "name_prefix_match", "Regexp": "(" } }))
    .normalise()
    .expect_err("much is wrong");
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "Template.Regexp: is not usable: unclosed group",
            "Service.Service: must name a service",
            "Service.Failover: write one of Datacenters and Targets, not both",
            "Service.Failover.Targets[0]: write exactly one of Peer and Datacenter",
            "DNS.TTL: \"10\" is not a duration such as \"10s\"",
        ]
    );
    let faults = query(json!({ "Service": { "Service": "web" } })).normalise();
    let told = faults.expect_err("no name")[0].to_string();
    assert_eq!(told, "Name: must be given, or a Session with which the query ends");
}

#[test]
fn a_template_is_filled_in_for_a_name() {
    let template = query(json!({ "Name": "geo-db",
        "Template": { "Type": "name_prefix_match", "Regexp": "^geo-db-(.*?)-([^-]+)$",
            "RemoveEmptyTags": true },
        "Service": { "Service": "mysql-${match(1)}", "Near": "_agent",
            "Tags": ["${match(2)}", "${match(7)}", "$${plain}"],
            "NodeMeta": { "of": "${name.full}/${name.prefix}/${name.suffix}" } } }))
    .normalise()
    .expect("a template");
    let made = template.render("geo-db-customer-primary").expect("filled in");
    assert_eq!(made.service.service, "mysql-customer");
    assert_eq!(made.service.tags, ["primary", "${plain}"]);
    assert_eq!(made.service.node_meta["of"], "geo-db-customer-primary/geo-db/-customer-primary");
    assert!(!made.is_template());
    let unmatched = template.render("geo-db").expect("filled in");
    assert_eq!(unmatched.service.service, "mysql-");

    for (text, wanted) in [
        ("${nothing}", "\"nothing\" cannot be filled in"),
        ("${name.full", "has no end"),
        ("${match(x)}", "cannot be filled in"),
    ] {
        let mut broken = template.clone();
        broken.service.service = text.to_owned();
        let error = broken.render("geo-db-a").expect_err(text);
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn critical_instances_are_left_out_and_the_rest_by_what_is_asked() {
    let instance = |id: &str, status: &str| -> ServiceInstance {
        serde_json::from_value(json!({
            "Node": { "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1",
                "Meta": { "rack": "a" } },
            "Service": { "ID": id, "Service": "web", "Tags": [id, "Prod"],
                "Meta": { "version": "1" } },
            "Checks": [{ "Node": "n1", "CheckID": "c", "Name": "c", "Status": status }],
        }))
        .expect("an instance")
    };
    let check = |question: serde_json::Value, wanted: &[&str]| {
        let mut question = question;
        question["Service"] = json!("web");
        let question = query(json!({ "Service": question })).service;
        let mut instances =
            vec![instance("a", "passing"), instance("b", "warning"), instance("c", "critical")];
        choose(&question, &mut instances);
        let left: Vec<&str> = instances.iter().map(|it| it.service.id.as_str()).collect();
        assert_eq!(left, wanted, "{question:?}");
    };
    check(json!({}), &["a", "b"]);
    check(json!({ "OnlyPassing": true }), &["a"]);
    check(json!({ "OnlyPassing": true, "IgnoreCheckIDs": ["c"] }), &["a", "b", "c"]);
    check(json!({ "Tags": ["prod", "!B"] }), &["a"]);
    check(json!({ "Tags": ["none"] }), &[]);
    check(json!({ "NodeMeta": { "rack": "a" } }), &["a", "b"]);
    check(json!({ "NodeMeta": { "rack": "b" } }), &[]);
    check(json!({ "ServiceMeta": { "version": "2" } }), &[]);
}
