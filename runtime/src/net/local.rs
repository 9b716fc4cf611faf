//! Connections with others on the same host, over TCP or a unix socket: one type for both.
//!
//! The kernel reads and writes the streams of both families alike, so a connection over a unix
//! socket goes as a [`TcpStream`] and costs those over TCP nothing. What only TCP has, such as
//! addresses and Nagle's algorithm, answers with an error there; nothing on the way of bytes asks.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use weft_core::local_address::{LocalAddress, SocketPath};

use super::{ListeningSocket, TcpListener, TcpStream, UnixListener, UnixStream, bounded, named};
use super::{connect_tcp, unpace_loopback};

/// Connects to something on this host.
///
/// # Errors
/// Those of the operating system, or `TimedOut` after `limit`; the message names the address.
/// # Cancel safety
/// Dropping it closes the socket.
pub async fn connect_local(address: &LocalAddress, limit: Duration) -> io::Result<TcpStream> {
    match address {
        LocalAddress::Tcp(address) => connect_tcp(*address, limit).await,
        LocalAddress::Unix(path) => {
            let connect = async { as_stream(UnixStream::connect(path.as_str()).await?) };
            bounded(limit, connect).await.map_err(|error| named(error, "connect to", address))
        }
    }
}

fn as_stream(stream: UnixStream) -> io::Result<TcpStream> {
    TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(stream.into_std()?)))
}

/// A socket where connections of this host, or of others, are accepted.
#[derive(Debug)]
pub enum LocalListener {
    /// At an address and port.
    Tcp(TcpListener),
    /// At a path.
    Unix(UnixListener),
}

impl LocalListener {
    /// Accepts a connection, or says that none waits.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        Poll::Ready(match self {
            Self::Tcp(listener) => ready!(listener.poll_accept(cx)).map(|(stream, _)| stream),
            Self::Unix(listener) => {
                ready!(listener.poll_accept(cx)).and_then(|(stream, _)| as_stream(stream))
            }
        })
    }

    /// Accepts a connection.
    ///
    /// # Errors
    /// Those of the operating system.
    /// # Cancel safety
    /// No connection is lost.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| stream),
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                as_stream(stream)
            }
        }
    }

    /// Readies a connection that was accepted here: without delays of TCP's.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn hasten(&self, stream: &TcpStream) -> io::Result<()> {
        if let Self::Tcp(_) = self {
            stream.set_nodelay(true)?;
            unpace_loopback(stream);
        }
        Ok(())
    }

    /// Returns a second handle of the socket.
    ///
    /// # Errors
    /// Those of the operating system, such as too many open files.
    pub fn share(&self) -> io::Result<ListeningSocket> {
        let descriptor = match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        };
        ListeningSocket::adopt(descriptor.try_clone_to_owned()?)
    }
}

/// The file of a listening unix socket; it goes when this is dropped, unless it was left to
/// another process or somebody has put another one there. To be dropped before the socket is
/// closed, as who finds the file of a dead one replaces it.
#[derive(Debug)]
pub struct SocketFile {
    path: SocketPath,
    /// Device and number; `None` once it is left to another process.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// Takes the file of a socket that listens there.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn of(path: &SocketPath) -> io::Result<Self> {
        Ok(Self { path: path.clone(), identity: Some(identity(path)?) })
    }

    /// Gives the file another mode.
    ///
    /// # Errors
    /// Those of the operating system; the message names the path.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        let set = std::fs::set_permissions(self.path.as_str(), Permissions::from_mode(mode));
        set.map_err(|error| named(error, "set the mode of", &self.path))
    }

    /// Leaves the file to another process.
    pub fn leave(&mut self) {
        self.identity = None;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path).ok() == self.identity {
            // A file that is gone already is no fault.
            let _ = std::fs::remove_file(self.path.as_str());
        }
    }
}

fn identity(path: &SocketPath) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path.as_str())?;
    if !found.file_type().is_socket() {
        let what = format!("{path} is no socket");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok((found.dev(), found.ino()))
}

/// Listens on a unix socket, as [`super::bind_unix`].
///
/// # Errors
/// As there.
pub fn listen_unix(path: &SocketPath, mode: u32) -> io::Result<(ListeningSocket, SocketFile)> {
    let listener = super::bind_unix(Path::new(path.as_str()), mode)?;
    Ok((LocalListener::Unix(listener).share()?, SocketFile::of(path)?))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn bytes_go_both_ways_over_a_unix_socket_and_end_one_by_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.sock");
        let path = SocketPath::parse(path.to_str().expect("text")).expect("a path");
        let (socket, file) = listen_unix(&path, 0o620).expect("a socket");
        let mode = std::fs::metadata(path.as_str()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o620);
        let address = socket.address().clone();
        assert_eq!(address, LocalAddress::Unix(path.clone()));
        let listener = socket.into_listener().expect("in this runtime");
        let mut client = connect_local(&address, LIMIT).await.expect("it listens");
        let mut server = listener.accept().await.expect("a connection");
        listener.hasten(&server).expect("nothing to do");
        client.write_all(b"there").await.expect("written");
        client.shutdown().await.expect("half closed");
        let mut said = String::new();
        server.read_to_string(&mut said).await.expect("the end");
        server.write_all(b"back").await.expect("the other half is open");
        drop(server);
        client.read_to_string(&mut said).await.expect("the end");
        assert_eq!(said, "thereback");
        drop((listener, file));
        assert!(!Path::new(path.as_str()).exists());
        let error = connect_local(&address, LIMIT).await.expect_err("nobody");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("unix:/"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_another_ones_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let path = SocketPath::parse(path.to_str().expect("text")).expect("a path");
        let (_socket, file) = listen_unix(&path, 0o600).expect("a socket");
        std::fs::remove_file(path.as_str()).expect("somebody takes it away");
        let (_next, mut next_file) = listen_unix(&path, 0o600).expect("there is none");
        drop(file);
        assert!(Path::new(path.as_str()).exists(), "it is not the file of the first one");
        next_file.leave();
        drop(next_file);
        assert!(Path::new(path.as_str()).exists(), "it was left to another process");
    }
}
