//! A stream, as the rest of the proxy uses it: like a connection of its own.

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_core::traffic::mux::ResetCode;

use super::datagrams::Session;
use super::link::Tally;
use super::{code, meaning};
use crate::transport::{Beside, Buffer, Wire};

/// What is taken at once to see whether there is something.
const LOOK_BYTES: usize = 16 << 10;

/// One stream of a connection. Dropping it before both directions have ended breaks it off.
pub(crate) struct QuicStream {
    send: SendStream,
    recv: RecvStream,
    /// What has come and was not asked for yet.
    ahead: Bytes,
    has_all: bool,
    has_ended: bool,
    /// Datagrams that go and come beside it, where it carries such.
    session: Option<Session>,
    /// The streams that it is one of.
    tally: Rc<Tally>,
    /// Ready when the peer wants no more, or has it all.
    stopped: Option<Pin<Box<dyn Future<Output = bool>>>>,
}

impl std::fmt::Debug for QuicStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicStream").field("id", &self.send.id()).finish_non_exhaustive()
    }
}

impl QuicStream {
    pub(super) fn new((send, recv): (SendStream, RecvStream), tally: &Rc<Tally>) -> Self {
        tally.open();
        let tally = tally.clone();
        let (ahead, session, stopped) = (Bytes::new(), None, None);
        Self { send, recv, ahead, has_all: false, has_ended: false, session, tally, stopped }
    }

    /// Begins to carry datagrams.
    pub(super) fn begin_session(&mut self) {
        let number = quinn::VarInt::from(self.send.id()).into_inner();
        self.session = Some(Session::begin(&self.tally, number));
    }

    /// Breaks the stream off and says why.
    pub(crate) fn refuse(mut self, why: ResetCode) {
        self.break_off(why);
    }

    /// Whether it is worth a request: its connection stays, and something was heard on it lately.
    pub(crate) fn is_fit(&self) -> bool {
        self.tally.is_fit()
    }

    /// Takes the first byte, which says what the stream carries.
    pub(super) fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<u8>> {
        Poll::Ready(match ready!(self.poll_bytes(cx))? {
            true => Ok(self.ahead.get_u8()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    fn break_off(&mut self, why: ResetCode) {
        // What has ended already needs no end.
        if !std::mem::replace(&mut self.has_ended, true) {
            let _ = self.send.reset(code(why));
        }
        if !std::mem::replace(&mut self.has_all, true) {
            let _ = self.recv.stop(code(why));
        }
    }

    /// Ready with whether there are bytes to read; an error when there will be none.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.has_all {
            return Poll::Ready(Ok(false));
        }
        // It keeps nothing: what is dropped here has not come yet.
        let read = pin!(self.recv.read_chunk(LOOK_BYTES, true));
        Poll::Ready(match ready!(read.poll(cx)) {
            Ok(Some(chunk)) => {
                self.tally.heard(chunk.bytes.len());
                self.ahead = chunk.bytes;
                Ok(true)
            }
            Ok(None) => {
                self.has_all = true;
                Ok(false)
            }
            Err(error) => Err(unreadable(&error)),
        })
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        self.break_off(ResetCode::Broken);
        self.tally.close();
    }
}

fn unreadable(error: &ReadError) -> io::Error {
    match error {
        ReadError::Reset(code) => meaning(*code).into(),
        ReadError::ConnectionLost(lost) => broken(lost),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            io::ErrorKind::NotConnected.into()
        }
    }
}

fn unwritable(error: &WriteError) -> io::Error {
    match error {
        WriteError::Stopped(code) => meaning(*code).into(),
        WriteError::ConnectionLost(lost) => broken(lost),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            io::ErrorKind::NotConnected.into()
        }
    }
}

fn broken(lost: &quinn::ConnectionError) -> io::Error {
    let kind = match lost {
        quinn::ConnectionError::TimedOut => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, lost.to_string())
}

impl Wire for QuicStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_bytes(cx).map_ok(|_| ())
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let send = &self.send;
        let stopped = self.stopped.get_or_insert_with(|| {
            let stopped = send.stopped();
            Box::pin(async move { !matches!(stopped.await, Ok(None)) })
        });
        match ready!(stopped.as_mut().poll(cx)) {
            true => Poll::Ready(()),
            false => {
                self.stopped = Some(Box::pin(std::future::pending()));
                Poll::Pending
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        // A buffer is taken only for what has come.
        match ready!(self.poll_bytes(cx))? {
            true => buffer.poll_fill(cx, self),
            false => Poll::Ready(Ok(0)),
        }
    }

    fn send_beside(&mut self, datagram: &[u8]) -> Beside {
        self.session.as_ref().map_or(Beside::Unfit, |session| session.send(datagram))
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.session.as_ref().map_or(Poll::Pending, |session| session.poll_take(cx))
    }

    fn take_lost(&mut self) -> u64 {
        self.session.as_ref().map_or(0, Session::take_lost)
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !ready!(self.poll_bytes(cx))? {
            return Poll::Ready(Ok(()));
        }
        let count = buf.remaining().min(self.ahead.len());
        buf.put_slice(&self.ahead.split_to(count));
        if buf.remaining() > 0 && self.ahead.is_empty() && !self.has_all {
            // Datagrams are small: what else has come goes along.
            let before = buf.filled().len();
            match self.recv.poll_read_buf(cx, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() == before => self.has_all = true,
                Poll::Ready(Ok(())) => self.tally.heard(buf.filled().len() - before),
                // Whoever reads next is told.
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.send).poll_write(cx, bytes));
        Poll::Ready(match written {
            Ok(count) => {
                self.tally.said(count);
                Ok(count)
            }
            Err(error) => Err(unwritable(&error)),
        })
    }

    /// What was written leaves without being asked for.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.has_ended, true) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.send.finish().map_err(|_| io::ErrorKind::NotConnected.into()))
    }
}
