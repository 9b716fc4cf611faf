//! Weft's control plane: the replicated catalog, intentions, configuration and CA.
//!
//! `start` wires the parts top to bottom. Writes go through `propose`, reads through `read`,
//! and both meet in `raft`, which drives `core::state`.

pub mod config;

mod acl;
mod ca;
mod door;
mod enter;
mod grpc;
mod http;
mod join;
mod keeper;
mod leader;
mod listing;
mod membership;
mod metrics;
mod presence;
mod propose;
mod raft;
mod read;
mod start;
#[cfg(feature = "sim")]
pub mod untrusted;
mod watch;

pub use acl::Secret;
pub use ca::{CaError, SealError, SignerError};
pub use join::JoinError;
pub use listing::{Values, list_snapshot};
pub use membership::MembershipError;
pub use propose::WriteError;
pub use raft::{
    ConsensusError, Member, MembersError, NotASnapshot, ProposeError, SnapshotInfo,
    inspect_snapshot,
};
pub use start::{Server, ServerHandle, StartError};
