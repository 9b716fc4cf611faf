//! gRPC at its border: calls to servers, and the door for the proxies of this host.
//!
//! What is said is decided further in; here it is carried in domain types.

mod calls;

pub use calls::{CallError, Calls};
pub(crate) use calls::{WatchEvents, WatchRequests};
