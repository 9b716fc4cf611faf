//! The replicated state: one persistent value, changed by commands alone.
//!
//! `apply` is the same on every server: no clock, no dice, no disk. A clone costs a few pointers,
//! so readers and snapshots keep one while writes go on. Waiting for a change is `watch`'s and
//! the server's affair.

mod acl;
mod apply;
mod catalog;
mod chain;
mod change;
mod command;
mod coordinate;
mod entry;
mod event;
mod graveyard;
mod intention;
mod join_token;
mod key;
mod kv;
mod liveness;
mod member;
mod names;
mod operator;
mod prepared_query;
mod query;
mod rebase;
mod recent;
mod restore;
mod rollout;
mod session;
mod snapshot;
mod txn;
mod usage;
mod virtual_ip;

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

pub use acl::{
    AclCommand, AclRecords, AclRefusal, AclState, Expiry, RoleDraft, TokenDraft, Writing,
};
pub use change::Change;
pub use command::{Answer, ClusterRecord, Command, Refusal};
pub use coordinate::{Coordinate, CoordinateTable, NodeCoordinate};
pub use event::{EventTable, UserEvent};
pub use intention::IntentionCommand;
pub use key::ServiceKey;
pub use kv::KvTable;
pub use liveness::NodeLiveness;
pub use operator::OperatorCommand;
pub use prepared_query::QueryCommand;
pub use query::ServiceTags;
pub use recent::{Answered, GroupId, Recalled};
pub use restore::RestoreCommand;
pub use rollout::{RolloutAct, RolloutCommand, RolloutSignal};
pub use session::{SessionCommand, SessionTable};
pub use snapshot::StateSnapshot;
pub use txn::{KvLook, TxnError, TxnOp, TxnResult, TxnVerb};
pub use usage::Usage;

use crate::ca::{CaRoot, CaSettings, JoinTokenRecord};
use crate::catalog::{HealthCheck, Node, Service};
use crate::config_entry::{ConfigEntry, EntryKey, EntryKind};
use crate::index::Index;
use crate::name::{CheckId, InstanceId};
use key::NodeKey;

/// Everything that the servers of a cluster agree on.
///
/// **Shape**: the maps from names to instances are derived from the nodes' rows and agree with
/// them after every [`State::apply`].
#[derive(Debug, Default, Clone)]
pub struct State {
    /// The last index applied.
    index: Index,
    acl: AclState,
    cluster: Option<ClusterRecord>,
    /// By name in lower case: node names are unique without regard to case.
    nodes: OrdMap<NodeKey, NodeRow>,
    /// Whose an id is, so that a copied data directory is noticed without a look at every node.
    node_ids: OrdMap<Arc<str>, NodeKey>,
    /// Where the instances of a service are.
    instances: OrdMap<ServiceKey, OrdSet<InstanceKey>>,
    names: names::ServiceNames,
    /// Where the sidecars and native instances are that speak for a service.
    connect: OrdMap<ServiceKey, OrdSet<InstanceKey>>,
    /// Which address stands for which service.
    virtual_ips: virtual_ip::VirtualIps,
    entries: OrdMap<EntryKey, Arc<ConfigEntry>>,
    queries: prepared_query::Queries,
    /// How the CA signs, `None` as servers are configured.
    ca_settings: Option<CaSettings>,
    roots: OrdMap<String, Arc<CaRoot>>,
    /// The fingerprints of those that went when their time was over, the last ones.
    roots_retired: Arc<Vec<String>>,
    join_tokens: OrdMap<String, JoinTokenRecord>,
    coordinates: CoordinateTable,
    events: EventTable,
    kv: KvTable,
    sessions: SessionTable,
    operator: operator::OperatorState,
    recent: recent::Recent,
    rows: IndexRows,
    /// When a snapshot was last put in force.
    restored_at: Index,
    /// What has come of a snapshot that is to be.
    restoring: Option<Arc<restore::Restoring>>,
}

/// Where an instance is found.
type InstanceKey = (NodeKey, InstanceId);

/// A node with all that is on it.
#[derive(Debug, Clone)]
struct NodeRow {
    node: Arc<Node>,
    services: OrdMap<InstanceId, Arc<Service>>,
    checks: OrdMap<CheckId, Arc<HealthCheck>>,
}

/// When each part of the state last changed, in the grain in which clients wait.
///
/// **Source**: Consul: one row per service, and one for the last disappearance of any service,
/// so that a wait for a service that does not exist has an index to wait on.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct IndexRows {
    #[serde(default, deserialize_with = "key::newest_by_service")]
    services: OrdMap<ServiceKey, Index>,
    #[serde(default)]
    service_extinction: Index,
    #[serde(default, deserialize_with = "key::newest_by_service")]
    connect: OrdMap<ServiceKey, Index>,
    #[serde(default)]
    connect_extinction: Index,
    #[serde(default)]
    service_list: Index,
    #[serde(default)]
    nodes: Index,
    #[serde(default)]
    checks: Index,
    #[serde(default)]
    entries: OrdMap<EntryKind, Index>,
    #[serde(default)]
    queries: Index,
    #[serde(default)]
    roots: Index,
}
