//! UDP between two proxies: who has which session, and how datagrams stand on a stream. Sockets and
//! connections are the proxy's (`proxy/src/udp`).
//!
//! The wire form is told in `docs/udp.md`.

mod frame;
mod sessions;

pub use frame::{
    DATAGRAM_BYTES_MAX, InvalidLength, LEAVE, Piece, Reader, length_before, read_varint,
    write_varint,
};
pub use sessions::{Admission, SessionLimits, Sessions};
