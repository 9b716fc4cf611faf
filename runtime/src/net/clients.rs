//! UDP for the data path: a socket at which many clients are served by one task, and one that is
//! connected with one service.
//!
//! Sending never waits: what the system has no room for is lost, as datagrams may be, and the caller
//! counts it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
    sendmsg, setsockopt, sockopt,
};
use socket2::{Protocol, SockRef, Socket, Type};
use tokio::io::Interest;

use super::datagrams::socket_address;
use super::group::enlarge;
use super::{Sharing, UdpSocket, named, open_socket};

/// Datagrams that are taken with one system call: more save little.
const TOGETHER_MAX: usize = 16;
/// Bytes of the longest datagram, and one more than any.
const BYTES_MAX: usize = 1 << 16;

/// Tells whether a UDP address is free, before it is shared: a socket of another process that shares
/// it too would silently get part of the clients.
///
/// # Errors
/// Those of the operating system; the message names the address.
pub fn probe_udp(address: SocketAddr) -> io::Result<()> {
    let open = || open_socket(address, Type::DGRAM, Protocol::UDP, Sharing::Alone);
    let bind = |socket: Socket| socket.bind(&address.into());
    open().and_then(bind).map_err(|error| named(error, "open UDP", address))
}

/// A UDP socket at which clients are served, on an address that others of this user may share: the
/// kernel gives each client to one of them.
#[derive(Debug)]
pub struct ClientSocket {
    socket: UdpSocket,
    address: SocketAddr,
}

/// A [`ClientSocket`] that belongs to no runtime yet.
#[derive(Debug)]
pub struct ClientSocketHandle {
    descriptor: OwnedFd,
    address: SocketAddr,
}

/// Where datagrams are taken.
pub struct Arrivals {
    headers: MultiHeaders<SockaddrStorage>,
    bytes: [Box<[u8]>; TOGETHER_MAX],
    came: [Option<Arrival>; TOGETHER_MAX],
}

/// Who sent a datagram, and to which of our addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// Where it is.
    pub address: SocketAddr,
    /// What it takes us for; `None` where the socket has one address anyway.
    pub called: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy)]
struct Arrival {
    length: usize,
    client: Client,
}

impl std::fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrivals").finish_non_exhaustive()
    }
}

impl Default for Arrivals {
    fn default() -> Self {
        let control = nix::cmsg_space!(libc::in6_pktinfo);
        Self {
            headers: MultiHeaders::preallocate(TOGETHER_MAX, Some(control)),
            // Memory is taken for what comes, not for what could.
            bytes: std::array::from_fn(|_| vec![0; BYTES_MAX].into_boxed_slice()),
            came: [None; TOGETHER_MAX],
        }
    }
}

impl Arrivals {
    /// Returns the datagrams that were taken last, in the order in which they came.
    pub fn each(&self) -> impl Iterator<Item = (&Client, &[u8])> {
        let came = self.came.iter().zip(&self.bytes);
        came.filter_map(|(arrival, bytes)| {
            let arrival = arrival.as_ref()?;
            Some((&arrival.client, &bytes[..arrival.length]))
        })
    }

    fn take(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.came = [None; TOGETHER_MAX];
        let mut slices = self.bytes.each_mut().map(|bytes| [IoSliceMut::new(bytes)]);
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let messages = recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None)?;
        for (place, message) in self.came.iter_mut().zip(messages) {
            let Some(address) = message.address.as_ref().and_then(socket_address) else { continue };
            let mut called = None;
            for control in message.cmsgs().into_iter().flatten() {
                match control {
                    ControlMessageOwned::Ipv4PacketInfo(info) => {
                        called = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
                    }
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        called = Some(IpAddr::from(info.ipi6_addr.s6_addr));
                    }
                    _ => {}
                }
            }
            *place = Some(Arrival { length: message.bytes, client: Client { address, called } });
        }
        Ok(())
    }
}

impl ClientSocket {
    /// Opens one.
    ///
    /// # Errors
    /// Those of the operating system; the message names the address.
    /// # Panics
    /// Outside a runtime.
    pub fn bind_shared(address: SocketAddr) -> io::Result<Self> {
        let open = || {
            let socket = open_socket(address, Type::DGRAM, Protocol::UDP, Sharing::Shared)?;
            enlarge(&socket);
            // With several addresses, a client is answered from the one that it has called.
            if address.ip().is_unspecified() {
                match address {
                    SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                    SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
                }
            }
            socket.bind(&address.into())?;
            ClientSocketHandle::adopt(socket.into())?.into_socket()
        };
        open().map_err(|error| named(error, "open UDP", address))
    }

    /// Returns where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for datagrams and takes those that are there.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn poll_take(&self, cx: &mut Context<'_>, into: &mut Arrivals) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_recv_ready(cx))?;
            match self.socket.try_io(Interest::READABLE, || into.take(&self.socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                taken => return Poll::Ready(taken),
            }
        }
    }

    /// Sends a datagram to a client, from the address that it has called.
    ///
    /// # Errors
    /// Those of the operating system: `WouldBlock` when it has no room.
    pub fn send(&self, datagram: &[u8], client: &Client) -> io::Result<()> {
        let (v4, v6);
        let control = match client.called {
            None => None,
            Some(IpAddr::V4(ip)) => {
                let ipi_spec_dst = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
                let ipi_addr = libc::in_addr { s_addr: 0 };
                v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr };
                Some(ControlMessage::Ipv4PacketInfo(&v4))
            }
            Some(IpAddr::V6(ip)) => {
                let ipi6_addr = libc::in6_addr { s6_addr: ip.octets() };
                v6 = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
                Some(ControlMessage::Ipv6PacketInfo(&v6))
            }
        };
        let to = SockaddrStorage::from(client.address);
        let (fd, slices) = (self.socket.as_raw_fd(), [IoSlice::new(datagram)]);
        sendmsg(fd, &slices, control.as_slice(), MsgFlags::MSG_DONTWAIT, Some(&to))?;
        Ok(())
    }

    /// Returns a second handle of the same socket: datagrams go to whoever takes them first.
    ///
    /// # Errors
    /// Those of the operating system, such as too many open files.
    pub fn share(&self) -> io::Result<ClientSocketHandle> {
        let descriptor = self.socket.as_fd().try_clone_to_owned()?;
        Ok(ClientSocketHandle { descriptor, address: self.address })
    }
}

impl ClientSocketHandle {
    /// Takes a descriptor that somebody else has opened.
    ///
    /// # Errors
    /// `InvalidInput` when it is no socket of UDP that is bound and not connected; those of the
    /// operating system.
    pub fn adopt(descriptor: OwnedFd) -> io::Result<Self> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let socket = SockRef::from(&descriptor);
        if socket.r#type()? != Type::DGRAM || socket.protocol()? != Some(Protocol::UDP) {
            return Err(wrong("a descriptor that was passed is no socket of UDP"));
        }
        if socket.peer_addr().is_ok() {
            return Err(wrong("a socket that was passed is connected"));
        }
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| wrong("a socket that was passed has no address"))?;
        Ok(Self { descriptor, address })
    }

    /// Returns where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives it to the runtime of the calling thread.
    ///
    /// # Errors
    /// Those of the operating system.
    /// # Panics
    /// Outside a runtime.
    pub fn into_socket(self) -> io::Result<ClientSocket> {
        let socket = UdpSocket::from_std(self.descriptor.into())?;
        Ok(ClientSocket { socket, address: self.address })
    }

    /// Returns the descriptor, to be passed on.
    pub fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }
}

/// A UDP socket that is connected with one service.
#[derive(Debug)]
pub struct ServiceSocket(UdpSocket);

impl ServiceSocket {
    /// Opens one, with a port of its own. Nothing is sent.
    ///
    /// # Errors
    /// Those of the operating system; the message names the address.
    /// # Panics
    /// Outside a runtime.
    pub fn connect(service: SocketAddr) -> io::Result<Self> {
        let open = || {
            let socket = open_socket(service, Type::DGRAM, Protocol::UDP, Sharing::Alone)?;
            socket.connect(&service.into())?;
            UdpSocket::from_std(socket.into()).map(Self)
        };
        open().map_err(|error| named(error, "connect UDP to", service))
    }

    /// Takes a datagram; ready with its length.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn poll_take(&self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_recv_ready(cx))?;
            match self.0.try_recv(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                taken => return Poll::Ready(taken),
            }
        }
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// Those of the operating system: `WouldBlock` when it has no room, `ConnectionRefused` when an
    /// earlier one found nobody there; then this one was not sent.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let flags = MsgFlags::MSG_DONTWAIT.bits();
        SockRef::from(&self.0).send_with_flags(datagram, flags).map(drop)
    }
}

impl AsRawFd for ServiceSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// Whether a datagram was too long for the way.
pub fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EMSGSIZE as i32)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::UdpSocket as StdUdpSocket;

    use super::*;

    async fn take(socket: &ClientSocket) -> Vec<(Client, Vec<u8>)> {
        let mut arrivals = Arrivals::default();
        poll_fn(|cx| socket.poll_take(cx, &mut arrivals)).await.expect("it works");
        arrivals.each().map(|(client, bytes)| (*client, bytes.to_vec())).collect()
    }

    #[tokio::test]
    async fn a_client_is_answered_from_the_address_that_it_has_called() {
        for (bind, calls, from) in [
            ("127.0.0.1:0", "127.0.0.1", "127.0.0.1:0"),
            ("0.0.0.0:0", "127.0.0.9", "127.0.0.1:0"),
            ("[::]:0", "::1", "[::1]:0"),
        ] {
            let socket = ClientSocket::bind_shared(bind.parse().expect("an address"));
            let socket = socket.expect("a free port");
            probe_udp(socket.address()).expect_err("taken");
            let client = StdUdpSocket::bind(from).expect("a free port");
            let called = SocketAddr::new(calls.parse().expect("an IP"), socket.address().port());
            // Whoever is connected hears nobody else.
            client.connect(called).expect("a route");
            client.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("set");
            for datagram in [&b""[..], b"ab", &[7; 60_000]] {
                client.send(datagram).expect("sent");
                let came = take(&socket).await;
                let (who, bytes) = came.first().expect("it came");
                assert_eq!(Some(who.address), client.local_addr().ok());
                assert_eq!(bytes, datagram);
                socket.send(bytes, who).expect("answered");
                let mut answer = vec![0; 65_536];
                let length = client.recv(&mut answer).expect("an answer");
                assert_eq!(&answer[..length], datagram);
            }
        }
    }

    #[tokio::test]
    async fn a_socket_that_is_passed_on_keeps_what_waits_in_it() {
        let socket = ClientSocket::bind_shared(SocketAddr::from(([127, 0, 0, 1], 0)));
        let socket = socket.expect("a free port");
        let client = StdUdpSocket::bind("127.0.0.1:0").expect("a free port");
        client.send_to(b"waits", socket.address()).expect("sent");
        let handle = socket.share().expect("a handle");
        drop(socket);
        let adopted = ClientSocketHandle::adopt(handle.into_descriptor()).expect("a socket of UDP");
        let next = adopted.into_socket().expect("in this runtime");
        assert_eq!(take(&next).await[0].1, b"waits");
        let connected = StdUdpSocket::bind("127.0.0.1:0").expect("a free port");
        connected.connect(next.address()).expect("a route");
        ClientSocketHandle::adopt(connected.into()).expect_err("it is connected");
        let stream = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        ClientSocketHandle::adopt(stream.into()).expect_err("it is one of TCP");
    }

    #[tokio::test]
    async fn nobody_there_is_told_and_ends_nothing() {
        let service = StdUdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = service.local_addr().expect("bound");
        drop(service);
        let socket = ServiceSocket::connect(address).expect("a route");
        let refused = std::iter::repeat_with(|| socket.send(b"lost")).find_map(Result::err);
        assert_eq!(refused.map(|it| it.kind()), Some(io::ErrorKind::ConnectionRefused));
        let service = StdUdpSocket::bind(address).expect("free again");
        service.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("set");
        // Of several that found nobody, each is told of.
        while socket.send(b"here").is_err() {}
        let mut bytes = [0; 8];
        let (length, from) = service.recv_from(&mut bytes).expect("it came");
        assert_eq!(&bytes[..length], b"here");
        service.send_to(b"back", from).expect("sent");
        let length = poll_fn(|cx| socket.poll_take(cx, &mut bytes)).await.expect("an answer");
        assert_eq!(&bytes[..length], b"back");
        let error = socket.send(&vec![0; 65_508]).expect_err("too long for IPv4");
        assert!(is_too_long(&error), "{error}");
    }
}
