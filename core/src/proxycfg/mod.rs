//! What a local proxy needs to work, put together from what the agent watches.

mod snapshot;

pub use snapshot::{Endpoint, InboundConfig, ProxySnapshot, UpstreamConfig};
