//! The decoders of bytes from outside that only servers have, for fuzzing.

pub use crate::acl::untrusted::login;
pub use crate::raft::untrusted::{raft, snapshot};
