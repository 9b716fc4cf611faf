//! The body of `GET /v1/discovery/prometheus`: what Prometheus scrapes, in the form of its HTTP
//! service discovery.
//!
//! **Source**: Prometheus: docs/http_sd; label names as of its `consul_sd_config`, so that
//! relabelling rules made for that go on working.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_core::catalog::ServiceInstance;

/// One instance as a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetGroup {
    /// `host:port`, one.
    pub targets: Vec<String>,
    /// What is known of it, for relabelling.
    pub labels: BTreeMap<String, String>,
}

impl TargetGroup {
    /// Makes a target of an instance: at the port of that name if one is asked for, else at its
    /// port. `None` when it has no such port.
    pub fn of(instance: &ServiceInstance, port_name: Option<&str>) -> Option<Self> {
        let service = &instance.service;
        let port = match port_name {
            None => service.port,
            Some(wanted) => {
                let named = |name: &str| name.eq_ignore_ascii_case(wanted);
                service.ports.iter().find(|port| named(&port.name))?.port
            }
        };
        if port == 0 {
            return None;
        }
        let address = instance.address();
        let target = match address.contains(':') {
            true => format!("[{address}]:{port}"),
            false => format!("{address}:{port}"),
        };
        Some(Self { targets: vec![target], labels: labels(instance, port) })
    }
}

fn labels(instance: &ServiceInstance, port: u16) -> BTreeMap<String, String> {
    let (node, service) = (&instance.node, &instance.service);
    let mut labels = BTreeMap::new();
    let mut put = |name: &str, value: &str| {
        labels.insert(format!("__meta_consul_{name}"), value.to_owned());
    };
    put("address", &node.address);
    put("dc", node.datacenter.as_str());
    put("health", instance.status().as_str());
    put("node", node.name.as_str());
    put("service", service.name.as_str());
    put("service_address", &service.address);
    put("service_id", service.id.as_str());
    put("service_port", &port.to_string());
    // With a separator at both ends, so that a rule can ask for `,tag,`.
    let tags: String = service.tags.iter().map(|tag| format!("{tag},")).collect();
    put("tags", &format!(",{tags}"));
    for (key, value) in &node.meta {
        put(&format!("metadata_{}", label_name(key)), value);
    }
    for (key, value) in &service.meta {
        put(&format!("service_metadata_{}", label_name(key)), value);
    }
    for (key, value) in &node.tagged_addresses {
        put(&format!("tagged_address_{}", label_name(key)), value);
    }
    for port in &service.ports {
        put(&format!("service_port_{}", label_name(&port.name)), &port.port.to_string());
    }
    labels
}

/// Makes a key into a part of a label's name, as Prometheus does.
fn label_name(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn instance(service: serde_json::Value) -> ServiceInstance {
        serde_json::from_value(json!({
            "Node": { "ID": "", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1",
                "Meta": { "rack-no": "7" }, "TaggedAddresses": { "wan": "1.2.3.4" } },
            "Service": service,
            "Checks": [{ "Node": "n1", "CheckID": "c", "Name": "c", "Status": "warning" }],
        }))
        .expect("an instance")
    }

    #[test]
    fn an_instance_is_a_target_with_labels_for_relabelling() {
        let web = instance(json!({ "ID": "web-1", "Service": "web", "Port": 80,
            "Tags": ["a", "b"], "Meta": { "version": "2" } }));
        let group = TargetGroup::of(&web, None).expect("it has a port");
        assert_eq!(group.targets, ["10.0.0.1:80"]);
        for (name, value) in [
            ("address", "10.0.0.1"),
            ("dc", "dc1"),
            ("health", "warning"),
            ("metadata_rack_no", "7"),
            ("node", "n1"),
            ("service", "web"),
            ("service_address", ""),
            ("service_id", "web-1"),
            ("service_metadata_version", "2"),
            ("service_port", "80"),
            ("tagged_address_wan", "1.2.3.4"),
            ("tags", ",a,b,"),
        ] {
            assert_eq!(group.labels[&format!("__meta_consul_{name}")], value, "{name}");
        }
        assert_eq!(group.labels.len(), 12);
    }

    #[test]
    fn a_target_is_at_the_port_that_is_asked_for() {
        let ports = json!([{ "Name": "http", "Port": 80, "Default": true },
            { "Name": "metrics", "Port": 9100 }]);
        let web = instance(json!({ "ID": "w", "Service": "web", "Address": "::1", "Port": 80,
            "Ports": ports }));
        let target = |name| TargetGroup::of(&web, name).map(|group| group.targets.concat());
        assert_eq!(target(None).as_deref(), Some("[::1]:80"));
        assert_eq!(target(Some("metrics")).as_deref(), Some("[::1]:9100"));
        assert_eq!(target(Some("other")), None);
        let portless = instance(json!({ "ID": "w", "Service": "web" }));
        assert_eq!(TargetGroup::of(&portless, None), None);
    }
}
