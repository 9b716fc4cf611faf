//! What servers ask each other beside openraft's own messages.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_core::autopilot::ClusterHealth;
use weft_core::index::Index;
use weft_core::lease::{Heard, Presence};
use weft_core::rollout::RolloutReport;
use weft_core::session::SessionId;
use weft_core::state::Answered;

use super::error::{MembersError, ProposeError};
use super::types::{Group, LogId, Member, NodeId, Vote};

/// A question to another server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Call {
    /// To the leader: who has a stream to this server?
    Attend(NodeId, Presence),
    /// To whom the leader hands over: stand for election now.
    Elect,
    /// To the leader: take this server in.
    Enter(NodeId, Member),
    /// To the leader: how are the servers?
    Health,
    /// To the leader: what proxies have measured of versions that are rolled out.
    Measured(Vec<RolloutReport>),
    /// Would this server get a vote? Asked before any election, so that a server that only
    /// lost touch does not depose a leader whom the others hear well.
    MayElect { id: NodeId, last: Option<LogId> },
    /// To the leader: carry out a group of commands.
    Propose(Group),
    /// To the leader: from which index on is a read as fresh as this moment? Its lease may be
    /// enough for the answer.
    ReadIndex { by_lease: bool },
    /// To the leader: a server is found elsewhere now.
    Readdress(NodeId, Member),
    /// From a leader that hands over: vote for the server named here, although the leader was
    /// heard a moment ago.
    Release(Vote),
    /// To the leader: remove a server.
    Remove(NodeId),
    /// To the leader: give a session its whole time again.
    Renew(SessionId),
    /// How is this server?
    Report,
    /// To the leader: hand over, to this server or to the best one.
    Transfer(Option<NodeId>),
}

/// An answer of another server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    Answered(Arc<Answered>),
    Ballot(Ballot),
    Done,
    Health(ClusterHealth),
    Heard(Heard),
    ReadIndex(Index),
    /// Whether the session goes on.
    Renewed(bool),
    Report(Report),
}

/// Whether a server would get a vote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ballot {
    pub(super) is_granted: bool,
    /// The answer is a leader's, and the server that asked is no member.
    pub(super) is_removed: bool,
}

/// How a server is, by its own account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The term that it is in.
    pub(crate) term: u64,
    /// The last index in its log.
    pub(crate) last_index: u64,
    /// The version that it runs.
    #[serde(default)]
    pub(crate) version: String,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum CallError {
    Members(MembersError),
    Propose(ProposeError),
}

impl From<MembersError> for CallError {
    fn from(error: MembersError) -> Self {
        match error {
            MembersError::Consensus(error) => Self::Propose(error),
            error => Self::Members(error),
        }
    }
}

impl From<ProposeError> for CallError {
    fn from(error: ProposeError) -> Self {
        Self::Propose(error)
    }
}

impl From<CallError> for MembersError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Members(error) => error,
            CallError::Propose(error) => Self::Consensus(error),
        }
    }
}

impl From<CallError> for ProposeError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Members(error) => Self::Unanswered(error.to_string()),
            CallError::Propose(error) => error,
        }
    }
}
