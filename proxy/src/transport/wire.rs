//! What the data path needs of a connection besides reading and writing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::quic::QuicStream;
use super::{Buffer, MuxStream, Socket};
use crate::observe::Series;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_core::traffic::mux::ResetCode;
use weft_runtime::net::TcpStream;
use weft_runtime::tls::tokio_rustls::{client, server};

/// A connection to a proxy, as its client. Boxed: it is a kilobyte and goes from hand to hand
/// with each request.
pub(crate) type ClientTls = Box<client::TlsStream<Socket>>;
/// A connection from a proxy, as its server.
pub(crate) type ServerTls = Box<server::TlsStream<Socket>>;

/// What became of a datagram that was to go beside a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// There was no room.
    Lost,
    /// It is on its way.
    Sent,
    /// It has to go on the stream: it is too long for a packet, or there is no other way.
    Unfit,
}

/// A connection of the data path.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Becomes ready when there may be something to read, the end included, without needing a
    /// buffer for it.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads once into a buffer; ready with the number of bytes, 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>>
    where
        Self: Sized,
    {
        buffer.poll_fill(cx, self)
    }

    /// As [`poll_fill`](Self::poll_fill), once there may be something to read: while there is not,
    /// an empty buffer stays without memory.
    fn poll_fill_ready(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
    ) -> Poll<io::Result<usize>>
    where
        Self: Sized,
    {
        ready!(self.poll_readable(cx))?;
        self.poll_fill(cx, buffer)
    }

    /// Makes sure that the peer takes what it got for broken off once the connection is
    /// dropped. TLS says so by itself: its farewell is missing.
    fn mark_broken(&self) {}

    /// Sends a datagram beside the stream, where there is a way for such.
    fn send_beside(&mut self, _datagram: &[u8]) -> Beside {
        Beside::Unfit
    }

    /// Takes a datagram that has come beside the stream.
    fn poll_beside(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        Poll::Pending
    }

    /// Returns how many of those found no room since this was asked last.
    fn take_lost(&mut self) -> u64 {
        0
    }

    /// Ready when the peer has broken it off, as far as can be told without reading; the task that
    /// reads may be another one.
    fn poll_broken(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Whether a connection that has waited is worth a request, as far as can be told at once.
    fn is_fit(&self) -> bool {
        true
    }
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

/// A connection to the next hop that carries one request at a time, or bytes.
#[derive(Debug)]
pub(crate) enum HopWire {
    /// A stream beside others, to a proxy.
    Mux(MuxStream),
    /// To a proxy, or to who speaks TLS outside the mesh.
    Own(ClientTls),
    /// To who speaks no TLS outside the mesh.
    Plain(Box<Socket>),
    /// A stream beside others over QUIC, to a proxy.
    Quic(Box<QuicStream>),
}

impl HopWire {
    /// Ends a stream and says why, as far as it has not ended; a connection of its own just ends.
    pub(crate) fn refuse(self, why: ResetCode) {
        match self {
            Self::Mux(stream) => stream.refuse(why),
            Self::Own(_) | Self::Plain(_) => {}
            Self::Quic(stream) => stream.refuse(why),
        }
    }

    /// Counts the connection as open until it is dropped; streams are counted by their own.
    pub(crate) fn counted(mut self, series: &Arc<Series>) -> Self {
        match &mut self {
            Self::Mux(_) | Self::Quic(_) => {}
            Self::Own(tls) => tls.get_mut().0.count(series),
            Self::Plain(socket) => socket.count(series),
        }
        self
    }
}

impl Wire for HopWire {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Mux(stream) => stream.poll_readable(cx),
            Self::Own(tls) => tls.poll_readable(cx),
            Self::Plain(socket) => socket.poll_readable(cx),
            Self::Quic(stream) => stream.poll_readable(cx),
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        match self {
            Self::Mux(stream) => stream.poll_fill(cx, buffer),
            Self::Own(tls) => tls.poll_fill(cx, buffer),
            Self::Plain(socket) => buffer.poll_fill(cx, socket),
            Self::Quic(stream) => stream.poll_fill(cx, buffer),
        }
    }

    fn mark_broken(&self) {
        match self {
            Self::Mux(stream) => stream.mark_broken(),
            Self::Own(tls) => tls.mark_broken(),
            Self::Plain(socket) => socket.mark_broken(),
            // Dropping it says so.
            Self::Quic(_) => {}
        }
    }

    fn send_beside(&mut self, datagram: &[u8]) -> Beside {
        match self {
            Self::Mux(_) | Self::Own(_) | Self::Plain(_) => Beside::Unfit,
            Self::Quic(stream) => stream.send_beside(datagram),
        }
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match self {
            Self::Mux(_) | Self::Own(_) | Self::Plain(_) => Poll::Pending,
            Self::Quic(stream) => stream.poll_beside(cx),
        }
    }

    fn take_lost(&mut self) -> u64 {
        match self {
            Self::Mux(_) | Self::Own(_) | Self::Plain(_) => 0,
            Self::Quic(stream) => stream.take_lost(),
        }
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Mux(stream) => stream.poll_broken(cx),
            Self::Own(_) | Self::Plain(_) => Poll::Pending,
            Self::Quic(stream) => stream.poll_broken(cx),
        }
    }

    fn is_fit(&self) -> bool {
        match self {
            Self::Mux(stream) => stream.is_fit(),
            Self::Own(_) | Self::Plain(_) => true,
            Self::Quic(stream) => stream.is_fit(),
        }
    }
}

impl AsyncRead for HopWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Mux(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Own(tls) => Pin::new(tls).poll_read(cx, buf),
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Quic(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for HopWire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Mux(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Own(tls) => Pin::new(tls).poll_write(cx, bytes),
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Quic(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Mux(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Own(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Quic(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Mux(stream) => stream.is_write_vectored(),
            Self::Own(_) | Self::Plain(_) => true,
            Self::Quic(_) => false,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Mux(stream) => Pin::new(stream).poll_flush(cx),
            Self::Own(tls) => Pin::new(tls).poll_flush(cx),
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Quic(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Mux(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Own(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Quic(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

// In memory, for tests and fuzzing.
impl Wire for tokio::io::DuplexStream {
    fn poll_readable(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It cannot tell without reading.
        Poll::Ready(Ok(()))
    }
}
