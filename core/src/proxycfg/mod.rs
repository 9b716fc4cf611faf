//! What a local proxy needs to work, put together from what the agent watches.
//!
//! [`Assembler`] says what to watch, takes what comes, and gives complete [`ProxySnapshot`]s.
//! Subscriptions, and the way to the proxy, are the agent's.

mod assembler;
mod calls;
mod captured;
mod check_doors;
mod doors;
mod exposed;
mod snapshot;
mod watch_set;

pub use crate::chain::Endpoint;
pub use assembler::{Assembler, Output, Problem, Site, Subject};
pub use check_doors::{CheckDoor, Exposure, assign_ports};
pub use doors::InvalidSidecar;
pub use snapshot::{
    CapturedConfig, ExposedListener, ExposedRoute, ExtAuthz, InboundConfig, JwtKeys, ProxySnapshot,
    UpstreamConfig,
};
pub use watch_set::{Update, Watch};
