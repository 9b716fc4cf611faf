//! What a write changed, in the terms of those who wait for it.

use serde::{Deserialize, Serialize};

use super::ServiceKey;
use crate::acl::{AccessorId, PolicyId, RoleId};
use crate::config_entry::EntryKey;
use crate::name::NodeName;

/// One thing that is different from before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Change {
    /// An auth method or a binding rule.
    AclLogins,
    /// An ACL policy.
    AclPolicy(PolicyId),
    /// An ACL role.
    AclRole(RoleId),
    /// A token.
    AclToken(AccessorId),
    /// Some check, anywhere.
    Checks,
    /// Who the cluster is.
    Cluster,
    /// The mesh doors of a service: its sidecars and native instances, or their health.
    Connect(ServiceKey),
    /// A config entry: written or removed.
    Entry(EntryKey),
    /// A node, or anything on it.
    Node(NodeName),
    /// The list of nodes, or a record in it.
    Nodes,
    /// The roots.
    Roots,
    /// The instances of a service, or their health.
    Service(ServiceKey),
    /// The names of services, or their tags.
    ServiceList,
}
