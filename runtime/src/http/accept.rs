//! Where connections come from: TCP or a unix socket.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::net::{MemberListener, MemberStream, TcpListener, TcpStream, UnixListener, UnixStream};

/// The other end of a connection. In the extensions of every request served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A process of this host, on a unix socket.
    Unix,
}

/// A listener that the server can take connections from.
pub trait Accept: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Remote)>> + Send;
}

impl Accept for MemberListener {
    type Stream = MemberStream;

    async fn accept(&self) -> io::Result<(MemberStream, Remote)> {
        let (stream, address) = MemberListener::accept(self).await?;
        Ok((stream, Remote::Tcp(address)))
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Remote)> {
        let (stream, address) = TcpListener::accept(self).await?;
        // Answers are written whole; waiting for more would only add latency.
        stream.set_nodelay(true)?;
        Ok((stream, Remote::Tcp(address)))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Remote)> {
        let (stream, _) = UnixListener::accept(self).await?;
        Ok((stream, Remote::Unix))
    }
}
