//! Weft's data plane: the way out and the way in of one service (a sidecar), or of each service
//! of a host (a host proxy).
//!
//! The corridor of a request: `listen` accepts; `outbound` goes `accept` → `protocol` → `route`
//! → `endpoint` → `connect`; the other proxy's `inbound` goes `accept` → `authorize` →
//! `forward`. All choices are pure functions of `weft_core::traffic`; what to do comes from
//! `control` as whole snapshots. Everything on the way of a request belongs to one thread.

mod admin;
pub mod config;
mod control;
mod handover;
mod http;
mod identity;
mod inbound;
mod limits;
mod listen;
mod observe;
mod outbound;
mod proxy;
mod tcp;
mod tenant;
mod transport;
mod udp;
pub mod untrusted;
mod workload;

pub use handover::HandOver;
pub use limits::{Limits, LimitsSection};
pub use observe::Dialect;
pub use proxy::{Proxy, ProxyHandle, StartError};
