//! What a server that starts again must not take up where it left off.

use openraft::storage::RaftLogStorage;

use super::log::Log;
use super::types::{NodeId, StorageError, Vote};

/// A leader that restarts asks to be elected again. openraft would let it lead on in its old term,
/// in which it has no entry after the restart: it knew then which of its entries are committed
/// only by a mark that may be old, and answered confirmed reads from a state that lacks
/// acknowledged writes.
///
/// **Source**: Spec: Raft §8 (a leader commits an entry of its own before it serves reads).
pub(super) async fn forget_leadership(mut log: Log, id: NodeId) -> Result<(), StorageError> {
    match log.read_vote().await? {
        Some(vote) if vote.committed && vote.leader_id.node_id == id => {
            log.save_vote(&Vote { committed: false, ..vote }).await
        }
        Some(_) | None => Ok(()),
    }
}
