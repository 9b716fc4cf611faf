//! A TCP socket under TLS: read in large pieces, written without detours.
//!
//! The TLS library reads 4 KiB at a time, which would cost a large record five system calls.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_runtime::net::TcpStream;

use super::Buffer;
use crate::listen::Live;
use crate::observe::{Open, Series};

/// The socket with what was read ahead; holds no buffer while there is nothing.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    ahead: Buffer,
    counted: Option<Open>,
    live: Option<Rc<Live>>,
}

impl Socket {
    /// Wraps a connected socket.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, ahead: Buffer::default(), counted: None, live: None }
    }

    /// Has the connection fail once it is cut.
    pub(crate) fn watch(&mut self, live: Rc<Live>) {
        self.live = Some(live);
    }

    /// Has the peer take what it got for broken off once the connection is dropped.
    pub(super) fn mark_broken(&self) {
        // Where it cannot be set the socket is broken already.
        let _ = self.stream.set_zero_linger();
    }

    /// Takes it apart: the socket with what was read ahead, its count and what cuts it.
    pub(super) fn into_parts(self) -> (TcpStream, Buffer, Option<Open>, Option<Rc<Live>>) {
        (self.stream, self.ahead, self.counted, self.live)
    }

    fn check_cut(&self, cx: &Context<'_>) -> io::Result<()> {
        match &self.live {
            Some(live) if live.poll_cut(cx) => Err(io::ErrorKind::ConnectionAborted.into()),
            Some(_) | None => Ok(()),
        }
    }

    /// Counts the connection as open from now until it is dropped.
    pub(crate) fn count(&mut self, series: &Arc<Series>) {
        self.counted = Some(Open::new(series));
    }

    /// Becomes ready when there may be something to read.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        if self.ahead.is_empty() { self.stream.poll_read_ready(cx) } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        let this = &mut *self;
        if this.ahead.is_empty() {
            match this.ahead.poll_fill(cx, &mut this.stream) {
                Poll::Ready(Ok(1..)) => {}
                ended => {
                    this.ahead.release();
                    ready!(ended)?;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let count = buf.remaining().min(this.ahead.filled().len());
        buf.put_slice(&this.ahead.filled()[..count]);
        this.ahead.consume(count);
        this.ahead.release();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match slices {
            // One record: `send` is cheaper than `writev`.
            [only] => Pin::new(&mut self.stream).poll_write(cx, only),
            several => Pin::new(&mut self.stream).poll_write_vectored(cx, several),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
