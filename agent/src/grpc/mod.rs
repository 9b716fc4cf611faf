//! gRPC at its border: calls to servers, and the door for the proxies of this host.
//!
//! What is said is decided further in; here it is carried in domain types.

mod calls;
mod config_stream;
mod health;

pub use calls::{CallError, Calls};
pub(crate) use calls::{WatchEvents, WatchRequests};
pub use config_stream::{ProxyDoorError, serve_proxies};
pub(crate) use health::ask_health;
