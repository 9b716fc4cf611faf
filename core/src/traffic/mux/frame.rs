//! The wire form: a header of eight bytes and a payload, read in whatever pieces bytes arrive.
//!
//! Shapes only; what a frame means for a stream is `machine`'s affair. All numbers are big-endian.

use super::violation::Violation;

/// Bytes of a frame's header: payload length (2), kind (1), flags (1), stream (4).
pub const HEADER_BYTES: usize = 8;
/// Bytes of a data frame's payload: what the length can say. A reader passes on pieces as they come
/// and holds no frame, so that it needs no smaller bound.
pub const DATA_BYTES_MAX: usize = u16::MAX as usize;
/// Bytes of any other frame's payload: the longest known one has twelve, the rest is for fields to come.
pub const CONTROL_BYTES_MAX: usize = 64;

/// Flag of a data frame: nothing follows in this direction.
pub(super) const FLAG_END: u8 = 1;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Open,
    Credit,
    Reset,
    GoAway,
    Ping,
    Pong,
    Hello,
}

impl Kind {
    fn of(number: u8) -> Result<Self, Violation> {
        Ok(match number {
            0 => Self::Data,
            1 => Self::Open,
            2 => Self::Credit,
            3 => Self::Reset,
            4 => Self::GoAway,
            5 => Self::Ping,
            6 => Self::Pong,
            7 => Self::Hello,
            _ => return Err(Violation::UnknownFrame { number }),
        })
    }

    fn number(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Open => 1,
            Self::Credit => 2,
            Self::Reset => 3,
            Self::GoAway => 4,
            Self::Ping => 5,
            Self::Pong => 6,
            Self::Hello => 7,
        }
    }

    /// The bytes of a payload that have a meaning; what follows them is skipped.
    fn payload_bytes(self) -> usize {
        match self {
            Self::Data => 0,
            Self::Open => 1,
            Self::Credit | Self::Reset => 4,
            Self::GoAway | Self::Ping | Self::Pong | Self::Hello => 8,
        }
    }

    /// Whether it is about the connection, not about a stream.
    fn is_of_connection(self) -> bool {
        match self {
            Self::GoAway | Self::Ping | Self::Pong | Self::Hello => true,
            Self::Data | Self::Open | Self::Credit | Self::Reset => false,
        }
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) is_end: bool,
    pub(super) length: u16,
    pub(super) stream: u32,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let [a, b] = self.length.to_be_bytes();
        let flags = if self.is_end { FLAG_END } else { 0 };
        let [s, t, u, v] = self.stream.to_be_bytes();
        [a, b, self.kind.number(), flags, s, t, u, v]
    }

    fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, Violation> {
        let [a, b, kind, flags, s, t, u, v] = bytes;
        let kind = Kind::of(kind)?;
        let header = Self {
            kind,
            is_end: kind == Kind::Data && flags & FLAG_END != 0,
            length: u16::from_be_bytes([a, b]),
            stream: u32::from_be_bytes([s, t, u, v]),
        };
        let length = usize::from(header.length);
        let bounds = kind.payload_bytes()..=CONTROL_BYTES_MAX;
        if kind != Kind::Data && !bounds.contains(&length) {
            return Err(Violation::FrameLength { length });
        }
        if kind.is_of_connection() != (header.stream == 0) {
            return Err(Violation::StreamNumber { stream: header.stream });
        }
        if kind == Kind::Data && length == 0 && !header.is_end {
            return Err(Violation::EmptyData);
        }
        Ok(header)
    }
}

/// Appends a frame that is not data.
pub(super) fn write_control(out: &mut Vec<u8>, kind: Kind, stream: u32, payload: &[u8]) {
    let length = u16::try_from(payload.len()).expect("our own payloads have at most 12 bytes");
    out.extend_from_slice(&Header { kind, is_end: false, length, stream }.encode());
    out.extend_from_slice(payload);
}

/// A frame, or a piece of one, as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// The beginning of a control frame's payload, as much as has a meaning.
    Control { kind: Kind, stream: u32, payload: [u8; 8] },
    /// Some of a data frame's bytes; `is_end` with the last ones, which may be none.
    Data { stream: u32, bytes: &'a [u8], is_end: bool },
}

/// Reads frames from bytes that come in pieces; holds at most sixteen bytes.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Of a header that is not yet whole.
    partial: [u8; HEADER_BYTES],
    filled: usize,
    /// A frame whose payload is being read, and the bytes of that still to come.
    open: Option<(Header, usize)>,
    payload: [u8; 8],
}

impl Reader {
    /// Takes bytes off the front; `None` when they are used up.
    pub(super) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, Violation> {
        loop {
            if let Some((header, left)) = self.open {
                if input.is_empty() && left > 0 {
                    return Ok(None);
                }
                let (bytes, rest) = input.split_at(left.min(input.len()));
                *input = rest;
                let left = left - bytes.len();
                self.open = (left > 0).then_some((header, left));
                if header.kind == Kind::Data {
                    let is_end = header.is_end && left == 0;
                    return Ok(Some(Piece::Data { stream: header.stream, bytes, is_end }));
                }
                let before = usize::from(header.length) - left - bytes.len();
                for (place, byte) in self.payload.iter_mut().skip(before).zip(bytes) {
                    *place = *byte;
                }
                if left == 0 {
                    let Header { kind, stream, .. } = header;
                    return Ok(Some(Piece::Control { kind, stream, payload: self.payload }));
                }
                return Ok(None);
            }
            let header = match (self.filled, input.split_first_chunk::<HEADER_BYTES>()) {
                (0, Some((whole, rest))) => {
                    *input = rest;
                    *whole
                }
                _ => {
                    let wanted = HEADER_BYTES - self.filled;
                    let (bytes, rest) = input.split_at(wanted.min(input.len()));
                    *input = rest;
                    self.partial[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
                    self.filled += bytes.len();
                    if self.filled < HEADER_BYTES {
                        return Ok(None);
                    }
                    self.filled = 0;
                    self.partial
                }
            };
            let header = Header::decode(header)?;
            self.payload = [0; 8];
            self.open = Some((header, usize::from(header.length)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<String>, Violation> {
        let mut reader = Reader::default();
        let mut seen = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(piece) = reader.next(&mut input)? {
                seen.push(format!("{piece:?}"));
            }
        }
        Ok(seen)
    }

    #[test]
    fn frames_read_alike_however_their_bytes_arrive() {
        let mut bytes = Vec::new();
        write_control(&mut bytes, Kind::Hello, 0, &[0, 0, 1, 0, 0, 2, 0, 4, 9, 9, 9]);
        write_control(&mut bytes, Kind::Open, 1, &[2]);
        write_control(&mut bytes, Kind::Credit, 1, &[0, 1, 0, 0]);
        let whole = read(&[&bytes]).expect("frames");
        assert_eq!(whole.len(), 3, "{whole:?}");
        for cut in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]).as_ref(), Ok(&whole), "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single).as_ref(), Ok(&whole));
    }

    #[test]
    fn data_is_passed_on_as_it_comes_and_its_end_with_the_last_byte() {
        let header = Header { kind: Kind::Data, is_end: true, length: 3, stream: 5 };
        let bytes = [&header.encode()[..], b"abc"].concat();
        let seen = read(&[&bytes[..10], &bytes[10..]]).expect("data");
        assert_eq!(
            seen,
            [
                "Data { stream: 5, bytes: [97, 98], is_end: false }",
                "Data { stream: 5, bytes: [99], is_end: true }",
            ]
        );
        let header = Header { kind: Kind::Data, is_end: true, length: 0, stream: 5 };
        assert_eq!(read(&[&header.encode()]).map(|seen| seen.len()), Ok(1));
    }

    #[test]
    fn malformed_headers_are_refused() {
        for (bytes, want) in [
            ([0, 0, 9, 0, 0, 0, 0, 1], Violation::UnknownFrame { number: 9 }),
            ([0, 0, 0, 0, 0, 0, 0, 1], Violation::EmptyData),
            ([0, 1, 0, 0, 0, 0, 0, 0], Violation::StreamNumber { stream: 0 }),
            ([0, 8, 5, 0, 0, 0, 0, 7], Violation::StreamNumber { stream: 7 }),
            ([0, 3, 2, 0, 0, 0, 0, 7], Violation::FrameLength { length: 3 }),
            ([0, 65, 2, 0, 0, 0, 0, 7], Violation::FrameLength { length: 65 }),
        ] {
            assert_eq!(read(&[&bytes]), Err(want));
        }
    }
}
