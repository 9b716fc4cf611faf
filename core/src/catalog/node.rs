//! A host of the mesh.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::index::Index;
use crate::name::{Datacenter, NodeName};

/// A host, as the catalog knows it.
///
/// **Source**: Consul: api-docs/catalog#list-nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// A UUID that stays with the host's data directory; empty for external nodes.
    #[serde(rename = "ID", default)]
    pub id: String,
    /// The host's name; unique without regard to case.
    #[serde(rename = "Node")]
    pub name: NodeName,
    /// Where the host is reached: an IP address, or a DNS name for external nodes.
    pub address: String,
    /// The datacenter it belongs to.
    pub datacenter: Datacenter,
    /// Further addresses by tag (`lan`, `wan`, …).
    #[serde(default)]
    pub tagged_addresses: BTreeMap<String, String>,
    /// Free key-value pairs.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    /// When the node was first registered.
    #[serde(default)]
    pub create_index: Index,
    /// When the node itself last changed.
    #[serde(default)]
    pub modify_index: Index,
}

/// An address with a port, known by a tag such as `lan` or `virtual`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaggedAddress {
    /// An IP address or DNS name.
    pub address: String,
    /// The port, 0 when it is the service's own.
    #[serde(default)]
    pub port: u16,
}
