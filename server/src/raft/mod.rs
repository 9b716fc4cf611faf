//! Consensus: the only place that names openraft. What is agreed on is `core::state`'s affair.

mod archive;
mod attendance;
mod call;
mod consensus;
mod contact;
mod courier;
mod election;
mod entries;
mod error;
mod flight;
mod fold;
mod gauge;
#[cfg(test)]
mod large_state;
mod leadership;
mod lease;
mod log;
mod long_append;
mod measured;
mod membership;
mod network;
mod reads;
mod recover;
mod renewal;
mod restart;
mod runtime;
mod service;
mod snapshot;
mod state_machine;
mod storage;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
mod tidings;
mod transfer;
mod types;
#[cfg(feature = "sim")]
pub(crate) mod untrusted;

pub(crate) use archive::{Archive, read_snapshot};
pub use archive::{SnapshotInfo, inspect_snapshot};
pub(crate) use consensus::{Consensus, ConsensusOptions, Standing};
pub use error::{ConsensusError, MembersError, ProposeError};
pub(crate) use fold::LEADERLESS_HOLD;
pub(crate) use membership::{Peer, Sighting};
pub(crate) use service::RaftService;
pub use snapshot::NotASnapshot;
pub(crate) use state_machine::Audience;
pub use types::Member;
pub(crate) use types::NodeId;
