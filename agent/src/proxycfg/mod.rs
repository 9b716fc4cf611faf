//! What local proxies work by: one assembler each, fed from views and leaves.
//!
//! `registry` starts a `driver` for each registered sidecar and knows which proxies are
//! connected. What a proxy is told is decided by `core::proxycfg`; the way to it is
//! `grpc::config_stream`.

mod driver;
mod flows;
mod proxy;
mod registry;
pub(crate) mod rollouts;
mod taps;

pub(crate) use flows::{FlowFollower, FlowLook};
pub(crate) use proxy::Connected;
pub use proxy::{Plaintext, PlaintextFrom, Program, Proxy, ProxyStatus, Refusal};
pub use registry::{Proxies, Sources};
pub(crate) use taps::{TapStream, TapWish, Told};
