//! Consensus: the only place that names openraft. What is agreed on is `core::state`'s affair.

mod archive;
mod barrier;
mod consensus;
mod fold;
mod gauge;
#[cfg(test)]
mod large_state;
mod leadership;
mod log;
mod network;
mod runtime;
mod service;
mod snapshot;
mod state_machine;
mod storage;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
mod types;
#[cfg(feature = "sim")]
pub mod untrusted;

pub(crate) use archive::Archive;
pub use archive::{SnapshotInfo, inspect_snapshot};
pub(crate) use consensus::{Consensus, ConsensusOptions, Standing};
pub use consensus::{ConsensusError, ProposeError};
pub(crate) use service::RaftService;
pub use snapshot::NotASnapshot;
pub(crate) use state_machine::Audience;
pub use types::Member;
pub(crate) use types::NodeId;
