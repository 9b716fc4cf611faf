//! What can be asked of the replicated state, and what it answers. Everything that decides the
//! outcome is inside: time and randomness are data.

use serde::{Deserialize, Serialize};

use super::acl::{AclCommand, AclRefusal};
use super::intention::IntentionCommand;
use super::liveness::NodeLiveness;
use super::prepared_query::QueryCommand;
use super::{
    NodeCoordinate, OperatorCommand, RestoreCommand, RolloutCommand, SessionCommand, TxnError,
    TxnOp, TxnResult, UserEvent,
};
use crate::ca::rotation::CaChange;
use crate::ca::{CaRoot, CaSettings, JoinTokenRecord, MemberRole};
use crate::catalog::{CatalogDeregistration, CatalogRegistration};
use crate::config_entry::{ConfigEntry, EntryKey, IntentionSource, SourceName};
use crate::index::Index;
use crate::kv::KvCommand;
use crate::name::{CheckId, Datacenter, InstanceId, NodeName, ServiceName, TrustDomain};

/// Who the cluster is; written once, when it is born.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// A UUID; every data directory belongs to one cluster.
    pub id: String,
    /// The trust domain of its certificates.
    pub trust_domain: TrustDomain,
    /// The datacenter that it serves.
    pub datacenter: Datacenter,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Writes tokens, policies or roles.
    Acl(AclCommand),
    /// Makes a known root the one under which is signed.
    ActivateCaRoot {
        /// The root's fingerprint.
        fingerprint: String,
    },
    /// Changes how the CA signs, and perhaps the root.
    ChangeCa(CaChange),
    /// Says where a node is.
    Coordinate(NodeCoordinate),
    /// Makes a join token redeemable.
    CreateJoinToken(JoinTokenRecord),
    /// Removes a config entry.
    DeleteEntry {
        /// The entry.
        key: EntryKey,
        /// The modify index that it must have; `None` removes it whatever it is.
        cas: Option<Index>,
    },
    /// Removes one source from the intentions of a destination.
    DeleteIntention {
        /// The service called, or `*`.
        destination: SourceName,
        /// The caller.
        source: SourceName,
    },
    /// Removes services, checks or a node.
    Deregister(CatalogDeregistration),
    /// Removes a node, or services and checks of one that no agent speaks for. A whole node may
    /// go in any case: that is how one is rid of a dead host, and a living agent writes it anew.
    DeregisterExternal(CatalogDeregistration),
    /// Fires a user event; its place among them is ignored.
    Event(UserEvent),
    /// Says who the cluster is.
    InitCluster(ClusterRecord),
    /// Says whether the agent of a host lives, by the host's lease.
    SetLiveness(NodeLiveness),
    /// A write of a single intention as such.
    Intention(IntentionCommand),
    /// Writes the key/value store.
    Kv(KvCommand),
    /// A write of a prepared query.
    Query(QueryCommand),
    /// Says how far a rollout has come.
    Rollout(RolloutCommand),
    /// Sets what operators set.
    Operator(OperatorCommand),
    /// Removes the roots that are trusted no more, by the time of the command.
    PruneCaRoots,
    /// Uses a join token once.
    RedeemJoinToken {
        /// The SHA-256 of the secret shown, in lower-case hex.
        secret_sha256: String,
        /// The role asked for.
        role: MemberRole,
        /// The host that joins.
        node: NodeName,
        /// The SHA-256 of its certificate request, in lower-case hex.
        request_sha256: String,
    },
    /// Writes a node with services and checks.
    Register(CatalogRegistration),
    /// Writes a node that no agent speaks for, with services and checks.
    RegisterExternal(CatalogRegistration),
    /// Puts a saved snapshot in the place of the state, step by step.
    Restore(RestoreCommand),
    /// Withdraws a join token.
    RevokeJoinToken {
        /// Its id, as [`JoinTokenRecord::id`] tells it.
        id: String,
    },
    /// Says how the CA signs.
    SetCaSettings(CaSettings),
    /// Makes or ends a session.
    Session(SessionCommand),
    /// Adds or replaces a root; an active one takes the place of the one active so far.
    SetCaRoot(CaRoot),
    /// Does several things at once, or none.
    Txn(Vec<TxnOp>),
    /// Creates or replaces a config entry.
    UpsertEntry {
        /// The entry, normalised; its indexes are ignored.
        entry: ConfigEntry,
        /// The modify index that the present entry must have, 0 for none; `None` writes
        /// whatever is there.
        cas: Option<Index>,
    },
    /// Adds or replaces one source in the intentions of a destination.
    UpsertIntention {
        /// The service called, or `*`.
        destination: SourceName,
        /// The caller with what it may do.
        source: IntentionSource,
    },
}

/// What a write came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// What it was to hold for did not: the compare-and-set index, or the lock; nothing changed.
    CasMismatch,
    /// It holds now.
    Done {
        /// Whether anything is different from before.
        changed: bool,
    },
    /// It was refused; nothing changed.
    Refused(Refusal),
    /// The transaction was carried out; what its operations tell, in their order.
    Txn(Vec<TxnResult>),
    /// The transaction was not carried out.
    TxnFailed(Vec<TxnError>),
}

/// Why a write was refused. The caller is at fault in every case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// ACLs refuse it.
    #[error(transparent)]
    Acl(#[from] AclRefusal),
    /// A chain would no longer compile.
    #[error("the discovery chain of {service:?} would break: {reason}")]
    BrokenChain {
        /// The service whose chain breaks.
        service: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The cluster has another identity already.
    #[error("this cluster is {id}; it cannot become another one")]
    ClusterExists {
        /// Its id.
        id: String,
    },
    /// An intention of the same two exists already.
    #[error("duplicate intention found: {from} → {to} has the id {id:?}")]
    DuplicateIntention {
        /// The caller.
        from: String,
        /// The service called.
        to: String,
        /// Its id; empty when it was written without one.
        id: String,
    },
    /// An entry is not valid on its own.
    #[error("{0}")]
    InvalidEntry(String),
    /// A prepared query is not valid on its own.
    #[error("{0}")]
    InvalidQuery(String),
    /// A lock is asked for in the name of a session that is not there.
    #[error("invalid session {0:?}")]
    InvalidSession(String),
    /// The token has been redeemed as often as it may be.
    #[error("the join token has been used up; ask for a new one")]
    JoinTokenSpent,
    /// The token's time is over.
    #[error("the join token has expired; ask for a new one")]
    JoinTokenExpired,
    /// The token is for another host.
    #[error("the join token is for the node {granted:?}, not {asked:?}")]
    JoinTokenNode {
        /// The node that may use it.
        granted: NodeName,
        /// The node that asked.
        asked: NodeName,
    },
    /// The token was withdrawn.
    #[error("the join token has been revoked; ask for a new one")]
    JoinTokenRevoked,
    /// The token is good for another role.
    #[error("the join token is for the role {granted}, not {asked}")]
    JoinTokenRole {
        /// The role of the token.
        granted: MemberRole,
        /// The role asked for.
        asked: MemberRole,
    },
    /// No such token exists.
    #[error("the join token is not known to this cluster")]
    JoinTokenUnknown,
    /// A field is larger than its bound.
    #[error("{field}: {length} is more than the {limit} allowed")]
    Limit {
        /// The field.
        field: String,
        /// What was given.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A host with the same id is known under another name.
    #[error(
        "node id {id} belongs to node {holder:?}; give each host a data directory of its own, \
         or deregister {holder:?} first"
    )]
    NodeIdTaken {
        /// The id.
        id: String,
        /// Who has it.
        holder: NodeName,
    },
    /// Another query has the name.
    #[error("name {name:?} aliases an existing query name or ID")]
    QueryNameTaken {
        /// The name.
        name: String,
    },
    /// No intention has that id.
    #[error("Intention not found: {id:?}")]
    UnknownIntention {
        /// The id.
        id: String,
    },
    /// No join token has that id.
    #[error("no join token has the id {id:?}")]
    UnknownJoinToken {
        /// The id.
        id: String,
    },
    /// No query has that id.
    #[error("Query not found")]
    UnknownQuery {
        /// The id.
        id: String,
    },
    /// A service is not rolled out.
    #[error("no rollout is written for {service:?}; write an entry of the kind \"rollout\" first")]
    UnknownRollout {
        /// The service.
        service: ServiceName,
    },
    /// No root has that fingerprint.
    #[error("no root certificate has the fingerprint {0}")]
    UnknownRoot(String),
    /// An agent speaks for the node, and alone writes its records.
    #[error(
        "node {node:?} has an agent of its own, which keeps its records; register there, with \
         /v1/agent/service/register"
    )]
    NotExternal {
        /// The node.
        node: NodeName,
    },
    /// A snapshot is not put in force; nothing was changed.
    #[error("the snapshot is not restored: {reason}")]
    Restore {
        /// Why not.
        reason: String,
    },
    /// A rollout does not take a signal where it stands.
    #[error("the rollout of {service:?} refuses: {reason}")]
    RolloutSignal {
        /// The service.
        service: ServiceName,
        /// Why.
        reason: String,
    },
    /// A check that a session would depend on is critical.
    #[error("Check '{0}' is in critical state")]
    SessionCheckCritical(CheckId),
    /// A check that a session would depend on is not there.
    #[error("Missing check '{0}' registration")]
    SessionCheckMissing(CheckId),
    /// The node of a session is not there.
    #[error("Missing node registration")]
    SessionNodeMissing,
    /// A check speaks of an instance that its node does not have.
    #[error("check {check:?} speaks of service {service:?}, which node {node:?} does not have")]
    UnknownService {
        /// The check.
        check: String,
        /// The instance that it names.
        service: InstanceId,
        /// The node.
        node: NodeName,
    },
}
