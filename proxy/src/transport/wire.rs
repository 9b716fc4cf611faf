//! What the data path needs of a connection besides reading and writing.

use std::io;
use std::task::{Context, Poll};

use super::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use weft_runtime::net::TcpStream;
use weft_runtime::tls::tokio_rustls::{client, server};

/// A connection to a proxy, as its client. Boxed: it is a kilobyte and goes from hand to hand
/// with each request.
pub(crate) type ClientTls = Box<client::TlsStream<Socket>>;
/// A connection from a proxy, as its server.
pub(crate) type ServerTls = Box<server::TlsStream<Socket>>;

/// A connection of the data path.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Becomes ready when there may be something to read, the end included, without needing a
    /// buffer for it.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Makes sure that the peer takes what it got for broken off once the connection is
    /// dropped. TLS says so by itself: its farewell is missing.
    fn mark_broken(&self) {}
}

impl Wire for TcpStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn mark_broken(&self) {
        // Where it cannot be set the socket is broken already.
        let _ = self.set_zero_linger();
    }
}

impl Wire for ClientTls {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (socket, session) = self.get_ref();
        // A session that wants no reading holds bytes already decrypted, or has ended.
        if session.wants_read() { socket.poll_readable(cx) } else { Poll::Ready(Ok(())) }
    }
}

impl Wire for ServerTls {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (socket, session) = self.get_ref();
        if session.wants_read() { socket.poll_readable(cx) } else { Poll::Ready(Ok(())) }
    }
}

#[cfg(test)]
impl Wire for tokio::io::DuplexStream {
    fn poll_readable(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It cannot tell without reading.
        Poll::Ready(Ok(()))
    }
}
