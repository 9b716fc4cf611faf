//! What a write changed, in the terms of those who wait for it.

use serde::{Deserialize, Serialize};

use super::ServiceKey;
use crate::acl::{AccessorId, PolicyId, RoleId};
use crate::config_entry::EntryKey;
use crate::kv::KvKey;
use crate::name::NodeName;
use crate::session::SessionId;

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
    /// The coordinate of a node.
    Coordinates,
    /// A config entry: written or removed.
    Entry(EntryKey),
    /// User events: one was fired.
    Events,
    /// An entry of the key/value store: written, locked, freed or removed.
    Key(KvKey),
    /// Entries of the key/value store whose keys start with this, removed at once.
    KeyTree(KvKey),
    /// A node, or anything on it.
    Node(NodeName),
    /// The list of nodes, or a record in it.
    Nodes,
    /// The prepared queries.
    Queries,
    /// What operators set.
    Operator,
    /// The roots, or how is signed under them.
    Roots,
    /// The instances of a service, or their health.
    Service(ServiceKey),
    /// The names of services, or their tags.
    ServiceList,
    /// A session: made or ended.
    Session {
        /// The session.
        id: SessionId,
        /// Its node.
        node: NodeName,
    },
}
