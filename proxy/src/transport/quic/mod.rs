//! QUIC between proxies: one connection for many streams, each of them a TCP connection or requests of
//! HTTP/1, as on the shared connections of [`super::mux`].
//!
//! `settings` says how it is spoken, `dock` opens sockets so that each worker gets the datagrams of its
//! connections, `stream` is what the rest of the proxy sees. Called: `called`. Calling: `pool` finds or
//! opens a connection, `link` is one. What a path bears is judged by [`weft_core::traffic::path`].

mod called;
mod datagrams;
mod dock;
mod link;
mod pool;
mod settings;
mod stream;

use quinn::VarInt;
use weft_core::traffic::mux::ResetCode;

pub(crate) use called::{Greeted, Knock, serve};
pub(crate) use dock::{Berth, Caller, Docks};
pub(crate) use link::{Company, Dialled};
pub(crate) use pool::{Dial, QuicPool};
pub(crate) use settings::{CallerConfig, ServerConfig};
pub(crate) use stream::QuicStream;

/// What both sides say in ALPN.
pub(crate) const ALPN: &str = "weft-quic/1";
/// The first byte of a stream that only asks whether anybody is there; else it is that of
/// [`weft_core::traffic::mux::StreamKind`].
const CHECK: u8 = 0;
/// Ends a connection of which nothing is left.
const DONE: VarInt = VarInt::from_u32(0);
/// Ends a connection whose other end may not be there any more, or broke the rules.
const CUT: VarInt = VarInt::from_u32(1);

fn code(why: ResetCode) -> VarInt {
    VarInt::from_u32(why.number())
}

/// What a code of the peer's means to who reads or writes.
fn meaning(code: VarInt) -> std::io::ErrorKind {
    super::meaning(ResetCode::of(u32::try_from(code.into_inner()).unwrap_or(u32::MAX)))
}
