//! What is asked for when something is registered or deregistered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    CheckDefinition, HealthCheck, Locality, Node, ProxyConfig, Service, ServicePort, TaggedAddress,
    Weights,
};
use crate::name::{CheckId, InstanceId, NodeName};

/// A service as it is asked for at an agent.
///
/// Fields are taken as they come; the agent checks them and fills in defaults.
/// **Source**: Consul: api-docs/agent/service#register-service. Field names are matched without
/// regard to case and underscores.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceDefinition {
    /// `connect-proxy`, or empty for an application.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The instance's id; empty means the name.
    #[serde(rename = "ID", skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The service's name.
    #[serde(alias = "Service")]
    pub name: String,
    /// Labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Where it listens; empty means the node's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Further addresses by tag.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Free key-value pairs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// The port it listens on.
    pub port: u16,
    /// Ports by name, instead of the one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// Where it runs; left out, where its node does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<Locality>,
    /// Its share among instances of equal standing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// Whether others may change the tags in the catalog.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable_tag_override: bool,
    /// One check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckDefinition>,
    /// Further checks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckDefinition>,
    /// What a sidecar stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyConfig>,
    /// How the service takes part in the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<ConnectDefinition>,
    /// Taken and not kept: registrations go to the catalog by the agent's own certificate.
    #[serde(skip_serializing)]
    pub token: Unheeded,
}

/// A value that is taken for the sake of who sends it, and forgotten unread.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Unheeded;

impl<'de> Deserialize<'de> for Unheeded {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// The `Connect` part of a [`ServiceDefinition`].
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConnectDefinition {
    /// Whether the application itself speaks mTLS with mesh certificates.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub native: bool,
    /// The sidecar to register along with the service; all its fields may be left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar_service: Option<Box<ServiceDefinition>>,
}

/// A node with any of its services and checks, to be written to the catalog as one.
///
/// **Shape**: what is absent here stays as it is in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogRegistration {
    /// The node; its indexes are ignored.
    pub node: Node,
    /// Instances on that node; their indexes are ignored.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Checks on that node; their indexes are ignored.
    #[serde(default)]
    pub checks: Vec<HealthCheck>,
}

/// What is to be removed from the catalog, all as one.
///
/// **Shape**: with no service and no check named, the node goes with all that is on it. A
/// service takes its checks along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogDeregistration {
    /// The node.
    pub node: NodeName,
    /// Instances to remove.
    #[serde(default)]
    pub services: Vec<InstanceId>,
    /// Checks to remove.
    #[serde(default)]
    pub checks: Vec<CheckId>,
}
