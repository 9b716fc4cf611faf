//! Sockets; the only place that opens one. Others name the types through this module.
//!
//! What is said over a connection is the caller's affair.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

mod clients;
mod datagrams;
mod group;
mod local;
mod member;
mod passing;
mod peer;
mod redirected;

pub use clients::{
    Arrivals, Client, ClientSocket, ClientSocketHandle, ServiceSocket, is_too_long, probe_udp,
};
pub use datagrams::{Batch, DatagramSocket};
pub use group::{Headers, bind_udp_for, bind_udp_group};
pub use local::{LocalListener, SocketFile, connect_local, listen_unix};
pub use member::{MemberListener, MemberStream, connect_member, listen_members};
pub use passing::{ListeningSocket, PASSED_MAX, Passage, Passed, activated, adopt_unix_listener};
pub use peer::{PeerError, PeerProcess, own_uid, peer_uid};
pub use redirected::{has_ipv6, original_destination};

/// A UDP socket that belongs to no runtime yet.
pub use std::net::UdpSocket as StdUdpSocket;
pub use tokio::net::tcp;
pub use tokio::net::unix;
pub use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};

/// Connections that wait to be accepted; the kernel cuts it to `net.core.somaxconn` (4096).
const BACKLOG: i32 = 4096;

/// Listens on a TCP address, alone.
///
/// # Errors
/// Those of the operating system; the message names the address.
pub async fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    listen(address, Sharing::Alone)
}

/// Listens on a TCP address that other sockets of this user may share (`SO_REUSEPORT`): the
/// kernel spreads new connections over them.
///
/// # Errors
/// Those of the operating system; the message names the address.
pub fn bind_tcp_shared(address: SocketAddr) -> io::Result<TcpListener> {
    listen(address, Sharing::Shared)
}

/// Tells whether a TCP address is free, before it is shared: a socket of another process that
/// shares it too would silently get part of the connections.
///
/// # Errors
/// Those of the operating system; the message names the address.
pub fn probe_tcp(address: SocketAddr) -> io::Result<()> {
    listen(address, Sharing::Alone).map(drop)
}

#[derive(Clone, Copy, PartialEq)]
enum Sharing {
    Alone,
    Shared,
}

fn listen(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let open = || {
        let socket = open_socket(address, Type::STREAM, Protocol::TCP, sharing)?;
        // A restarted process takes its port back while old connections linger in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|error| named(error, "listen on", address))
}

/// Opens a UDP socket, alone on its address.
///
/// # Errors
/// Those of the operating system; the message names the address.
pub async fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    bind_datagram(address, Sharing::Alone)
}

/// Opens a UDP socket on an address that other sockets of this user may share.
///
/// # Errors
/// Those of the operating system; the message names the address.
pub fn bind_udp_shared(address: SocketAddr) -> io::Result<UdpSocket> {
    bind_datagram(address, Sharing::Shared)
}

fn bind_datagram(address: SocketAddr, sharing: Sharing) -> io::Result<UdpSocket> {
    let open = || {
        let socket = open_socket(address, Type::DGRAM, Protocol::UDP, sharing)?;
        socket.bind(&address.into())?;
        UdpSocket::from_std(socket.into())
    };
    open().map_err(|error| named(error, "open UDP", address))
}

fn open_socket(
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
    sharing: Sharing,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if sharing == Sharing::Shared {
        socket.set_reuse_port(true)?;
    }
    Ok(socket)
}

/// Connects to a TCP address, with Nagle's algorithm off.
///
/// # Errors
/// Those of the operating system, or `TimedOut` after `limit`; the message names the address.
/// # Cancel safety
/// Dropping it closes the socket.
pub async fn connect_tcp(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        unpace_loopback(&stream);
        Ok(stream)
    };
    bounded(limit, connect).await.map_err(|error| named(error, "connect to", address))
}

/// Takes a connection of this host with itself out of the system's congestion control where
/// that paces (BBR): there is no congestion on loopback, and pacing costs a timer per packet.
///
/// Leaves connections with other hosts as they are, and does nothing where the system does not
/// allow it.
pub fn unpace_loopback(stream: &TcpStream) {
    if stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()) {
        // Reno is always there. Refused or not, the connection works.
        let _ = socket2::SockRef::from(stream).set_tcp_congestion(b"reno");
    }
}

/// Connects to `host:port`, trying each address of the name in turn.
///
/// # Errors
/// Those of the look-up or of the last address, or `TimedOut` after `limit` over all.
/// # Cancel safety
/// Dropping it closes the socket.
pub async fn connect_host(host_port: &str, limit: Duration) -> io::Result<TcpStream> {
    let connect = async {
        let stream = TcpStream::connect(host_port).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    bounded(limit, connect).await.map_err(|error| named(error, "connect to", host_port))
}

/// Returns the addresses of `host:port`.
///
/// # Errors
/// Those of the look-up; the message names the host.
pub async fn lookup(host_port: &str) -> io::Result<Vec<SocketAddr>> {
    match tokio::net::lookup_host(host_port).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(named(error, "look up", host_port)),
    }
}

/// Listens on a unix socket with the given file mode, replacing the file of a dead listener.
///
/// # Errors
/// Those of the operating system; `AddrInUse` when another process listens there, or the path
/// is something else than a socket.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let open = || {
        if let Ok(found) = std::fs::symlink_metadata(path) {
            let is_dead = found.file_type().is_socket()
                && matches!(std::os::unix::net::UnixStream::connect(path),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused);
            if !is_dead {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        // Before anybody can connect.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        socket.listen(BACKLOG)?;
        UnixListener::from_std(socket.into())
    };
    open().map_err(|error| named(error, "listen on", path.display()))
}

/// Connects to a unix socket.
///
/// # Errors
/// Those of the operating system; the message names the path.
pub async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await.map_err(|error| named(error, "connect to", path.display()))
}

/// Returns the name that the system has for this host.
///
/// # Errors
/// When the system does not tell, or has none.
pub fn host_name() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))?;
    match text.trim() {
        "" => Err(io::Error::new(io::ErrorKind::NotFound, "the host has no name")),
        name => Ok(name.to_owned()),
    }
}

/// Returns the address from which this host reaches others; `None` when it has no way out.
/// Nothing is sent.
pub fn outward_address() -> Option<IpAddr> {
    // Connecting a datagram socket only chooses a route. 192.0.2.1 is nobody's (RFC 5737).
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

/// Sends one datagram to a unix socket; a path that starts with `@` is in the abstract
/// namespace.
///
/// # Errors
/// Those of the operating system.
pub fn send_unix_datagram(path: &str, message: &[u8]) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address)?;
    Ok(())
}

async fn bounded<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} ms", limit.as_millis()),
        )),
    }
}

/// Adds to an error what was attempted and where, keeping its kind.
fn named(error: io::Error, attempt: &str, place: impl std::fmt::Display) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {attempt} {place}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LIMIT: Duration = Duration::from_secs(5);

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = bind_tcp(loopback()).await.expect("a free port");
        let address = first.local_addr().expect("bound");
        let error = bind_tcp(address).await.expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        drop(first);
        let (_a, _b) = (
            bind_tcp_shared(address).expect("free again"),
            bind_tcp_shared(address).expect("shared"),
        );
    }

    #[tokio::test]
    async fn a_refused_connection_names_its_address() {
        let listener = bind_tcp(loopback()).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        connect_tcp(address, LIMIT).await.expect("listening");
        connect_host(&format!("localhost:{}", address.port()), LIMIT).await.expect("by name");
        drop(listener);
        let error = connect_tcp(address, LIMIT).await.expect_err("closed");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with(&format!("cannot connect to {address}")), "{error}");
    }

    #[tokio::test]
    async fn a_dead_unix_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        drop(bind_unix(&path, 0o600).expect("new"));
        let listener = bind_unix(&path, 0o600).expect("the file of a dead listener");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = bind_unix(&path, 0o600).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let mut client = connect_unix(&path).await.expect("listening");
        let (mut server, _) = loop {
            // The probe of the refused bind may come first; it is closed at once.
            let (mut stream, address) = listener.accept().await.expect("a connection");
            client.write_all(b"x").await.expect("written");
            let mut byte = [0];
            if stream.read(&mut byte).await.expect("readable") == 1 {
                break (stream, address);
            }
        };
        server.write_all(b"y").await.expect("written");
        let file = folder.path().join("file");
        std::fs::write(&file, "precious").expect("written");
        bind_unix(&file, 0o600).expect_err("not a socket");
        assert_eq!(std::fs::read(&file).expect("kept"), b"precious");
    }
}
