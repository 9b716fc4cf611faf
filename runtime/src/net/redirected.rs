//! Connections that the host's packet filter has redirected: where they were to go.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use socket2::SockRef;
use tokio::net::TcpStream;

/// Returns where a connection was to go before the packet filter redirected it.
///
/// **Source**: Linux: `SO_ORIGINAL_DST` of ip(7), `IP6T_SO_ORIGINAL_DST`.
///
/// # Errors
/// Those of the operating system; `NotFound` for a connection that was not redirected.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let original = match stream.local_addr()? {
        SocketAddr::V4(_) => socket.original_dst_v4()?,
        SocketAddr::V6(_) => socket.original_dst_v6()?,
    };
    original.as_socket().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Whether this host has a loopback address of IPv6.
pub fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}
