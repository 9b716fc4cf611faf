//! The body of an answer that is a value, and goes on slowly because its route says so.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use weft_core::traffic::Throttle;

use super::super::slowed::Slowed;
use super::incoming::{BrokenBody, Incoming};

/// What keeps a body back, and what of it has come already.
#[derive(Debug)]
pub(crate) struct SlowBody {
    slowed: Slowed,
    held: Bytes,
}

impl SlowBody {
    /// Makes that of a body that has not begun.
    pub(super) fn new(throttle: Throttle) -> Box<Self> {
        Box::new(Self { slowed: Slowed::new(throttle), held: Bytes::new() })
    }

    /// Returns how many bytes have come and wait.
    pub(super) fn waiting(&self) -> usize {
        self.held.len()
    }

    /// Reads on; nothing more comes from the body while some of it waits.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        loop {
            if !self.held.is_empty() {
                let count = ready!(self.slowed.poll_allowed(cx, self.held.len()));
                self.slowed.pass(count);
                return Poll::Ready(Some(Ok(Frame::data(self.held.split_to(count)))));
            }
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.held = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
            if self.held.is_empty() && body.is_end_stream() {
                return Poll::Ready(None);
            }
        }
    }
}
