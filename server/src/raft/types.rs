//! What consensus is made of here: the entry, the answer, the member.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_core::state::{Answered, Command, GroupId};
use weft_core::time::Timestamp;
use weft_proto::encoded::Encoded;

use super::runtime::Runtime;
use super::snapshot::SnapshotData;

/// Names one server for ever: a random number, kept in its data directory. A server that lost
/// its directory comes back under a new one, as it no longer knows its vote.
pub(crate) type NodeId = u64;

/// Commands that one server gathered: carried out in order, answered together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Its name, by which a second copy is known.
    pub(crate) id: GroupId,
    /// The commands, each encoded where it was gathered: a write is kept at every server and
    /// sent to each, and is the same bytes everywhere.
    pub(crate) commands: Arc<Vec<Encoded<Command>>>,
}

impl Group {
    /// Returns the bytes that its commands take in an entry.
    pub(crate) fn bytes(&self) -> usize {
        self.commands.iter().map(Encoded::size).sum()
    }
}

/// One replicated entry: groups that waited together, applied in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// The leader's wall clock when it proposed the entry.
    pub(crate) now: Timestamp,
    /// The groups.
    pub(crate) groups: Vec<Group>,
}

impl std::fmt::Display for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} groups", self.groups.len())
    }
}

/// What came of a batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// What came of each group, in order; `None` for a late copy that was not carried out.
    pub(crate) groups: Vec<Option<Arc<Answered>>>,
}

/// A server as the others know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its node name, which is also in its certificate.
    pub name: String,
    /// `host:port` of its RPC door.
    pub address: String,
    /// Whether it only reads: it has no vote, and never gets one.
    #[serde(default)]
    pub is_read_replica: bool,
}

openraft::declare_raft_types!(
    /// The types of this server's consensus.
    pub(crate) TypeConfig:
        D = Batch,
        R = Applied,
        NodeId = NodeId,
        Node = Member,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = SnapshotData,
        AsyncRuntime = Runtime,
);

pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<NodeId>;
/// All that openraft tells of itself; it changes several times with each entry.
pub(crate) type Metrics = openraft::RaftMetrics<NodeId, Member>;
/// The part of it that says who leads whom; it changes with elections and members alone, so that
/// waiting for it costs nothing in between.
pub(crate) type Roles = openraft::metrics::RaftServerMetrics<NodeId, Member>;
pub(crate) type Membership = openraft::StoredMembership<NodeId, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, Member>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type Raft = openraft::Raft<TypeConfig>;
