//! Many streams on one connection between two proxies: the frames, who may send how much, and when
//! the connection ends. The bytes, sockets and TLS are the proxy's (`transport/mux`).
//!
//! The wire form is told in `docs/mux.md`.

mod frame;
mod machine;
mod stream;
mod violation;

pub use frame::{CONTROL_BYTES_MAX, DATA_BYTES_MAX, HEADER_BYTES};
pub use machine::{Event, Mux, Side, Unopened};
pub use stream::{ResetCode, StreamKind};
pub use violation::Violation;

/// What a client offers in ALPN, and a server takes, to speak this.
pub const ALPN: &str = "weft-mux/1";

#[cfg(test)]
mod tests;
