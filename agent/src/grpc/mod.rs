//! gRPC at its border: calls to servers, and the doors for proxies and processes of this host.
//!
//! What is said is decided further in; here it is carried in domain types.

mod attested;
mod calls;
mod config_stream;
mod health;
mod proxy_callers;
mod workload;

pub use calls::{CallError, Calls};
pub(crate) use calls::{WatchEvents, WatchRequests};
pub use config_stream::{ProxyDoorError, serve_proxies};
pub(crate) use health::ask_health;
pub use workload::{WorkloadDoorError, WorkloadSources, serve_workloads};
