//! One stream: what may still be sent and received on it.

/// Bytes that each side may send on a stream before it is given more: some answers of the usual
/// size without waiting, and few enough that 256 streams which nobody reads cost 16 MB.
pub(super) const WINDOW_BYTES: u32 = 64 << 10;
/// The most that one stream's window grows to: 1 Gbit/s over 32 ms.
pub(super) const WINDOW_BYTES_MAX: u32 = 4 << 20;

/// What is said on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Bytes, as they come from one connection.
    Bytes,
    /// Datagrams, each with its length before it.
    Datagrams,
    /// HTTP/1.1, request after request.
    Http1,
    /// Requests and answers as records, one after the other ([`message`](crate::traffic::message)).
    Messages,
}

impl StreamKind {
    /// Reads what stands on the wire; `None` for what is not spoken here.
    pub fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Bytes),
            2 => Some(Self::Http1),
            3 => Some(Self::Datagrams),
            4 => Some(Self::Messages),
            _ => None,
        }
    }

    /// Returns what stands for it on the wire, not 0.
    pub fn number(self) -> u8 {
        match self {
            Self::Bytes => 1,
            Self::Datagrams => 3,
            Self::Http1 => 2,
            Self::Messages => 4,
        }
    }
}

/// Why a stream is broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetCode {
    /// Whoever sends this has lost interest or its own other end, or may not go on.
    Broken,
    /// Nothing of it was looked at: it may be tried elsewhere.
    Refused,
    /// The called service does not speak what the stream is to carry.
    WrongKind,
}

impl ResetCode {
    /// Reads what stands on the wire. What is not known means no more than that the stream is
    /// broken.
    pub fn of(number: u32) -> Self {
        match number {
            2 => Self::Refused,
            3 => Self::WrongKind,
            _ => Self::Broken,
        }
    }

    /// Returns what stands for it on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::Broken => 1,
            Self::Refused => 2,
            Self::WrongKind => 3,
        }
    }
}

/// The state of one stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// Bytes that may be sent now.
    pub(super) may_send: u32,
    /// Bytes that the peer may send now.
    pub(super) may_receive: u32,
    /// What `may_receive` is brought back to as bytes are read.
    pub(super) window: u32,
    /// Bytes that were read and for which no credit was given yet.
    pub(super) owed: u32,
    pub(super) has_sent_end: bool,
    pub(super) has_received_end: bool,
    /// Whether something was sent on it.
    pub(super) is_answered: bool,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            may_send: WINDOW_BYTES,
            may_receive: WINDOW_BYTES,
            window: WINDOW_BYTES,
            owed: 0,
            has_sent_end: false,
            has_received_end: false,
            is_answered: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.has_sent_end && self.has_received_end
    }

    /// Notes that bytes were read; returns the credit to give, and how much of it is growth.
    ///
    /// Credit is given for half a window at a time. The window doubles when the peer had used nearly
    /// all of it while what it sent was being read: then the path is longer than the window.
    pub(super) fn read(&mut self, count: u32, growth_max: u32) -> Option<(u32, u32)> {
        self.owed = self.owed.saturating_add(count);
        if self.has_received_end || self.owed < self.window / 2 {
            return None;
        }
        let is_short = self.may_receive < self.window / 4;
        let growth = match is_short && self.window < WINDOW_BYTES_MAX && self.window <= growth_max {
            true => self.window,
            false => 0,
        };
        let credit = self.owed + growth;
        self.owed = 0;
        self.window += growth;
        self.may_receive += credit;
        Some((credit, growth))
    }
}
