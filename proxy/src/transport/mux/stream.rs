//! A stream, as the rest of the proxy uses it: like a connection of its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use weft_core::traffic::mux::{ResetCode, Unopened};

use super::link::{Link, State, remember};
use crate::transport::{Buffer, Wire};

/// One stream of a connection. Dropping it before both directions have ended breaks it off.
pub(crate) struct MuxStream {
    link: Link,
    number: u32,
}

impl std::fmt::Debug for MuxStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MuxStream").field("number", &self.number).finish_non_exhaustive()
    }
}

impl MuxStream {
    pub(super) fn new(link: Link, number: u32) -> Self {
        Self { link, number }
    }

    /// Breaks the stream off and says why.
    pub(crate) fn refuse(self, code: ResetCode) {
        self.link.with(|state| state.mux.reset(self.number, code));
    }
}

impl Drop for MuxStream {
    fn drop(&mut self) {
        self.link.with(|state| state.remove(self.number));
    }
}

/// Ready with whether there are bytes to read; an error when there will be none.
fn poll_bytes(state: &mut State, number: u32, cx: &Context<'_>) -> Poll<io::Result<bool>> {
    let over = state.over;
    let Some(end) = state.ends.get_mut(&number) else {
        return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
    };
    if !end.input.is_empty() {
        return Poll::Ready(Ok(true));
    }
    match (end.has_all, end.fault.or(over)) {
        (true, _) => Poll::Ready(Ok(false)),
        (false, Some(fault)) => Poll::Ready(Err(fault.into())),
        (false, None) => {
            remember(&mut end.reader, cx.waker());
            Poll::Pending
        }
    }
}

/// Notes that bytes were read; credit that is due goes out with what else does.
fn note_read(state: &mut State, number: u32, count: usize) {
    state.mux.read(number, count);
    if !state.mux.output().is_empty() {
        state.wake();
    }
}

impl Wire for MuxStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let number = self.number;
        self.link.with(|state| poll_bytes(state, number, cx).map_ok(|_| ()))
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let number = self.number;
        self.link.with(|state| {
            let over = state.over;
            match state.ends.get_mut(&number) {
                Some(end) if end.fault.or(over).is_none() => {
                    remember(&mut end.watcher, cx.waker());
                    Poll::Pending
                }
                Some(_) | None => Poll::Ready(()),
            }
        })
    }

    fn is_fit(&self) -> bool {
        self.link.can_open() != Err(Unopened::Leaving)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        if !buffer.is_empty() {
            return buffer.poll_fill(cx, self);
        }
        let number = self.number;
        self.link.with(|state| {
            poll_bytes(state, number, cx).map_ok(|has_bytes| {
                let Some(end) = state.ends.get_mut(&number).filter(|_| has_bytes) else { return 0 };
                // Whole, without copying: what comes next goes into a buffer of its own.
                buffer.release();
                std::mem::swap(buffer, &mut end.input);
                let count = buffer.filled().len();
                note_read(state, number, count);
                count
            })
        })
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let number = self.number;
        self.link.with(|state| {
            poll_bytes(state, number, cx).map_ok(|has_bytes| {
                let Some(end) = state.ends.get_mut(&number).filter(|_| has_bytes) else { return };
                let count = buf.remaining().min(end.input.filled().len());
                buf.put_slice(&end.input.filled()[..count]);
                end.input.consume(count);
                end.input.release();
                note_read(state, number, count);
            })
        })
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let number = self.number;
        self.link.with(|state| state.poll_write(cx, number, bytes))
    }

    /// What was written leaves without being asked for.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let number = self.number;
        self.link.with(|state| {
            let over = state.over;
            if let Some(end) = state.ends.get_mut(&number) {
                if let Some(fault) = end.fault.or(over) {
                    return Poll::Ready(Err(fault.into()));
                }
                end.has_ended = true;
            }
            state.mux.end(number);
            state.wake();
            Poll::Ready(Ok(()))
        })
    }
}
