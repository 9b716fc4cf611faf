//! Read buffers, lent from a stack per thread so that idle connections hold none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of a buffer: a TLS record of the largest size with room for most of the next.
const BUFFER_BYTES: usize = 32 << 10;
/// Bytes of a buffer for what has come already and is short: a request or an answer without a body.
const SMALL_BYTES: usize = 2 << 10;
/// Buffers kept for reuse by one thread; the busiest connections use the warmest memory.
const SPARE_BUFFERS_MAX: usize = 64;
const SPARE_SMALL_MAX: usize = 256;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static SPARE_SMALL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read and not yet used.
///
/// Holds no memory until it is filled, nor after [`Buffer::release`].
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Returns the bytes not yet used.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Marks bytes as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the memory back if nothing is in it.
    pub(crate) fn release(&mut self) {
        if !self.is_empty() || self.bytes.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        let (spares, count_max) = match bytes.len() {
            BUFFER_BYTES => (&SPARE, SPARE_BUFFERS_MAX),
            SMALL_BYTES => (&SPARE_SMALL, SPARE_SMALL_MAX),
            _ => return,
        };
        spares.with_borrow_mut(|spare| {
            if spare.len() < count_max {
                spare.push(bytes);
            }
        });
    }

    /// Adds bytes that are there already; the caller bounds what it lets pile up.
    pub(crate) fn append(&mut self, more: &[u8]) {
        if self.end + more.len() > self.bytes.len() {
            self.make_place(more.len());
        }
        self.bytes[self.end..self.end + more.len()].copy_from_slice(more);
        self.end += more.len();
    }

    /// Makes room for so many bytes behind those that are there.
    fn make_place(&mut self, more: usize) {
        let wanted = self.end - self.start + more;
        if wanted > self.bytes.len() {
            let roomy = if wanted <= SMALL_BYTES {
                take_spare(&SPARE_SMALL, SMALL_BYTES)
            } else if wanted <= BUFFER_BYTES {
                take_spare(&SPARE, BUFFER_BYTES)
            } else {
                vec![0; wanted.next_power_of_two()].into()
            };
            let mut roomy = Self { bytes: roomy, start: 0, end: self.end - self.start };
            roomy.bytes[..roomy.end].copy_from_slice(self.filled());
            // What was there before goes back to its spares.
            *self = roomy;
        } else {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Reads once; ready with the number of bytes, 0 at the end.
    ///
    /// Makes room by moving what is there to the front, and grows when even that does not
    /// help; the caller bounds what it lets pile up.
    pub(crate) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut space = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(from).poll_read(cx, &mut space))?;
        let count = space.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }

    fn make_room(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = take_spare(&SPARE, BUFFER_BYTES);
        }
        if self.end < self.bytes.len() {
            return;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else {
            let mut grown = vec![0; self.bytes.len() * 2];
            grown[..self.end].copy_from_slice(&self.bytes);
            self.bytes = grown.into();
        }
    }
}

type Spares = std::thread::LocalKey<RefCell<Vec<Box<[u8]>>>>;

fn take_spare(spares: &'static Spares, count: usize) -> Box<[u8]> {
    let spare = spares.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| vec![0; count].into())
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.consume(usize::MAX);
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffer: &mut Buffer, mut from: &[u8]) -> usize {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match buffer.poll_fill(&mut cx, &mut from) {
            Poll::Ready(Ok(count)) => count,
            other => panic!("a slice is always ready: {other:?}"),
        }
    }

    #[test]
    fn bytes_come_out_as_they_went_in_while_the_buffer_moves_and_grows() {
        let mut buffer = Buffer::default();
        let text: Vec<u8> = (0..BUFFER_BYTES).map(|n| n as u8).collect();
        assert_eq!(fill(&mut buffer, &text), BUFFER_BYTES);
        buffer.consume(10);
        assert_eq!(fill(&mut buffer, b"0123456789"), 10);
        assert_eq!(fill(&mut buffer, b"more"), 4);
        assert_eq!(&buffer.filled()[..5], &text[10..15]);
        assert_eq!(&buffer.filled()[BUFFER_BYTES - 10..], b"0123456789more");
        buffer.release();
        assert!(!buffer.is_empty());
        buffer.consume(usize::MAX);
        buffer.release();
        assert!(buffer.bytes.is_empty());
        assert_eq!(fill(&mut buffer, b""), 0);
    }

    #[test]
    fn what_is_there_already_takes_no_more_room_than_it_needs() {
        let mut buffer = Buffer::default();
        let text: Vec<u8> = (0..3 * BUFFER_BYTES).map(|n| n as u8).collect();
        let mut appended = 0;
        for (count, room) in
            [(1_000, SMALL_BYTES), (1_048, SMALL_BYTES), (1, BUFFER_BYTES), (40_000, 64 << 10)]
        {
            buffer.append(&text[appended..appended + count]);
            appended += count;
            assert_eq!(buffer.bytes.len(), room);
            assert_eq!(buffer.filled(), &text[..appended]);
        }
        buffer.consume(40_000);
        buffer.append(&text[appended..appended + 40_000]);
        assert_eq!(buffer.bytes.len(), 64 << 10, "what was used has made room");
        assert_eq!(buffer.filled(), &text[40_000..appended + 40_000]);
    }
}
