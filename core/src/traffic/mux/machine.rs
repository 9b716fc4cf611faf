//! One connection's state: its streams, what may be opened, whether the peer lives.
//!
//! Bytes come in by [`Mux::handle_bytes`] and are handed out at once; what is to be sent piles up in
//! [`Mux::output`], which its driver empties. The driver bounds that by asking for no more while it
//! cannot send.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::frame::{Header, Kind, Piece, Reader, write_control};
use super::stream::{ResetCode, Stream, StreamKind, WINDOW_BYTES};
use super::violation::Violation;
use super::{DATA_BYTES_MAX, HEADER_BYTES};

/// Streams at a time on one connection: with what each may hold unread, 16 MB. More requests than
/// that at once are better off on two connections.
const STREAMS_MAX: u32 = 256;
/// Bytes by which the windows of all streams of a connection may have grown: two long transfers at
/// full speed, or many at less.
const GROWTH_BYTES_MAX: u32 = 8 << 20;
/// The last number of a stream; after that a new connection is needed.
const NUMBER_MAX: u32 = u32::MAX >> 1;
/// How long nothing may be heard before the peer is asked whether it lives, and how long it may take
/// to answer: as for HTTP/2 between proxies.
const PING_AFTER: Duration = Duration::from_secs(20);
const PONG_LIMIT: Duration = Duration::from_secs(10);
/// Streams that end unanswered, refused ones and pings: so many at once, and so many a second. A
/// caller whose own callers all give up at once is no attacker; one who goes on is.
const CHURN_BURST: u32 = 1_024;
const CHURN_PER_SECOND: u32 = 256;

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Accepts streams.
    Called,
    /// Opens streams.
    Caller,
}

/// What received bytes say to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes for the reader of a stream; it has to be told [`Mux::read`] as it uses them.
    Data {
        /// The stream.
        stream: u32,
        /// The bytes; may be none when it is the end.
        bytes: &'a [u8],
        /// Whether they are the last.
        is_end: bool,
    },
    /// The peer takes no new streams; those after `last` it has not looked at.
    GoAway {
        /// The last stream that it serves.
        last: u32,
        /// 0, or the number of the rule that we broke.
        code: u32,
    },
    /// The peer has opened a stream.
    Opened {
        /// The stream.
        stream: u32,
        /// What it is to carry.
        kind: StreamKind,
    },
    /// The peer has said what it is.
    Ready,
    /// The peer has broken a stream off; what was received before its end is good.
    Reset {
        /// The stream.
        stream: u32,
        /// Why.
        code: ResetCode,
    },
    /// There is credit for a stream that had none.
    Writable {
        /// The stream.
        stream: u32,
    },
}

/// States why no stream can be opened now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// As many as the peer takes are open.
    #[error("the connection has as many streams as its peer takes")]
    Full,
    /// The connection is to end.
    #[error("the connection takes no new streams")]
    Leaving,
}

/// What a peer has told about itself.
#[derive(Debug, Clone, Copy)]
struct Peer {
    streams_max: u32,
    workers: u16,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Mux {
    side: Side,
    reader: Reader,
    out: Vec<u8>,
    streams: BTreeMap<u32, Stream>,
    /// The number of the stream opened last, by whichever side opens.
    last: u32,
    peer: Option<Peer>,
    /// By how much windows have grown.
    grown: u32,
    /// Whether we have said that we take, or open, no more.
    is_leaving: bool,
    has_peer_left: bool,
    churn: Churn,
    heard: Instant,
    pinged: Option<Instant>,
}

impl Mux {
    /// Begins a connection, in a process with so many workers.
    pub fn new(side: Side, workers: u16, now: Instant) -> Self {
        let mut out = Vec::new();
        let mut hello = [0; 8];
        hello[..4].copy_from_slice(&STREAMS_MAX.to_be_bytes());
        hello[4..6].copy_from_slice(&workers.to_be_bytes());
        write_control(&mut out, Kind::Hello, 0, &hello);
        Self {
            side,
            reader: Reader::default(),
            out,
            streams: BTreeMap::new(),
            last: 0,
            peer: None,
            grown: 0,
            is_leaving: false,
            has_peer_left: false,
            churn: Churn { left: CHURN_BURST, since: now },
            heard: now,
            pinged: None,
        }
    }

    /// Returns what is to be sent; the driver takes it out.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Returns how many streams are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether nothing is left to wait for: no stream, and none may come.
    pub fn is_over(&self) -> bool {
        self.streams.is_empty() && (self.is_leaving || self.has_peer_left)
    }

    /// Whether a stream can be opened.
    pub fn can_open(&self) -> Result<(), Unopened> {
        let streams_max = self.peer.map_or(STREAMS_MAX, |peer| peer.streams_max);
        if self.is_leaving || self.has_peer_left || self.last >= NUMBER_MAX {
            return Err(Unopened::Leaving);
        }
        match self.streams.len() >= streams_max as usize {
            true => Err(Unopened::Full),
            false => Ok(()),
        }
    }

    /// Returns how many workers the peer has; `None` until it has said so.
    pub fn peer_workers(&self) -> Option<u16> {
        self.peer.map(|peer| peer.workers)
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// [`Unopened`].
    pub fn open(&mut self, kind: StreamKind) -> Result<u32, Unopened> {
        debug_assert_eq!(self.side, Side::Caller);
        self.can_open()?;
        self.last += 1;
        self.streams.insert(self.last, Stream::new());
        write_control(&mut self.out, Kind::Open, self.last, &[kind.number()]);
        Ok(self.last)
    }

    /// Takes bytes off the front until they say something; `None` when they are used up.
    ///
    /// # Errors
    /// [`Violation`]: the connection is to end.
    pub fn handle_bytes<'a>(
        &mut self,
        input: &mut &'a [u8],
        now: Instant,
    ) -> Result<Option<Event<'a>>, Violation> {
        (self.heard, self.pinged) = (now, None);
        while let Some(piece) = self.reader.next(input)? {
            let event = match piece {
                Piece::Data { stream, bytes, is_end } => self.take_data(stream, bytes, is_end)?,
                Piece::Control { kind, stream, payload } => {
                    self.take_control((kind, stream), payload, now)?
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn take_data<'a>(
        &mut self,
        number: u32,
        bytes: &'a [u8],
        is_end: bool,
    ) -> Result<Option<Event<'a>>, Violation> {
        let Some(stream) = self.known(number)? else { return Ok(None) };
        if stream.has_received_end {
            return Err(Violation::AfterEnd { stream: number });
        }
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let left = stream.may_receive.checked_sub(count);
        stream.may_receive = left.ok_or(Violation::OverCredit { stream: number })?;
        stream.has_received_end = is_end;
        if is_end {
            self.forget_if_over(number);
        }
        Ok(Some(Event::Data { stream: number, bytes, is_end }))
    }

    fn take_control<'a>(
        &mut self,
        (kind, stream): (Kind, u32),
        payload: [u8; 8],
        now: Instant,
    ) -> Result<Option<Event<'a>>, Violation> {
        let [a, b, c, d, e, f, ..] = payload;
        let number = u32::from_be_bytes([a, b, c, d]);
        if (kind == Kind::Hello) != self.peer.is_none() {
            return Err(Violation::Hello);
        }
        match kind {
            Kind::Hello => {
                let workers = u16::from_be_bytes([e, f]);
                let streams_max = number.min(STREAMS_MAX);
                self.peer = Some(Peer { streams_max, workers });
                Ok(Some(Event::Ready))
            }
            Kind::Open => self.take_open(stream, payload[0], now),
            Kind::Credit => self.take_credit(stream, number),
            Kind::Reset => {
                let Some(known) = self.known(stream)? else { return Ok(None) };
                let is_unanswered = !known.is_answered;
                if is_unanswered && self.side == Side::Called {
                    self.churn.spend(now)?;
                }
                self.forget(stream);
                Ok(Some(Event::Reset { stream, code: ResetCode::of(number) }))
            }
            Kind::GoAway => {
                self.has_peer_left = true;
                let [.., e, f, g, h] = payload;
                let code = u32::from_be_bytes([e, f, g, h]);
                Ok(Some(Event::GoAway { last: number, code }))
            }
            Kind::Ping => {
                self.churn.spend(now)?;
                write_control(&mut self.out, Kind::Pong, 0, &payload);
                Ok(None)
            }
            Kind::Pong => Ok(None),
            Kind::Data => unreachable!("the reader passes data on as data"),
        }
    }

    fn take_open<'a>(
        &mut self,
        stream: u32,
        kind: u8,
        now: Instant,
    ) -> Result<Option<Event<'a>>, Violation> {
        if self.side == Side::Caller || stream != self.last.wrapping_add(1) || stream > NUMBER_MAX {
            return Err(Violation::StreamNumber { stream });
        }
        self.last = stream;
        let refusal = match StreamKind::of(kind) {
            None => ResetCode::WrongKind,
            Some(_) if self.streams.len() >= STREAMS_MAX as usize => ResetCode::Refused,
            Some(kind) => {
                self.streams.insert(stream, Stream::new());
                return Ok(Some(Event::Opened { stream, kind }));
            }
        };
        self.churn.spend(now)?;
        write_control(&mut self.out, Kind::Reset, stream, &refusal.number().to_be_bytes());
        Ok(None)
    }

    fn take_credit<'a>(&mut self, number: u32, more: u32) -> Result<Option<Event<'a>>, Violation> {
        let Some(stream) = self.known(number)? else { return Ok(None) };
        let sum = stream.may_send.checked_add(more).filter(|sum| more > 0 && *sum <= NUMBER_MAX);
        let was_stuck = stream.may_send == 0;
        stream.may_send = sum.ok_or(Violation::Credit { stream: number, more })?;
        Ok(was_stuck.then_some(Event::Writable { stream: number }))
    }

    /// Finds a stream that was opened; `None` when it is over, and what comes for it late.
    fn known(&mut self, number: u32) -> Result<Option<&mut Stream>, Violation> {
        if self.peer.is_none() {
            return Err(Violation::Hello);
        }
        if number > self.last {
            return Err(Violation::StreamNumber { stream: number });
        }
        Ok(self.streams.get_mut(&number))
    }

    /// Returns how many bytes may be sent on a stream now, at most what one frame takes.
    pub fn may_send(&self, stream: u32) -> usize {
        let stream = self.streams.get(&stream).filter(|stream| !stream.has_sent_end);
        stream.map_or(0, |stream| stream.may_send as usize).min(DATA_BYTES_MAX)
    }

    /// Puts data on its way: as much as may be sent. Returns how much that is.
    pub fn send(&mut self, stream: u32, bytes: &[u8]) -> usize {
        let count = self.may_send(stream).min(bytes.len());
        if let Some(header) = self.send_apart(stream, count) {
            self.out.extend_from_slice(&header);
            self.out.extend_from_slice(&bytes[..count]);
        }
        count
    }

    /// Takes the credit for `count` bytes and returns the header of their frame: both are to be sent
    /// right after what is in the output. `None` when there is nothing to send, or it may not be.
    pub fn send_apart(&mut self, stream: u32, count: usize) -> Option<[u8; HEADER_BYTES]> {
        if count == 0 || count > self.may_send(stream) {
            return None;
        }
        let state = self.streams.get_mut(&stream)?;
        let length = u16::try_from(count).ok()?;
        state.may_send -= u32::from(length);
        state.is_answered = true;
        Some(Header { kind: Kind::Data, is_end: false, length, stream }.encode())
    }

    /// Ends our direction of a stream.
    pub fn end(&mut self, stream: u32) {
        if let Some(state) = self.streams.get_mut(&stream)
            && !state.has_sent_end
        {
            state.has_sent_end = true;
            state.is_answered = true;
            let header = Header { kind: Kind::Data, is_end: true, length: 0, stream };
            self.out.extend_from_slice(&header.encode());
            self.forget_if_over(stream);
        }
    }

    /// Breaks a stream off, if it is not over.
    pub fn reset(&mut self, stream: u32, code: ResetCode) {
        if self.streams.contains_key(&stream) {
            self.forget(stream);
            write_control(&mut self.out, Kind::Reset, stream, &code.number().to_be_bytes());
        }
    }

    /// Notes that the reader of a stream has used bytes, and gives credit for more.
    pub fn read(&mut self, stream: u32, count: usize) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        let growth_max = GROWTH_BYTES_MAX - self.grown;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if let Some((credit, growth)) = state.read(count, growth_max) {
            self.grown += growth;
            write_control(&mut self.out, Kind::Credit, stream, &credit.to_be_bytes());
        }
    }

    /// Says that no further streams are wanted, or opened; those under way go on. What the peer opens
    /// before it has heard of that is taken.
    pub fn leave(&mut self) {
        if !self.is_leaving {
            self.is_leaving = true;
            self.write_go_away(NUMBER_MAX, 0);
        }
    }

    /// Says which stream is the last that was looked at, as the connection ends now: what the peer opens
    /// from here on has not begun, and may go elsewhere.
    pub fn close(&mut self) {
        self.is_leaving = true;
        self.write_go_away(self.last, 0);
    }

    /// Says why the connection ends now.
    pub fn give_up(&mut self, violation: Violation) {
        self.is_leaving = true;
        self.write_go_away(self.last, violation.code());
    }

    fn write_go_away(&mut self, last: u32, code: u32) {
        let [a, b, c, d] = last.to_be_bytes();
        let [e, f, g, h] = code.to_be_bytes();
        write_control(&mut self.out, Kind::GoAway, 0, &[a, b, c, d, e, f, g, h]);
    }

    /// Returns when [`Mux::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Instant {
        match self.pinged {
            Some(pinged) => pinged + PONG_LIMIT,
            None => self.heard + PING_AFTER,
        }
    }

    /// Asks a silent peer whether it lives. Calls before the time do nothing.
    ///
    /// # Errors
    /// [`Violation::Silent`] when it has not answered.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation> {
        if now < self.poll_timeout() {
            return Ok(());
        }
        if self.pinged.is_some() {
            return Err(Violation::Silent);
        }
        self.pinged = Some(now);
        write_control(&mut self.out, Kind::Ping, 0, &[0; 8]);
        Ok(())
    }

    fn forget_if_over(&mut self, stream: u32) {
        if self.streams.get(&stream).is_some_and(Stream::is_over) {
            self.forget(stream);
        }
    }

    fn forget(&mut self, stream: u32) {
        if let Some(state) = self.streams.remove(&stream) {
            self.grown -= state.window - WINDOW_BYTES;
        }
    }
}

/// How much of what costs us and brings nobody anything a peer may still do.
#[derive(Debug)]
struct Churn {
    left: u32,
    since: Instant,
}

impl Churn {
    fn spend(&mut self, now: Instant) -> Result<(), Violation> {
        let earned = now.saturating_duration_since(self.since).as_millis();
        let earned = u32::try_from(earned * u128::from(CHURN_PER_SECOND) / 1_000);
        let earned = earned.unwrap_or(CHURN_BURST);
        if earned > 0 {
            self.since = now;
            self.left = self.left.saturating_add(earned).min(CHURN_BURST);
        }
        self.left = self.left.checked_sub(1).ok_or(Violation::Flood)?;
        Ok(())
    }
}
