//! Connections: plain ones to local applications, authenticated ones to other proxies.
//!
//! What is said over them is `http`'s and `tcp`'s affair, where they lead `outbound`'s and
//! `inbound`'s.

mod buffer;
mod deadline;
mod endpoint;
mod mux;
mod preamble;
pub(crate) mod quic;
mod socket;
mod wire;

use std::io;

use weft_core::traffic::mux::ResetCode;

pub(crate) use buffer::Buffer;
pub(crate) use deadline::Timer;
pub(crate) use endpoint::{Endpoint, Lease};
pub(crate) use mux::{Host, MuxPool, MuxStream, serve};
pub(crate) use preamble::{preamble, write_header};
pub(crate) use socket::Socket;
pub(crate) use wire::{Beside, ClientTls, HopWire, ServerTls, Wire};

/// What it means to who reads or writes a stream that the peer breaks it off.
fn meaning(code: ResetCode) -> io::ErrorKind {
    match code {
        ResetCode::Broken => io::ErrorKind::ConnectionReset,
        ResetCode::Refused => io::ErrorKind::ConnectionRefused,
        ResetCode::WrongKind => io::ErrorKind::Unsupported,
    }
}
