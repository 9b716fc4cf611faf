//! Service and node identities: the rights of a service or an agent, by its name.

use serde::{Deserialize, Serialize};

use super::{Access, Resource, Rules};
use crate::name::{Datacenter, NodeName, ServiceName};

/// What a service and its sidecar need.
///
/// **Source**: Consul: docs/security/acl/acl-roles#service-identities.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceIdentity {
    /// The service.
    pub service_name: ServiceName,
    /// Where it holds; empty means everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<Datacenter>,
}

impl ServiceIdentity {
    /// Returns the rules: to register the service and its sidecar, and to find what it calls.
    pub fn rules(&self) -> Rules {
        let name = self.service_name.as_str();
        Rules::default()
            .exact(Resource::Service, name, Access::Write)
            .exact(Resource::Service, &format!("{name}-sidecar-proxy"), Access::Write)
            .prefix(Resource::Service, "", Access::Read)
            .prefix(Resource::Node, "", Access::Read)
    }
}

/// What an agent needs for its own node.
///
/// **Source**: Consul: docs/security/acl/acl-roles#node-identities.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeIdentity {
    /// The node.
    pub node_name: NodeName,
    /// Where it is.
    pub datacenter: Datacenter,
}

impl NodeIdentity {
    /// Returns the rules: to write the node's records, and to see what services there are.
    pub fn rules(&self) -> Rules {
        Rules::default().exact(Resource::Node, self.node_name.as_str(), Access::Write).prefix(
            Resource::Service,
            "",
            Access::Read,
        )
    }
}
