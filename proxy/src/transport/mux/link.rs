//! One connection with many streams: what its driver and its streams share.
//!
//! Streams put frames down and wake the driver; since the runtime runs what is ready in order, the
//! driver comes after all tasks that were ready with them, and one record and one system call carry
//! what all of them said. When nothing else is ready it comes at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IoSlice, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use weft_core::traffic::mux::{
    Event, HEADER_BYTES, Mux, ResetCode, Side, StreamKind, Unopened, Violation,
};
use weft_runtime::clock;
use weft_runtime::tls::rustls::Connection;

use super::stream::MuxStream;
use crate::observe::MuxCounts;
use crate::transport::{Buffer, meaning};

/// Bytes on their way to the socket beyond which streams wait: what a gigabit carries in two
/// milliseconds.
const UNSENT_BYTES_MAX: usize = 256 << 10;
/// Bytes on their way that nothing honest brings about: frames about streams are not held back.
const UNSENT_BYTES_ABSURD: usize = 8 << 20;
/// Bytes of one write from which on they are encrypted where they lie, not put down first.
const APART_BYTES_MIN: usize = 4 << 10;
/// Bytes of a TLS record.
///
/// **Source**: Spec: RFC 8446 §5.1.
const RECORD_BYTES: usize = 16 << 10;
/// What a record adds to its content.
const RECORD_OVERHEAD: usize = 22;
/// Bytes of the frames' buffer that a quiet connection keeps.
const OUTPUT_BYTES_KEPT: usize = 4 << 10;

/// A connection. Clones of the handle are the same.
#[derive(Clone)]
pub(crate) struct Link(Rc<RefCell<State>>);

pub(super) struct State {
    pub(super) mux: Mux,
    pub(super) tls: Connection,
    /// What the streams' handles hold, until they are dropped.
    pub(super) ends: BTreeMap<u32, End>,
    /// Encrypted bytes that the socket has not taken.
    unsent: usize,
    /// Streams that wait until fewer are unsent.
    crowded: Vec<u32>,
    driver: Option<Waker>,
    pub(super) over: Option<io::ErrorKind>,
    /// Since when no stream is open.
    idle_since: Option<Instant>,
    pub(super) counts: Arc<MuxCounts>,
}

/// One stream, as its handle sees it.
#[derive(Default)]
pub(super) struct End {
    pub(super) input: Buffer,
    pub(super) has_all: bool,
    pub(super) fault: Option<io::ErrorKind>,
    pub(super) has_ended: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Who wants to know when it is broken off, beside those two.
    pub(super) watcher: Option<Waker>,
}

impl Link {
    /// Begins a connection whose handshake is done.
    pub(super) fn new(
        side: Side,
        mut tls: Connection,
        workers: u16,
        counts: &Arc<MuxCounts>,
    ) -> Self {
        // What piles up is bounded here, by what the socket has not taken.
        tls.set_buffer_limit(None);
        let now = clock::instant();
        counts.connections_opened.add(1);
        Self(Rc::new(RefCell::new(State {
            mux: Mux::new(side, workers, now),
            tls,
            ends: BTreeMap::new(),
            unsent: 0,
            crowded: Vec::new(),
            driver: None,
            over: None,
            idle_since: Some(now),
            counts: counts.clone(),
        })))
    }

    pub(super) fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.borrow_mut())
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// [`Unopened`].
    pub(crate) fn open(&self, kind: StreamKind) -> Result<MuxStream, Unopened> {
        let number = self.with(|state| {
            if state.over.is_some() {
                return Err(Unopened::Leaving);
            }
            let number = state.mux.open(kind)?;
            state.add(number);
            state.wake();
            Ok(number)
        })?;
        Ok(MuxStream::new(self.clone(), number))
    }

    /// Whether a stream can be opened.
    pub(crate) fn can_open(&self) -> Result<(), Unopened> {
        self.with(|state| match state.over {
            Some(_) => Err(Unopened::Leaving),
            None => state.mux.can_open(),
        })
    }

    /// Returns how many streams are open.
    pub(crate) fn streams(&self) -> usize {
        self.with(|state| state.mux.streams())
    }

    /// Returns how many workers the peer has; `None` until it has said so.
    pub(crate) fn peer_workers(&self) -> Option<u16> {
        self.with(|state| state.mux.peer_workers())
    }

    /// Opens no further streams; the connection ends with the last one.
    pub(crate) fn leave(&self) {
        self.with(|state| {
            state.mux.leave();
            state.wake();
        });
    }

    /// Whether it has been without streams for so long.
    pub(crate) fn is_idle(&self, now: Instant, idle_max: Duration) -> bool {
        self.with(|state| state.idle_since.is_some_and(|since| now - since > idle_max))
    }
}

impl State {
    pub(super) fn add(&mut self, stream: u32) {
        self.ends.insert(stream, End::default());
        self.counts.streams_opened.add(1);
        self.idle_since = None;
    }

    /// Takes a stream's handle out.
    pub(super) fn remove(&mut self, stream: u32) {
        self.ends.remove(&stream);
        self.counts.streams_closed.add(1);
        self.mux.reset(stream, ResetCode::Broken);
        if self.ends.is_empty() {
            self.idle_since = Some(clock::instant());
        }
        self.wake();
    }

    /// Has the driver run after what is ready now.
    pub(super) fn wake(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    pub(super) fn set_driver(&mut self, waker: &Waker) {
        match &mut self.driver {
            Some(driver) => driver.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Takes bytes of a stream, as many as may be sent; pending when none may.
    pub(super) fn poll_write(
        &mut self,
        cx: &Context<'_>,
        stream: u32,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(end) = self.ends.get_mut(&stream) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let fault = end.fault.or(self.over);
        if let Some(fault) = fault.or(end.has_ended.then_some(io::ErrorKind::BrokenPipe)) {
            return Poll::Ready(Err(fault.into()));
        }
        let is_crowded = self.unsent + self.mux.output().len() > UNSENT_BYTES_MAX;
        let may_send = if is_crowded { 0 } else { self.mux.may_send(stream).min(bytes.len()) };
        if may_send == 0 && !bytes.is_empty() {
            remember(&mut end.writer, cx.waker());
            if is_crowded {
                self.crowded.push(stream);
            }
            return Poll::Pending;
        }
        let count = match may_send >= APART_BYTES_MIN {
            true => self.send_apart(stream, &bytes[..may_send])?,
            false => self.mux.send(stream, bytes),
        };
        self.wake();
        Poll::Ready(Ok(count))
    }

    /// Encrypts bytes where they lie, behind the frames that were put down; as many as fill records,
    /// if they fill any.
    fn send_apart(&mut self, stream: u32, bytes: &[u8]) -> io::Result<usize> {
        let before = self.mux.output().len() + HEADER_BYTES;
        let whole = (before + bytes.len()) / RECORD_BYTES * RECORD_BYTES;
        let count = if whole > before { whole - before } else { bytes.len() };
        let Some(header) = self.mux.send_apart(stream, count) else { return Ok(0) };
        let slices =
            [IoSlice::new(self.mux.output()), IoSlice::new(&header), IoSlice::new(&bytes[..count])];
        let taken = self.tls.writer().write_vectored(&slices)?;
        self.note_encrypted(taken);
        self.mux.output().clear();
        Ok(count)
    }

    fn note_encrypted(&mut self, content: usize) {
        self.unsent += content + content.div_ceil(RECORD_BYTES) * RECORD_OVERHEAD;
        self.counts.bytes_sent.add(content as u64);
    }

    /// Encrypts what was put down and gives the socket what it takes. Ready when nothing is left.
    pub(super) fn poll_send(&mut self, to: &mut impl Write) -> Poll<io::Result<()>> {
        let out = self.mux.output();
        if !out.is_empty() {
            let count = out.len();
            self.tls.writer().write_all(out)?;
            out.clear();
            out.shrink_to(OUTPUT_BYTES_KEPT);
            self.note_encrypted(count);
        }
        if self.unsent > UNSENT_BYTES_ABSURD {
            return Poll::Ready(Err(io::Error::other("the peer takes nothing and asks for more")));
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(to) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.unsent = self.unsent.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.let_writers_in();
                    return Poll::Pending;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.unsent = 0;
        self.let_writers_in();
        Poll::Ready(Ok(()))
    }

    fn let_writers_in(&mut self) {
        if self.unsent > UNSENT_BYTES_MAX / 2 {
            return;
        }
        for stream in self.crowded.drain(..) {
            if let Some(waker) = self.ends.get_mut(&stream).and_then(|end| end.writer.take()) {
                waker.wake();
            }
        }
    }

    /// Decrypts bytes off the socket and hands them out; returns the streams that were opened, and
    /// whether the peer has said goodbye.
    pub(super) fn take(
        &mut self,
        ahead: &mut Buffer,
        opened: &mut Vec<(u32, StreamKind)>,
    ) -> Result<bool, Broken> {
        let now = clock::instant();
        loop {
            let is_last = ahead.is_empty();
            if !is_last {
                let count = self.tls.read_tls(&mut ahead.filled())?;
                ahead.consume(count);
            }
            let seen = self.tls.process_new_packets().map_err(io::Error::other)?;
            let mut left = seen.plaintext_bytes_to_read();
            while left > 0 {
                let chunk = self.tls.reader().into_first_chunk()?;
                let count = chunk.len();
                let mut input = chunk;
                self.counts.bytes_received.add(count as u64);
                while let Some(event) = self.mux.handle_bytes(&mut input, now)? {
                    hear(event, &mut self.ends, &self.counts, opened);
                }
                std::io::BufRead::consume(&mut self.tls.reader(), count);
                left -= count;
            }
            if !opened.is_empty() {
                self.idle_since = None;
            }
            if is_last || seen.peer_has_closed() {
                return Ok(seen.peer_has_closed());
            }
        }
    }

    /// Ends every stream.
    pub(super) fn end(&mut self, why: io::ErrorKind) {
        self.over = Some(why);
        self.driver = None;
        self.counts.connections_closed.add(1);
        for end in self.ends.values_mut() {
            end.wake_all();
        }
    }
}

/// Why a connection ends before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The peer breaks the rules.
    #[error("the peer breaks the rules of the protocol")]
    Violation(#[from] Violation),
}

fn hear(
    event: Event<'_>,
    ends: &mut BTreeMap<u32, End>,
    counts: &Arc<MuxCounts>,
    opened: &mut Vec<(u32, StreamKind)>,
) {
    match event {
        Event::Data { stream, bytes, is_end } => {
            if let Some(end) = ends.get_mut(&stream) {
                end.input.append(bytes);
                end.has_all = is_end;
                end.reader.take().into_iter().for_each(Waker::wake);
            }
        }
        Event::GoAway { last, .. } => {
            for (_, end) in ends.range_mut(last.saturating_add(1)..) {
                end.break_off(io::ErrorKind::ConnectionRefused);
            }
        }
        Event::Opened { stream, kind } => {
            ends.insert(stream, End::default());
            counts.streams_opened.add(1);
            opened.push((stream, kind));
        }
        Event::Ready => {}
        Event::Reset { stream, code } => {
            counts.resets_received.add(1);
            if let Some(end) = ends.get_mut(&stream) {
                end.break_off(meaning(code));
            }
        }
        Event::Writable { stream } => {
            let waker = ends.get_mut(&stream).and_then(|end| end.writer.take());
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl End {
    fn break_off(&mut self, fault: io::ErrorKind) {
        self.fault = Some(fault);
        self.wake_all();
    }

    fn wake_all(&mut self) {
        let waiting = [&mut self.reader, &mut self.writer, &mut self.watcher];
        waiting.into_iter().filter_map(Option::take).for_each(Waker::wake);
    }
}

pub(super) fn remember(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(kept) => kept.clone_from(waker),
        none => *none = Some(waker.clone()),
    }
}
