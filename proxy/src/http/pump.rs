//! A body on its way from one connection to another.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use weft_core::traffic::Throttle;

use super::body_copy::BodyCopy;
use super::h1::{BodyError, BodyReader, Emission, Framing, write_chunk_end, write_chunk_start};
use super::kept::Kept;
use super::slowed::Slowed;
use super::watch::Lateness;
use crate::transport::{Buffer, Wire};

/// Moves one body; the framing is followed, and the bytes go on as they are or framed anew.
#[derive(Debug)]
pub(crate) struct Pump {
    reader: BodyReader,
    emission: Emission,
    /// Bytes at the front of the source's buffer that belong to the body and can be written.
    ready: usize,
    /// Bytes framed anew, and how many of them were written.
    staged: Vec<u8>,
    staged_written: usize,
    is_unflushed: bool,
    /// Where what has left is kept, if it may have to leave again.
    pub(crate) kept: Option<Box<Kept>>,
    /// What else becomes of it.
    aside: Option<Box<Aside>>,
    /// Bytes of the body so far, framing included.
    pub(crate) moved: u64,
}

/// What else becomes of a body because a route says so. Few have any of it, and no body has both: of requests there
/// are copies, and answers are slowed down.
#[derive(Debug)]
enum Aside {
    Copied(Box<dyn BodyCopy>),
    Slowed(Slowed),
}

/// States which end of a body's way failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PumpError {
    /// The bytes are not the body that was announced.
    #[error("the body is malformed or breaks off")]
    Body(#[source] BodyError),
    /// The source failed.
    #[error("cannot read the body")]
    From(#[source] io::Error),
    /// Nothing has moved for as long as the route allows.
    #[error("nothing has moved for the route's idle timeout")]
    Idle,
    /// There is more of it than may be.
    #[error("the body is larger than this proxy lets through")]
    TooLarge,
    /// The destination failed.
    #[error("cannot write the body")]
    To(#[source] io::Error),
}

impl PumpError {
    /// Says in a word why an answer broke off on its way to the client.
    pub(super) fn answer_cause(&self) -> &'static str {
        match self {
            Self::Idle => "idle-timeout",
            Self::To(_) => "client-gone",
            Self::Body(_) | Self::From(_) | Self::TooLarge => "upstream-broken",
        }
    }

    /// Says that nothing has moved for too long.
    pub(super) fn late(lateness: Lateness) -> Self {
        match lateness {
            Lateness::Answer => Self::From(io::ErrorKind::TimedOut.into()),
            Lateness::Idle => Self::Idle,
        }
    }
}

impl Pump {
    /// Makes a pump for a body of which nothing was moved yet.
    pub(crate) fn new(framing: Framing, emission: Emission) -> Self {
        Self {
            reader: BodyReader::new(framing),
            emission,
            ready: 0,
            staged: Vec::new(),
            staged_written: 0,
            is_unflushed: false,
            kept: None,
            aside: None,
            moved: 0,
        }
    }

    /// Whether the source has given all of the body.
    pub(crate) fn is_read(&self) -> bool {
        self.reader.is_done()
    }

    /// Returns a number that rises whenever something moves.
    pub(crate) fn progress(&self) -> u64 {
        self.moved
            + match self.aside.as_deref() {
                Some(Aside::Slowed(slowed)) => slowed.passed(),
                Some(Aside::Copied(_)) | None => 0,
            }
    }

    /// Has somebody take a copy of the body.
    pub(super) fn copy_to(&mut self, copy: Option<Box<dyn BodyCopy>>) {
        self.aside = copy.map(|copy| Box::new(Aside::Copied(copy)));
    }

    /// Has the body go on slowly.
    pub(super) fn slow_down(&mut self, throttle: Option<Throttle>) {
        self.aside = throttle.map(|throttle| Box::new(Aside::Slowed(Slowed::new(throttle))));
    }

    fn slowed(&mut self) -> Option<&mut Slowed> {
        match self.aside.as_deref_mut()? {
            Aside::Copied(_) => None,
            Aside::Slowed(slowed) => Some(slowed),
        }
    }

    /// Appends what is in the buffer already to what is written first, the head: one write, and
    /// between proxies one TLS record.
    pub(crate) fn take_first(
        &mut self,
        buffer: &mut Buffer,
        out: &mut Vec<u8>,
    ) -> Result<(), PumpError> {
        if self.reader.is_done() || buffer.is_empty() || self.slowed().is_some() {
            return Ok(());
        }
        self.take(buffer)?;
        if self.emission == Emission::Verbatim {
            out.extend_from_slice(&buffer.filled()[..self.ready]);
            buffer.consume(std::mem::take(&mut self.ready));
        } else {
            out.append(&mut self.staged);
        }
        Ok(())
    }

    /// Ready when all of the body has been written and flushed.
    pub(crate) fn poll<A: Wire, B: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        (from, buffer): (&mut A, &mut Buffer),
        to: &mut B,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            ready!(self.poll_write(cx, buffer, to))?;
            if self.reader.is_done() {
                return self.poll_flush(cx, to);
            }
            if buffer.is_empty() {
                // What was written must not wait for what is still to come.
                let flushed = self.poll_flush(cx, to);
                if let Poll::Ready(Err(error)) = flushed {
                    return Poll::Ready(Err(error));
                }
                if ready!(from.poll_fill(cx, buffer)).map_err(PumpError::From)? == 0 {
                    self.reader.end().map_err(PumpError::Body)?;
                    if self.emission == Emission::Chunked {
                        write_chunk_end(true, &mut self.staged);
                    }
                    continue;
                }
            }
            self.take(buffer)?;
        }
    }

    /// Ends a copy of what has been read whole.
    pub(super) fn end_copy(&mut self) {
        if !self.reader.is_done() {
            return;
        }
        match self.aside.take().map(|aside| *aside) {
            Some(Aside::Copied(copy)) => copy.end(),
            slowed => self.aside = slowed.map(Box::new),
        }
    }

    fn take(&mut self, buffer: &mut Buffer) -> Result<(), PumpError> {
        let (staged, aside) = (&mut self.staged, &mut self.aside);
        let emission = self.emission;
        let count = self
            .reader
            .take(buffer.filled(), |content| {
                if let Some(Aside::Copied(copy)) = aside.as_deref_mut() {
                    copy.take(content);
                }
                match emission {
                    Emission::Chunked => {
                        write_chunk_start(content.len(), staged);
                        staged.extend_from_slice(content);
                        write_chunk_end(false, staged);
                    }
                    Emission::Unframed => staged.extend_from_slice(content),
                    Emission::Verbatim => {}
                }
            })
            .map_err(PumpError::Body)?;
        self.moved += count as u64;
        self.end_copy();
        match emission {
            Emission::Verbatim => self.ready = count,
            Emission::Chunked | Emission::Unframed => buffer.consume(count),
        }
        Ok(())
    }

    fn poll_write<B: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        to: &mut B,
    ) -> Poll<Result<(), PumpError>> {
        while self.staged_written < self.staged.len() {
            let rest = self.staged.len() - self.staged_written;
            let most = self.staged_written + ready!(self.poll_allowed(cx, rest, to))?;
            let rest = &self.staged[self.staged_written..most];
            let count = ready!(poll_write_some(cx, rest, to))?;
            self.staged_written += count;
            self.note_written(count);
        }
        self.staged.clear();
        self.staged_written = 0;
        while self.ready > 0 {
            let most = ready!(self.poll_allowed(cx, self.ready, to))?;
            let count = ready!(poll_write_some(cx, &buffer.filled()[..most], to))?;
            if let Some(kept) = &mut self.kept {
                kept.keep(&buffer.filled()[..count]);
            }
            buffer.consume(count);
            self.ready -= count;
            self.note_written(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Ready with how many of so many bytes may be written now; what was written before does not wait for them.
    fn poll_allowed<B: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
        to: &mut B,
    ) -> Poll<Result<usize, PumpError>> {
        let Some(slowed) = self.slowed() else { return Poll::Ready(Ok(bytes)) };
        match slowed.poll_allowed(cx, bytes) {
            Poll::Ready(count) => Poll::Ready(Ok(count)),
            Poll::Pending => match self.poll_flush(cx, to) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            },
        }
    }

    fn note_written(&mut self, count: usize) {
        self.is_unflushed = true;
        if let Some(slowed) = self.slowed() {
            slowed.pass(count);
        }
    }

    fn poll_flush<B: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut B,
    ) -> Poll<Result<(), PumpError>> {
        if self.is_unflushed {
            ready!(Pin::new(to).poll_flush(cx)).map_err(PumpError::To)?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

fn poll_write_some<B: Wire>(
    cx: &mut Context<'_>,
    bytes: &[u8],
    to: &mut B,
) -> Poll<Result<usize, PumpError>> {
    match ready!(Pin::new(to).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(PumpError::To(io::ErrorKind::WriteZero.into()))),
        Ok(count) => Poll::Ready(Ok(count)),
        Err(error) => Poll::Ready(Err(PumpError::To(error))),
    }
}
