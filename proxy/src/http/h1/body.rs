//! Where a body ends. Chunked framing is validated byte by byte and passed on as it is.

/// How the end of a body is told.
///
/// **Source**: Spec: RFC 9112 §6.3.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Chunked,
    #[default]
    Empty,
    Length(u64),
    UntilClose,
}

/// States why a body is not what its head announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the chunked framing is malformed")]
    Chunk,
    #[error("a trailer field is malformed or must not be a trailer")]
    Trailer,
    #[error("the connection ended before the body did")]
    Truncated,
}

/// Bytes of a chunk extension that are tolerated: no known use needs more.
const EXTENSION_BYTES_MAX: u16 = 256;
/// Bytes of a trailer section; gRPC-Web and checksums need some hundred.
const TRAILER_BYTES_MAX: u16 = 8 << 10;
/// Bytes of a trailer's name that are compared with the forbidden ones.
const TRAILER_NAME_BYTES: usize = 32;

/// Follows one body through the pieces in which it arrives.
#[derive(Debug, Clone)]
pub(crate) struct BodyReader {
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    ChunkData {
        left: u64,
    },
    ChunkDataCr,
    ChunkDataLf,
    /// Extension of a chunk; the size is known.
    ChunkExtension {
        size: u64,
        seen: u16,
    },
    ChunkSize {
        size: u64,
        digits: u8,
    },
    ChunkSizeLf {
        size: u64,
    },
    Done,
    Length {
        left: u64,
    },
    TrailerEndLf,
    TrailerLf {
        seen: u16,
    },
    TrailerName {
        seen: u16,
        name: Box<Name>,
    },
    TrailerStart {
        seen: u16,
    },
    TrailerValue {
        seen: u16,
    },
    UntilClose,
}

#[derive(Debug, Clone, Default)]
struct Name {
    bytes: [u8; TRAILER_NAME_BYTES],
    len: usize,
}

impl BodyReader {
    /// Starts at the first byte of a body.
    pub(crate) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Chunked => State::ChunkSize { size: 0, digits: 0 },
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(left) => State::Length { left },
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Whether the body is complete.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the bytes that belong to the body and returns how many they are; `content` is
    /// shown each piece of them that is not framing.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        mut content: impl FnMut(&[u8]),
    ) -> Result<usize, BodyError> {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.state {
                State::Done => break,
                State::UntilClose => {
                    content(&bytes[at..]);
                    at = bytes.len();
                }
                State::Length { left } | State::ChunkData { left } => {
                    let rest = &bytes[at..];
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    content(&rest[..count]);
                    *left -= count as u64;
                    at += count;
                    if *left == 0 {
                        self.state = match self.state {
                            State::Length { .. } => State::Done,
                            _ => State::ChunkDataCr,
                        };
                    }
                }
                _ => {
                    let state = std::mem::replace(&mut self.state, State::Done);
                    self.state = framing_byte(state, bytes[at])?;
                    at += 1;
                }
            }
        }
        Ok(at)
    }

    /// Tells the reader that no more bytes will come.
    pub(crate) fn end(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Truncated),
        }
    }
}

/// Follows one byte of chunked framing.
///
/// **Source**: Spec: RFC 9112 §7.1. A bare LF and blanks around the size are refused: others
/// read them differently.
fn framing_byte(state: State, byte: u8) -> Result<State, BodyError> {
    Ok(match (state, byte) {
        (State::ChunkSize { size, digits }, byte) if byte.is_ascii_hexdigit() => {
            // 15 digits: below 2^60, far above any chunk and safe from overflow.
            if digits == 15 {
                return Err(BodyError::Chunk);
            }
            let digit = (byte as char).to_digit(16).map_or(0, u64::from);
            State::ChunkSize { size: size * 16 + digit, digits: digits + 1 }
        }
        (State::ChunkSize { size, digits: 1.. }, b';') => State::ChunkExtension { size, seen: 0 },
        (State::ChunkSize { size, digits: 1.. }, b'\r')
        | (State::ChunkExtension { size, .. }, b'\r') => State::ChunkSizeLf { size },
        (State::ChunkExtension { size, seen }, b'\t' | b' '..=b'~')
            if seen < EXTENSION_BYTES_MAX =>
        {
            State::ChunkExtension { size, seen: seen + 1 }
        }
        (State::ChunkSizeLf { size: 0 }, b'\n') => State::TrailerStart { seen: 0 },
        (State::ChunkSizeLf { size }, b'\n') => State::ChunkData { left: size },
        (State::ChunkDataCr, b'\r') => State::ChunkDataLf,
        (State::ChunkDataLf, b'\n') => State::ChunkSize { size: 0, digits: 0 },
        (State::TrailerStart { .. }, b'\r') => State::TrailerEndLf,
        (State::TrailerEndLf, b'\n') => State::Done,
        (State::TrailerStart { seen }, byte) if is_token(byte) => {
            let mut name = Box::<Name>::default();
            name.push(byte);
            State::TrailerName { seen: longer(seen)?, name }
        }
        (State::TrailerName { seen, mut name }, byte) if is_token(byte) => {
            name.push(byte);
            State::TrailerName { seen: longer(seen)?, name }
        }
        (State::TrailerName { seen, name }, b':') if !name.is_forbidden() => {
            State::TrailerValue { seen: longer(seen)? }
        }
        (State::TrailerValue { seen }, b'\r') => State::TrailerLf { seen },
        (State::TrailerValue { seen }, b'\t' | b' '..=b'~' | 0x80..) => {
            State::TrailerValue { seen: longer(seen)? }
        }
        (State::TrailerLf { seen }, b'\n') => State::TrailerStart { seen },
        (
            State::TrailerStart { .. }
            | State::TrailerName { .. }
            | State::TrailerValue { .. }
            | State::TrailerLf { .. }
            | State::TrailerEndLf,
            _,
        ) => return Err(BodyError::Trailer),
        _ => return Err(BodyError::Chunk),
    })
}

fn longer(seen: u16) -> Result<u16, BodyError> {
    if seen < TRAILER_BYTES_MAX { Ok(seen + 1) } else { Err(BodyError::Trailer) }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl Name {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
        }
        self.len += 1;
    }

    /// Whether a trailer of this name could change how the message is read or who sent it.
    ///
    /// **Source**: Spec: RFC 9110 §6.5.1.
    fn is_forbidden(&self) -> bool {
        // The start of a longer name is enough: only the mesh's own are told by theirs.
        let name = &self.bytes[..self.len.min(TRAILER_NAME_BYTES)];
        !matches!(super::field::kind(name), super::field::Kind::EndToEnd)
            || name.eq_ignore_ascii_case(b"authorization")
            || name.eq_ignore_ascii_case(b"content-encoding")
            || name.eq_ignore_ascii_case(b"content-range")
            || name.eq_ignore_ascii_case(b"content-type")
            || name.eq_ignore_ascii_case(b"cookie")
            || name.eq_ignore_ascii_case(b"proxy-authorization")
            || name.eq_ignore_ascii_case(b"set-cookie")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds the pieces; returns what was content and what followed the body.
    fn read(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let mut reader = BodyReader::new(framing);
        let (mut content, mut taken) = (Vec::new(), 0);
        for piece in pieces {
            let count = reader.take(piece, |part| content.extend_from_slice(part))?;
            taken += count;
            if count < piece.len() {
                break;
            }
        }
        Ok((content, taken, reader.is_done()))
    }

    fn chunked(text: &str) -> Result<(Vec<u8>, usize, bool), BodyError> {
        read(Framing::Chunked, &[text.as_bytes()])
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        assert_eq!(read(Framing::Length(3), &[b"abcdef"]), Ok((b"abc".to_vec(), 3, true)));
        assert_eq!(read(Framing::Empty, &[b"abc"]), Ok((vec![], 0, true)));
        assert_eq!(read(Framing::UntilClose, &[b"abc"]), Ok((b"abc".to_vec(), 3, false)));
        assert_eq!(chunked("3\r\nabc\r\n0\r\n\r\nGET"), Ok((b"abc".to_vec(), 13, true)));
        assert_eq!(
            chunked("3;a=b\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"),
            Ok((b"abc".to_vec(), 27, true))
        );
        assert_eq!(chunked("A\r\n0123456789\r\n00\r\n\r\n").map(|read| read.2), Ok(true));
    }

    #[test]
    fn framing_that_others_read_differently_is_refused() {
        for text in [
            "3\nabc\r\n0\r\n\r\n",
            "3 \r\nabc",
            " 3\r\nabc",
            "+3\r\nabc",
            "0x3\r\nabc",
            "-1\r\n",
            "\r\nabc",
            ";a\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "1000000000000000\r\n",
            "ffffffffffffffffff\r\n",
            "3;a\nb\r\nabc",
            "3;a\0\r\nabc",
            "3;\r\n\r\n\r\n0\r\n\rx",
        ] {
            assert!(chunked(text).is_err(), "{text:?} was accepted");
        }
        for text in [
            "0\r\ncontent-length: 3\r\n\r\n",
            "0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "0\r\nhost: x\r\n\r\n",
            "0\r\nx-forwarded-client-cert: x\r\n\r\n",
            "0\r\nX_Weft-Cause: x\r\n\r\n",
            "0\r\nx-weft-a-name-of-more-bytes-than-are-kept: x\r\n\r\n",
            "0\r\nCookie: a=b\r\n\r\n",
            "0\r\nname : x\r\n\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nname: a\nb\r\n\r\n",
            "0\r\nname: a\r\r\n\r\n",
        ] {
            assert_eq!(chunked(text), Err(BodyError::Trailer), "{text:?} was accepted");
        }
    }

    #[test]
    fn an_early_end_is_told_apart() {
        let mut reader = BodyReader::new(Framing::Length(2));
        assert_eq!(reader.take(b"a", |_| {}), Ok(1));
        assert_eq!(reader.end(), Err(BodyError::Truncated));
        let mut reader = BodyReader::new(Framing::UntilClose);
        assert_eq!(reader.end(), Ok(()));
        assert!(reader.is_done());
    }

    proptest! {
        #[test]
        fn any_segmentation_gives_the_same(
            text in prop_oneof![
                "([0-9a-f]{1,2}(;[a-z=]{0,4})?\r?\n?[a-z]{0,12}\r?\n){0,4}0\r\n(x-[a-z]: [a-z]\r\n)?\r\n[A-Z]{0,4}",
                "(3\r\nabc\r\n|1;x\r\nz\r\n){0,5}0\r\n(x-[a-z]: [a-z]\r\n){0,3}\r\n[A-Z]{0,4}",
            ],
            cuts in proptest::collection::vec(0usize..80, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(read(Framing::Chunked, &pieces), read(Framing::Chunked, &[bytes]));
        }
    }
}
