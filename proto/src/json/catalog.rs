//! The bodies of `/v1/catalog/…` that are not records.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_core::catalog::{
    Connect, Locality, ProxyConfig, ServiceInstance, ServiceKind, ServicePort, TaggedAddress,
    Weights,
};
use weft_core::index::Index;
use weft_core::name::{Datacenter, InstanceId, NodeName, ServiceName};

/// One instance as `GET /v1/catalog/service/:name` and `/v1/catalog/connect/:name` list it: the
/// node's fields, and the instance's with `Service` before their names.
///
/// Filters of these lists are checked against `weft_core::filter::CATALOG_SERVICE`.
/// **Source**: Consul: api-docs/catalog#list-nodes-for-service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CatalogService {
    /// The node's UUID; empty for external nodes.
    #[serde(rename = "ID")]
    pub id: String,
    /// The node's name.
    pub node: NodeName,
    /// The node's address.
    pub address: String,
    /// The node's datacenter.
    pub datacenter: Datacenter,
    /// Further addresses of the node.
    pub tagged_addresses: BTreeMap<String, String>,
    /// The node's free key-value pairs.
    pub node_meta: BTreeMap<String, String>,
    /// What the instance is for.
    pub service_kind: ServiceKind,
    /// The instance.
    #[serde(rename = "ServiceID")]
    pub service_id: InstanceId,
    /// The service that it is an instance of.
    pub service_name: ServiceName,
    /// Its labels.
    pub service_tags: Vec<String>,
    /// Where it listens; empty means the node's address.
    pub service_address: String,
    /// Further addresses of the instance.
    pub service_tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Its share among instances of equal standing.
    pub service_weights: Weights,
    /// Its free key-value pairs.
    pub service_meta: BTreeMap<String, String>,
    /// The port it listens on.
    pub service_port: u16,
    /// Further ports by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_ports: Vec<ServicePort>,
    /// Where it runs, when it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_locality: Option<Locality>,
    /// Whether others may change the tags.
    pub service_enable_tag_override: bool,
    /// What the sidecar stands for.
    pub service_proxy: ProxyConfig,
    /// How the instance takes part in the mesh.
    pub service_connect: Connect,
    /// When the instance was first registered.
    pub create_index: Index,
    /// When the instance last changed.
    pub modify_index: Index,
}

impl From<ServiceInstance> for CatalogService {
    fn from(instance: ServiceInstance) -> Self {
        let ServiceInstance { node, service, checks: _ } = instance;
        let (node, service) = (Arc::unwrap_or_clone(node), Arc::unwrap_or_clone(service));
        Self {
            id: node.id,
            node: node.name,
            address: node.address,
            datacenter: node.datacenter,
            tagged_addresses: node.tagged_addresses,
            node_meta: node.meta,
            service_kind: service.kind,
            service_id: service.id,
            service_name: service.name,
            service_tags: service.tags,
            service_address: service.address,
            service_tagged_addresses: service.tagged_addresses,
            service_weights: service.weights,
            service_meta: service.meta,
            service_port: service.port,
            service_ports: service.ports,
            service_locality: service.locality,
            service_enable_tag_override: service.enable_tag_override,
            service_proxy: service.proxy,
            service_connect: service.connect,
            create_index: service.create_index,
            modify_index: service.modify_index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use weft_core::filter::{CATALOG_SERVICE, Filter};

    #[test]
    fn an_instance_is_listed_flat_and_can_be_filtered() {
        let instance: ServiceInstance = serde_json::from_value(json!({
            "Node": { "ID": "n", "Node": "host", "Address": "10.0.0.1", "Datacenter": "dc1",
                "Meta": { "rack": "r1" } },
            "Service": { "ID": "web-1", "Service": "web", "Port": 80, "Tags": ["v1"] },
            "Checks": [],
        }))
        .expect("an instance");
        let body = serde_json::to_value(CatalogService::from(instance)).expect("JSON");
        for (field, wanted) in [
            ("ID", json!("n")),
            ("Node", json!("host")),
            ("NodeMeta", json!({ "rack": "r1" })),
            ("ServiceKind", json!("")),
            ("ServiceID", json!("web-1")),
            ("ServiceName", json!("web")),
            ("ServiceTags", json!(["v1"])),
            ("ServicePort", json!(80)),
            ("ServiceWeights", json!({ "Passing": 1, "Warning": 1 })),
        ] {
            assert_eq!(body[field], wanted, "{field}");
        }
        for text in ["NodeMeta.rack == r1", "v1 in ServiceTags", "ServicePort == 80"] {
            let filter = Filter::parse_for(text, &CATALOG_SERVICE).expect(text);
            assert!(filter.matches(&body), "{text}");
        }
        let shown: Vec<&String> = body.as_object().expect("an object").keys().collect();
        for (path, _) in CATALOG_SERVICE.fields {
            let first = path.split('.').next().expect("a path");
            assert!(shown.iter().any(|key| *key == first), "{path}");
        }
    }
}
