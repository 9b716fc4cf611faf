//! What a local proxy needs to work, put together from what the agent watches.

mod snapshot;

pub use crate::chain::Endpoint;
pub use snapshot::{InboundConfig, ProxySnapshot, UpstreamConfig};
