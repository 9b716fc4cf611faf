//! Connections between members of a cluster: of the kernel, or of a simulated network.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{TcpListener, TcpStream};
#[cfg(feature = "sim")]
use crate::world::{self, WorldListener, WorldStream};

/// A listener for members.
#[derive(Debug)]
pub struct MemberListener(Listening);

#[derive(Debug)]
enum Listening {
    Kernel(TcpListener),
    #[cfg(feature = "sim")]
    Simulated(Box<dyn WorldListener>),
}

/// A connection with a member.
#[derive(Debug)]
pub struct MemberStream(Stream);

#[derive(Debug)]
enum Stream {
    Kernel(TcpStream),
    #[cfg(feature = "sim")]
    Simulated(Box<dyn WorldStream>),
}

/// Listens on a TCP address, alone.
///
/// # Errors
/// Those of the operating system; the message names the address.
pub async fn listen_members(address: SocketAddr) -> io::Result<MemberListener> {
    #[cfg(feature = "sim")]
    if let Some(world) = world::current() {
        return world.listen(address).map(|it| MemberListener(Listening::Simulated(it)));
    }
    super::bind_tcp(address).await.map(|it| MemberListener(Listening::Kernel(it)))
}

/// Connects to `host:port`, trying each address of the name in turn.
///
/// # Errors
/// Those of the look-up or of the last address, or `TimedOut` after `limit` over all.
/// # Cancel safety
/// Dropping it closes the socket.
pub async fn connect_member(host_port: &str, limit: Duration) -> io::Result<MemberStream> {
    #[cfg(feature = "sim")]
    if let Some(world) = world::current() {
        let connected = super::bounded(limit, world.connect(host_port)).await;
        let connected = connected.map_err(|error| super::named(error, "connect to", host_port))?;
        return Ok(MemberStream(Stream::Simulated(connected)));
    }
    super::connect_host(host_port, limit).await.map(|it| MemberStream(Stream::Kernel(it)))
}

impl MemberListener {
    /// Returns the address listened on.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Listening::Kernel(listener) => listener.local_addr(),
            #[cfg(feature = "sim")]
            Listening::Simulated(listener) => Ok(listener.local_addr()),
        }
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Those of the operating system.
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub async fn accept(&self) -> io::Result<(MemberStream, SocketAddr)> {
        match &self.0 {
            Listening::Kernel(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers are written whole; waiting for more would only add latency.
                stream.set_nodelay(true)?;
                Ok((MemberStream(Stream::Kernel(stream)), address))
            }
            #[cfg(feature = "sim")]
            Listening::Simulated(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((MemberStream(Stream::Simulated(stream)), address))
            }
        }
    }
}

impl MemberStream {
    /// Returns the address of the other end.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Stream::Kernel(stream) => stream.peer_addr(),
            #[cfg(feature = "sim")]
            Stream::Simulated(stream) => Ok(stream.peer_addr()),
        }
    }
}

impl AsyncRead for MemberStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Kernel(stream) => Pin::new(stream).poll_read(context, buffer),
            #[cfg(feature = "sim")]
            Stream::Simulated(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for MemberStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Stream::Kernel(stream) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(feature = "sim")]
            Stream::Simulated(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Kernel(stream) => Pin::new(stream).poll_flush(context),
            #[cfg(feature = "sim")]
            Stream::Simulated(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Kernel(stream) => Pin::new(stream).poll_shutdown(context),
            #[cfg(feature = "sim")]
            Stream::Simulated(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Stream::Kernel(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            #[cfg(feature = "sim")]
            Stream::Simulated(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Stream::Kernel(stream) => stream.is_write_vectored(),
            #[cfg(feature = "sim")]
            Stream::Simulated(stream) => stream.is_write_vectored(),
        }
    }
}
