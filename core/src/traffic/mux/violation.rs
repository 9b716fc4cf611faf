//! What a peer did that ends its connection.

/// States how a peer broke the rules; its connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More credit than the numbers hold, or none.
    #[error("credit of {more} bytes on stream {stream}, which is none or too much")]
    Credit {
        /// On which stream.
        stream: u32,
        /// How much was given.
        more: u32,
    },
    /// Streams that end before they were answered, or pings, faster than anyone needs.
    #[error("streams broken off or pings in a flood")]
    Flood,
    /// A data frame that says nothing.
    #[error("a data frame without data and without an end")]
    EmptyData,
    /// A frame of a length that its kind cannot have.
    #[error("a frame of {length} bytes, which its kind cannot have")]
    FrameLength {
        /// The length.
        length: usize,
    },
    /// The first frame is not a hello, or a later one is.
    #[error("a hello out of place, or none at the beginning")]
    Hello,
    /// More bytes than were allowed.
    #[error("more bytes on stream {stream} than its credit")]
    OverCredit {
        /// On which stream.
        stream: u32,
    },
    /// No answer to a ping, and nothing else.
    #[error("silent for too long")]
    Silent,
    /// A number that is not a stream's, or not in order.
    #[error("stream {stream} is out of place")]
    StreamNumber {
        /// The number.
        stream: u32,
    },
    /// A kind of frame that is not known.
    #[error("a frame of the unknown kind {number}")]
    UnknownFrame {
        /// The kind.
        number: u8,
    },
    /// Data after the end.
    #[error("data on stream {stream} after its end")]
    AfterEnd {
        /// On which stream.
        stream: u32,
    },
}

impl Violation {
    /// Returns the number that a go-away says it with.
    pub fn code(self) -> u32 {
        match self {
            Self::Credit { .. } => 2,
            Self::Flood => 3,
            Self::EmptyData => 4,
            Self::FrameLength { .. } => 5,
            Self::Hello => 6,
            Self::OverCredit { .. } => 7,
            Self::Silent => 8,
            Self::StreamNumber { .. } => 9,
            Self::UnknownFrame { .. } => 10,
            Self::AfterEnd { .. } => 11,
        }
    }
}
