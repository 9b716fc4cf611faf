//! Why consensus does not do what it is asked.

use std::path::PathBuf;

use openraft::error::{ClientWriteError, RaftError};
use serde::{Deserialize, Serialize};

use super::log::LogDamage;
use super::snapshot::SnapshotDamage;
use super::types::{Member, NodeId};

/// States why a write or a confirmed read was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ProposeError {
    /// The leader's disk has less room than is kept in reserve.
    #[error(
        "the leader's disk is nearly full (less than {reserve} bytes free): the servers take no \
         writes until there is room in its data directory"
    )]
    DiskFull {
        /// Bytes kept in reserve.
        reserve: u64,
    },
    /// Another server leads, or none does.
    #[error("No cluster leader")]
    NoLeader(Option<Member>),
    /// The leader cannot reach a majority.
    #[error("No cluster leader: the one that leads cannot reach a majority of the servers")]
    NoQuorum,
    /// Consensus has stopped, by order or because its storage failed.
    #[error("this server has stopped taking part in consensus")]
    Stopped,
    /// The log of this server failed.
    #[error(
        "this server has stopped taking part in consensus, as its log failed: {reason}; mend the \
         disk and restart it"
    )]
    StorageFailed {
        /// What failed.
        reason: String,
    },
    /// The command does not fit into an entry.
    #[error("the request takes {bytes} bytes, more than one replicated entry may have")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The leader did not answer in time; the write may or may not have happened.
    #[error("the leader did not answer: {0}")]
    Unanswered(String),
}

impl From<RaftError<NodeId, ClientWriteError<NodeId, Member>>> for ProposeError {
    fn from(error: RaftError<NodeId, ClientWriteError<NodeId, Member>>) -> Self {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
                Self::NoLeader(to.leader_node)
            }
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
                Self::Unanswered(error.to_string())
            }
            RaftError::Fatal(_) => Self::Stopped,
        }
    }
}

/// States why the members of the cluster were not changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MembersError {
    /// Consensus could not do it.
    #[error(transparent)]
    Consensus(#[from] ProposeError),
    /// The change would leave the cluster without a leader.
    #[error("{0}")]
    Endangers(String),
    /// Another server has the name and takes part.
    #[error(
        "a server named {name:?} takes part already; give each server a name of its own, or \
         remove that one first"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Leadership did not go where it was to go.
    #[error("leadership was not transferred: {0}")]
    NotTransferred(String),
    /// No such server.
    #[error("{what} was not found in the Raft configuration")]
    Unknown {
        /// What was asked for.
        what: String,
    },
}

/// States why consensus did not start.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogDamage),
    /// openraft refused.
    #[error("consensus cannot start: {0}")]
    Refused(String),
    /// The file that says who is left cannot be followed.
    #[error("cannot recover by {path:?}: {reason}")]
    Recovery {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The newest snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotDamage),
}
