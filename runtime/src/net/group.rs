//! UDP sockets on one address, one for each thread, and which of them the kernel gives a datagram
//! to: by what the datagram says, so that it stays the same when its sender changes its port.

use std::io;
use std::net::SocketAddr;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Protocol, Type};

use super::{Sharing, StdUdpSocket, named, open_socket};

/// What the kernel keeps of datagrams that nobody has taken yet; it may allow less.
///
/// **Units**: bytes. At 100,000 datagrams a second and 1,400 bytes each, 15 ms.
const BUFFER_BYTES: usize = 2 << 20;

/// Where in a datagram stands which of the sockets it is for: a number of two bytes, big-endian, of
/// which the remainder counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// In a datagram whose first bit is set.
    pub long_at: u32,
    /// In another.
    pub short_at: u32,
}

/// Opens `count` UDP sockets on an address that no other process has, and has the kernel choose
/// among them by what datagrams say. Where it does not take that (it is older than 4.5), there is one
/// socket.
///
/// **Shape**: in the order of the remainders; not empty unless `count` is 0.
///
/// # Errors
/// Those of the operating system, `AddrInUse` when there are others there; the message names the
/// address.
pub fn bind_udp_group(
    address: SocketAddr,
    count: usize,
    headers: Headers,
) -> io::Result<Vec<StdUdpSocket>> {
    let open = || {
        let socket = open_socket(address, Type::DGRAM, Protocol::UDP, Sharing::Alone)?;
        // Shared with others it would take part of theirs.
        socket.bind(&address.into())?;
        drop(socket);
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            let socket = open_socket(address, Type::DGRAM, Protocol::UDP, Sharing::Shared)?;
            enlarge(&socket);
            socket.bind(&address.into())?;
            sockets.push(StdUdpSocket::from(socket));
        }
        let number = u32::try_from(count).unwrap_or(u32::MAX);
        if count > 1 && sockets.first().is_some_and(|it| steer(it, number, headers).is_err()) {
            sockets.truncate(1);
        }
        Ok(sockets)
    };
    open().map_err(|error| named(error, "open UDP", address))
}

/// Opens a UDP socket of its own for calls to addresses of the same kind.
///
/// # Errors
/// Those of the operating system.
pub fn bind_udp_for(peer: SocketAddr) -> io::Result<StdUdpSocket> {
    let address: SocketAddr = match peer {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let open = || {
        let socket = open_socket(address, Type::DGRAM, Protocol::UDP, Sharing::Alone)?;
        enlarge(&socket);
        socket.bind(&address.into())?;
        Ok(StdUdpSocket::from(socket))
    };
    open().map_err(|error| named(error, "open UDP", address))
}

/// Asks for room. Less than wanted is no fault: what finds none is sent again.
pub(super) fn enlarge(socket: &socket2::Socket) {
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
}

/// Gives the group a program of the classic packet filter, which sees a datagram from its first
/// byte; one that is too short goes to the first socket.
///
/// **Source**: Linux: socket(7), `SO_ATTACH_REUSEPORT_CBPF`; Linux: Documentation/networking/filter.
fn steer(socket: &StdUdpSocket, count: u32, headers: Headers) -> io::Result<()> {
    let op =
        |code: u32, (jt, jf): (u8, u8), k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let half = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    let mut program = [
        op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, (0, 0), 0),
        op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, (0, 2), 0x80),
        op(half, (0, 0), headers.long_at),
        op(libc::BPF_JMP | libc::BPF_JA, (0, 0), 1),
        op(half, (0, 0), headers.short_at),
        op(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, (0, 0), count),
        op(libc::BPF_RET | libc::BPF_A, (0, 0), 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    Ok(setsockopt(socket, sockopt::AttachReusePortCbpf, &program)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_datagram_goes_where_it_says_whoever_sends_it() {
        let first = StdUdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = first.local_addr().expect("bound");
        let headers = Headers { long_at: 6, short_at: 1 };
        let taken = bind_udp_group(address, 3, headers).expect_err("another has it");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let sockets = bind_udp_group(address, 3, headers).expect("free again");
        for number in 0..30_u8 {
            let client = StdUdpSocket::bind("127.0.0.1:0").expect("a free port");
            client.send_to(&[0x40, 0, number], address).expect("sent");
            client.send_to(&[0xc0, 0, 0, 0, 1, 8, 0, number], address).expect("sent");
        }
        for (at, socket) in sockets.iter().enumerate() {
            socket.set_nonblocking(false).expect("set");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
            for _ in 0..20 {
                let mut bytes = [0; 16];
                let count = socket.recv(&mut bytes).expect("a third of all");
                assert_eq!(usize::from(bytes[count - 1]) % 3, at);
            }
        }
    }
}
