//! The host's truth and the catalog, as short texts: `web:80` is an instance with its port,
//! `web!passing` a check of it with its status, `!disk` a check of the node.

use super::*;
use crate::catalog::{
    CheckStatus, Connect, ProxyConfig, SERF_HEALTH, ServiceKind, TaggedAddress, Weights,
};
use crate::name::{Datacenter, NodeName, ServiceName};

fn node() -> Node {
    Node {
        id: "n1".into(),
        name: NodeName::parse("host-1").expect("a node name"),
        address: "10.0.0.1".into(),
        datacenter: Datacenter::parse("dc1").expect("a datacenter"),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        create_index: Index(0),
        modify_index: Index(0),
    }
}

fn service(id: &str, port: u16) -> Service {
    Service {
        ports: Vec::new(),
        locality: None,
        kind: ServiceKind::Typical,
        id: InstanceId::parse(id).expect("an instance id"),
        name: ServiceName::parse(id).expect("a service name"),
        tags: Vec::new(),
        address: String::new(),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        port,
        weights: Weights::default(),
        enable_tag_override: false,
        proxy: ProxyConfig::default(),
        connect: Connect::default(),
        create_index: Index(0),
        modify_index: Index(0),
    }
}

fn health_check(service: &str, status: &str) -> HealthCheck {
    let id = CheckId::parse(if service.is_empty() { "disk" } else { service });
    let status = status.parse().unwrap_or(CheckStatus::Critical);
    HealthCheck {
        service_id: InstanceId::parse(service).ok(),
        service_name: ServiceName::parse(service).ok(),
        kind: "ttl".into(),
        ..HealthCheck::of_node(node().name, id.expect("a check id"), "", status)
    }
}

fn registration(text: &str) -> CatalogRegistration {
    let mut registration =
        CatalogRegistration { node: node(), services: Vec::new(), checks: Vec::new() };
    for word in text.split_whitespace() {
        if let Some((id, port)) = word.split_once(':') {
            registration.services.push(service(id, port.parse().expect("a port")));
        } else if let Some((id, status)) = word.split_once('!') {
            registration.checks.push(health_check(id, status));
        } else {
            let mut lease = health_check("", word);
            lease.id = CheckId::parse(SERF_HEALTH).expect("a check id");
            registration.checks.push(lease);
        }
    }
    registration
}

fn shown(differences: &Differences) -> String {
    let mut words = Vec::new();
    if let Some(register) = &differences.register {
        words.push("+node".to_owned());
        words.extend(register.services.iter().map(|s| format!("+{}:{}", s.id, s.port)));
        words.extend(register.checks.iter().map(|c| format!("+{}!{}", c.id, c.status)));
    }
    if let Some(deregister) = &differences.deregister {
        words.extend(deregister.services.iter().map(|id| format!("-{id}")));
        words.extend(deregister.checks.iter().map(|id| format!("-{id}!")));
    }
    words.join(" ")
}

#[test]
fn the_host_wins_over_the_catalog() {
    for (local, remote, expected) in [
        ("", "", ""),
        ("web:80 web!passing", "web:80 web!passing", ""),
        ("web:80", "", "+node +web:80"),
        ("web:81", "web:80", "+node +web:81"),
        ("web:80 web!critical", "web:80 web!passing", "+node +web!critical"),
        ("", "web:80", "-web"),
        ("", "web:80 web!passing", "-web"),
        ("web:80", "web:80 web!passing", "-web!"),
        ("!passing", "", "+node +disk!passing"),
        ("", "!passing", "-disk!"),
        ("a:1 c:3", "a:1 b:2", "+node +c:3 -b"),
    ] {
        let differences = diff(
            &registration(local),
            Some(&registration(remote)),
            &TagsTold::default(),
            Outputs::Compared,
        );
        assert_eq!(shown(&differences), expected, "{local:?} against {remote:?}");
        let after = differences.applied_to(registration(remote));
        let left =
            diff(&registration(local), Some(&after), &TagsTold::default(), Outputs::Compared);
        assert!(left.is_empty(), "{local:?} against {remote:?} leaves {}", shown(&left));
    }
}

#[test]
fn a_node_unknown_to_the_catalog_is_registered_with_all_that_it_has() {
    let local = registration("passing web:80");
    let differences = diff(&local, None, &TagsTold::default(), Outputs::Ignored);
    assert_eq!(differences, Differences { register: Some(local), deregister: None });
}

#[test]
fn the_lease_check_is_added_when_missing_and_else_left_to_the_servers() {
    for (local, remote, expected) in [
        ("passing", "", "+node +serfHealth!passing"),
        ("passing", "critical", ""),
        ("", "critical", ""),
    ] {
        let differences = diff(
            &registration(local),
            Some(&registration(remote)),
            &TagsTold::default(),
            Outputs::Compared,
        );
        assert_eq!(shown(&differences), expected, "{local:?} against {remote:?}");
    }
}

#[test]
fn a_node_that_differs_is_registered_alone() {
    let local = registration("web:80");
    let mut remote = registration("web:80");
    remote.node.address = "10.0.0.9".into();
    remote.node.modify_index = Index(7);
    assert_eq!(
        shown(&diff(&local, Some(&remote), &TagsTold::by(&local), Outputs::Compared)),
        "+node"
    );
    remote.node.address = local.node.address.clone();
    assert!(diff(&local, Some(&remote), &TagsTold::by(&local), Outputs::Compared).is_empty());
}

#[test]
fn tags_of_others_stand_where_they_are_allowed() {
    let mut local = registration("web:80");
    let mut remote = registration("web:80");
    remote.services[0].tags = vec!["canary".into()];
    assert_eq!(
        shown(&diff(&local, Some(&remote), &TagsTold::by(&local), Outputs::Compared)),
        "+node +web:80"
    );
    local.services[0].enable_tag_override = true;
    remote.services[0].enable_tag_override = true;
    assert!(diff(&local, Some(&remote), &TagsTold::by(&local), Outputs::Compared).is_empty());
    local.services[0].port = 81;
    let register = diff(&local, Some(&remote), &TagsTold::by(&local), Outputs::Compared)
        .register
        .expect("a new port");
    assert_eq!(register.services[0].tags, ["canary"]);

    // The host says something else than before: it has the last word.
    let told = TagsTold::by(&local);
    local.services[0].tags = vec!["primary".into()];
    let register = diff(&local, Some(&remote), &told, Outputs::Compared).register;
    assert_eq!(register.expect("a new tag").services[0].tags, ["primary"]);
    // And so it does for an instance that it has just registered.
    let register = diff(&local, Some(&remote), &TagsTold::default(), Outputs::Compared).register;
    assert_eq!(register.expect("a new instance").services[0].tags, ["primary"]);
    // Until others change it again.
    let told = TagsTold::by(&local);
    local.services[0].port = 80;
    assert!(diff(&local, Some(&remote), &told, Outputs::Compared).is_empty());
}

#[test]
fn virtual_addresses_are_the_servers_affair() {
    let local = registration("web:80");
    let mut remote = registration("web:80");
    let address = TaggedAddress { address: "240.0.0.1".into(), port: 80 };
    remote.services[0].tagged_addresses.insert("consul-virtual".into(), address);
    assert!(diff(&local, Some(&remote), &TagsTold::by(&local), Outputs::Compared).is_empty());
}

#[test]
fn output_counts_only_when_it_is_compared() {
    let local = registration("web:80 web!passing");
    let mut remote = local.clone();
    remote.checks[0].output = "older".into();
    assert!(diff(&local, Some(&remote), &TagsTold::by(&local), Outputs::Ignored).is_empty());
    assert_eq!(
        shown(&diff(&local, Some(&remote), &TagsTold::by(&local), Outputs::Compared)),
        "+node +web!passing"
    );
}

#[test]
fn a_large_registration_goes_in_batches_that_keep_checks_with_their_instances() {
    for (text, records_max, expected) in [
        ("", 2, vec!["+node"]),
        ("a:1 a!passing b:2", 9, vec!["+node +a:1 +b:2 +a!passing"]),
        (
            "a:1 b:2 c:3 b!passing !passing",
            2,
            vec!["+node +a:1 +b:2 +b!passing", "+node +c:3 +disk!passing"],
        ),
        (
            "a!passing b!passing c!passing",
            2,
            vec!["+node +a!passing +b!passing", "+node +c!passing"],
        ),
    ] {
        let batches = Differences::batches(registration(text), records_max).into_iter();
        let found: Vec<String> = batches
            .map(|register| shown(&Differences { register: Some(register), deregister: None }))
            .collect();
        assert_eq!(found, expected, "{text:?} by {records_max}");
    }
}
