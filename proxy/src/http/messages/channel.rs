//! One stream that carries messages both ways: what is read from it and what is to be written.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;
use weft_core::traffic::message::{MessageReader, Piece, RecordKind, write_header};
use weft_core::traffic::mux::ResetCode;
use weft_runtime::clock;

use super::body::BrokenMessage;
use crate::transport::{Buffer, HopWire, Lease, Wire};

/// Bytes of a body from which on they are not put beside others first.
const APART_BYTES_MIN: usize = 4 << 10;
/// Bytes that are put beside each other before they are sent.
const TOGETHER_BYTES_MAX: usize = 32 << 10;

/// What was read.
#[derive(Debug)]
pub(super) enum Read {
    Data(Bytes),
    End,
    /// The payload of a head.
    Head(Bytes),
    Reset(u32),
    /// The payload of trailers.
    Trailers(Bytes),
}

/// One stream. What reads and what writes may be two tasks.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// There once it has begun.
    wire: RefCell<Option<HopWire>>,
    /// Where the stream goes when both messages are whole.
    lease: RefCell<Option<Lease<HopWire>>>,
    input: RefCell<(Buffer, MessageReader)>,
    output: RefCell<Output>,
    has_sent: Cell<bool>,
    has_read: Cell<bool>,
    /// Who waits for more to read.
    reader: RefCell<Option<Waker>>,
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    written: usize,
    /// What comes after the bytes, where it lies.
    apart: Bytes,
    /// Whether something that was written is not in `bytes` any more, or need not be.
    has_gone: bool,
}

impl Channel {
    /// Makes that of a stream which came from a caller.
    pub(super) fn called(wire: HopWire) -> Self {
        let channel = Self::default();
        *channel.wire.borrow_mut() = Some(wire);
        channel.note_answered();
        channel
    }

    /// Begins on a stream, or begins again on another one with all that was put down.
    pub(super) fn begin(&self, mut lease: Lease<HopWire>) {
        let output = &mut *self.output.borrow_mut();
        debug_assert!(!output.has_gone, "some of what was put down is gone");
        output.written = 0;
        self.has_sent.set(false);
        *self.input.borrow_mut() = Default::default();
        *self.wire.borrow_mut() = lease.wire.take();
        *self.lease.borrow_mut() = Some(lease);
    }

    /// Keeps nothing that was written: it will not go to another stream.
    pub(super) fn note_answered(&self) {
        self.output.borrow_mut().has_gone = true;
    }

    /// Ends the stream, whoever still holds this: what reads from it is told.
    pub(super) fn close(&self, why: ResetCode) {
        let wire = self.wire.borrow_mut().take();
        wire.into_iter().for_each(|wire| wire.refuse(why));
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    /// Whether all that was put down is still here.
    pub(super) fn can_begin(&self) -> bool {
        !self.output.borrow().has_gone
    }

    fn with_wire<T>(
        &self,
        f: impl FnOnce(&mut HopWire) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.wire.borrow_mut() {
            Some(wire) => f(wire),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Whether the peer has said a whole message.
    pub(super) fn has_read(&self) -> bool {
        self.has_read.get()
    }

    /// Whether some of the peer's next message is here.
    pub(super) fn has_begun(&self) -> bool {
        let (buffer, reader) = &*self.input.borrow();
        !buffer.is_empty() || !reader.is_between_messages()
    }

    /// Goes on to the peer's next message and ours.
    pub(super) fn begin_next(&self) {
        self.has_read.set(false);
        self.output.borrow_mut().bytes.shrink_to(APART_BYTES_MIN);
    }

    /// Reads on; an empty buffer goes back while nothing is there. `None` at the stream's end where no
    /// message has begun.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Read>, BrokenMessage>> {
        let (buffer, reader) = &mut *self.input.borrow_mut();
        loop {
            if let Some((piece, count)) = reader.next(buffer.filled())? {
                let read = match piece {
                    Piece::Data(bytes) => Some(Read::Data(Bytes::copy_from_slice(bytes))),
                    Piece::End => Some(Read::End),
                    Piece::Head(payload) => Some(Read::Head(Bytes::copy_from_slice(payload))),
                    // Nobody here passes them on.
                    Piece::Interim(_) => None,
                    Piece::Reset(reason) => Some(Read::Reset(reason)),
                    Piece::Trailers(payload) => {
                        Some(Read::Trailers(Bytes::copy_from_slice(payload)))
                    }
                };
                buffer.consume(count);
                if matches!(read, Some(Read::End)) {
                    self.has_read.set(true);
                }
                match read {
                    Some(read) => return Poll::Ready(Ok(Some(read))),
                    None => continue,
                }
            }
            if buffer.is_empty() {
                buffer.release();
            }
            let filled = self.with_wire(|wire| wire.poll_fill_ready(cx, buffer));
            if filled.is_pending() {
                *self.reader.borrow_mut() = Some(cx.waker().clone());
            }
            match ready!(filled)? {
                0 if reader.is_between_messages() && buffer.is_empty() => {
                    return Poll::Ready(Ok(None));
                }
                0 => return Poll::Ready(Err(BrokenMessage::early())),
                _ => {}
            }
        }
    }

    /// Whether the end of the peer's message is there to be read, and nothing before it.
    pub(super) fn is_at_end(&self) -> bool {
        if self.has_read.get() {
            return true;
        }
        let (buffer, reader) = &mut *self.input.borrow_mut();
        if !reader.is_at_end(buffer.filled()) {
            return false;
        }
        if let Ok(Some((Piece::End, count))) = reader.next(buffer.filled()) {
            buffer.consume(count);
            self.has_read.set(true);
        }
        true
    }

    /// Ready when the peer has broken the stream off; may be asked beside reading.
    pub(super) fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.with_wire(|wire| wire.poll_broken(cx).map(Ok));
        polled.map(drop)
    }

    /// Puts something down to be written.
    pub(super) fn put<T>(&self, put: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        put(&mut self.output.borrow_mut().bytes)
    }

    /// Puts some of a body down; what is long is to be written before more is put down.
    pub(super) fn put_data(&self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        let output = &mut *self.output.borrow_mut();
        debug_assert!(output.apart.is_empty(), "what lies apart goes first");
        write_header(&mut output.bytes, RecordKind::Data, data.len());
        if data.len() < APART_BYTES_MIN {
            output.bytes.extend_from_slice(&data);
        } else {
            output.apart = data;
        }
    }

    /// Whether what was put down should leave before more is.
    pub(super) fn is_full(&self) -> bool {
        let output = self.output.borrow();
        !output.apart.is_empty() || output.bytes.len() - output.written > TOGETHER_BYTES_MAX
    }

    /// Ready when all that was put down has left.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let output = &mut *self.output.borrow_mut();
        self.with_wire(|wire| output.poll_flush(cx, wire))
    }

    /// Says that nothing more will be written.
    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_wire(|wire| Pin::new(wire).poll_shutdown(cx))
    }

    /// Notes that our message has left whole.
    pub(super) fn note_sent(&self) {
        self.has_sent.set(true);
    }
}

impl Output {
    fn poll_flush(&mut self, cx: &mut Context<'_>, wire: &mut HopWire) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            self.written += ready!(poll_some(cx, wire, &self.bytes[self.written..]))?;
        }
        while !self.apart.is_empty() {
            let count = ready!(poll_some(cx, wire, &self.apart))?;
            self.has_gone = true;
            self.apart.advance(count);
        }
        if self.has_gone || self.bytes.len() > TOGETHER_BYTES_MAX {
            self.forget();
        }
        Pin::new(wire).poll_flush(cx)
    }

    fn forget(&mut self) {
        self.has_gone |= !self.bytes.is_empty();
        self.bytes.clear();
        self.written = 0;
    }
}

fn poll_some(cx: &mut Context<'_>, wire: &mut HopWire, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(wire).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        count => Poll::Ready(Ok(count)),
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let is_over = self.has_sent.get() && self.has_read.get();
        let (buffer, _) = self.input.get_mut();
        // What said more than it was asked for is of no more use.
        if let Some(mut lease) = self.lease.get_mut().take()
            && is_over
            && buffer.is_empty()
        {
            lease.wire = self.wire.get_mut().take();
            lease.give_back(clock::instant());
        }
    }
}
