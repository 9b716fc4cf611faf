//! The outside world, for every process of Weft: time, tasks, sockets, TLS, HTTP, telemetry.
//!
//! A module enters when two of server, agent and proxy need it and its name is a concept. No
//! rules of the mesh here. Each outside thing has one door: sockets in `net`, spawning in
//! `task`, clocks in `clock`, randomness in `entropy`, rustls configurations in `tls`; the log's
//! files go through `disk`.

pub mod backoff;
pub mod clock;
pub mod cores;
pub mod descriptors;
pub mod digest;
pub mod disk;
pub mod drain;
pub mod entropy;
pub mod http;
pub mod jwt;
mod knob;
pub mod net;
pub mod rpc;
pub mod signal;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod tls;
#[cfg(feature = "sim")]
pub mod world;

pub use knob::knob;
