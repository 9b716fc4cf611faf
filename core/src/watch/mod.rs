//! What can be waited for, and which of it a change touches. Who waits, and how, is the
//! server's affair. What has to be told to one who has an older list is in `delta`.

mod delta;

pub use delta::{Delta, InstancePlace, Keyed, Misfit, NodePlace};

mod prefix;

pub use prefix::Prefixes;

use crate::acl::{AccessorId, PolicyId, RoleId};
use crate::config_entry::{EntryKey, EntryKind};
use crate::kv::KvKey;
use crate::name::{NodeName, ServiceName};
use crate::session::SessionId;
use crate::state::{Change, ServiceKey};

/// A part of the state that someone may wait for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Any auth method or binding rule.
    AclLogins,
    /// Any ACL policy.
    AclPolicies,
    /// One ACL policy.
    AclPolicy(PolicyId),
    /// One ACL role.
    AclRole(RoleId),
    /// Any ACL role.
    AclRoles,
    /// One token.
    AclToken(AccessorId),
    /// Any token.
    AclTokens,
    /// Any check.
    Checks,
    /// Who the cluster is.
    Cluster,
    /// The mesh doors of a service.
    Connect(ServiceKey),
    /// The coordinates of nodes.
    Coordinates,
    /// One config entry, also while it is absent.
    Entry(EntryKey),
    /// Every entry of a kind.
    EntryKind(EntryKind),
    /// User events.
    Events,
    /// One entry of the key/value store, also while it is absent.
    Key(KvKey),
    /// Every entry of the key/value store whose key starts with this.
    KeyPrefix(KvKey),
    /// A node with all that is on it; by name in lower case.
    Node(Box<str>),
    /// The list of nodes.
    Nodes,
    /// The prepared queries.
    Queries,
    /// What operators set.
    Operator,
    /// The roots, or how is signed under them.
    Roots,
    /// The instances of a service.
    Service(ServiceKey),
    /// The names and tags of services.
    ServiceList,
    /// One session, also while it is absent.
    Session(SessionId),
    /// Every session.
    Sessions,
    /// The sessions of a node; by name in lower case.
    SessionsOfNode(Box<str>),
}

impl Topic {
    /// Returns the topic of a node; names are compared without regard to case.
    pub fn node(name: &NodeName) -> Self {
        Self::Node(name.as_str().to_ascii_lowercase().into())
    }

    /// Returns the topic of a node's sessions; names are compared without regard to case.
    pub fn sessions_of(name: &NodeName) -> Self {
        Self::SessionsOfNode(name.as_str().to_ascii_lowercase().into())
    }

    /// Returns the topic of a service's instances, in any spelling of its name.
    pub fn service(name: &ServiceName) -> Self {
        Self::Service(ServiceKey::from(name))
    }

    /// Returns the topic of a service's mesh doors, in any spelling of its name.
    pub fn connect(name: &ServiceName) -> Self {
        Self::Connect(ServiceKey::from(name))
    }
}

/// Returns the topics that a change touches, except those of prefixes: there may be as many as a
/// key has bytes, so [`Prefixes`] finds those that are waited for.
pub fn touched(change: &Change) -> Vec<Topic> {
    match change {
        Change::AclLogins => vec![Topic::AclLogins],
        Change::AclPolicy(id) => vec![Topic::AclPolicies, Topic::AclPolicy(id.clone())],
        Change::AclRole(id) => vec![Topic::AclRoles, Topic::AclRole(id.clone())],
        Change::AclToken(id) => vec![Topic::AclTokens, Topic::AclToken(id.clone())],
        Change::Checks => vec![Topic::Checks],
        Change::Cluster => vec![Topic::Cluster],
        Change::Connect(name) => vec![Topic::Connect(name.clone())],
        Change::Coordinates => vec![Topic::Coordinates],
        Change::Entry(key) => vec![Topic::EntryKind(key.kind), Topic::Entry(key.clone())],
        Change::Events => vec![Topic::Events],
        Change::Key(key) => vec![Topic::Key(key.clone())],
        Change::KeyTree(_) => Vec::new(),
        Change::Node(name) => vec![Topic::node(name)],
        Change::Nodes => vec![Topic::Nodes],
        Change::Queries => vec![Topic::Queries],
        Change::Operator => vec![Topic::Operator],
        Change::Roots => vec![Topic::Roots],
        Change::Service(name) => vec![Topic::Service(name.clone())],
        Change::ServiceList => vec![Topic::ServiceList],
        Change::Session { id, node } => {
            vec![Topic::Session(*id), Topic::Sessions, Topic::sessions_of(node)]
        }
    }
}
