//! HTTP messages as records, as proxies say them to each other on a stream: heads and trailers as
//! fields with lengths, bodies as they come, and an end that is told apart from a stream that broke off.
//!
//! Message after message goes over one stream in each direction: a head, data, perhaps trailers, the
//! end. A service's answer may have informational heads before its own.

use crate::limits::{HTTP_COOKIE_CRUMBS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};

/// Bytes before a record's payload: its kind (1), the payload's length (3, big-endian).
pub const RECORD_HEADER_BYTES: usize = 4;
/// Bytes of one record: what three bytes can say.
pub const RECORD_BYTES_MAX: usize = (1 << 24) - 1;
/// Bytes of a head or of trailers: what HTTP/1 may have, and the lengths of its fields.
const FIELDS_BYTES_MAX: usize =
    HTTP_HEAD_BYTES_MAX + 4 * (HTTP_HEADERS_MAX + HTTP_COOKIE_CRUMBS_MAX);

/// What one record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// Some of a body.
    Data,
    /// The message is whole.
    End,
    /// The head of a request or an answer.
    Head,
    /// The head of an answer before the answer, as 103 is.
    Interim,
    /// The sender gives the message up, for a reason that HTTP/2 has a number for.
    Reset,
    /// Fields after the body.
    Trailers,
}

impl RecordKind {
    fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Head),
            2 => Some(Self::Data),
            3 => Some(Self::Trailers),
            4 => Some(Self::End),
            5 => Some(Self::Interim),
            6 => Some(Self::Reset),
            _ => None,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::Data => 2,
            Self::Trailers => 3,
            Self::End => 4,
            Self::Interim => 5,
            Self::Reset => 6,
        }
    }
}

/// States how a peer broke the rules; the stream is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// The lengths of fields do not fit those of the record.
    #[error("a record's fields do not fit its length")]
    Fields,
    /// A head or trailers beyond all bounds.
    #[error("a record of {length} bytes, of which its kind can have at most {FIELDS_BYTES_MAX}")]
    Length {
        /// Its length.
        length: usize,
    },
    /// A record that cannot come where it did.
    #[error("a record out of place: {kind:?}")]
    Order {
        /// What it is.
        kind: RecordKind,
    },
    /// A record of a kind that nobody knows.
    #[error("a record of the unknown kind {number}")]
    Unknown {
        /// The kind.
        number: u8,
    },
}

/// Some of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Some of the body, not empty; a record may come in several.
    Data(&'a [u8]),
    /// The message is whole; the next one begins with a head.
    End,
    /// What [`RequestHead::read`] or [`read_answer`] takes.
    Head(&'a [u8]),
    /// What [`read_answer`] takes, of an answer before the answer.
    Interim(&'a [u8]),
    /// There will be no more of it, for a reason of HTTP/2.
    Reset(u32),
    /// What [`Fields::of_trailers`] takes.
    Trailers(&'a [u8]),
}

/// Where in a message a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// Inside a body's record, of which so many bytes are to come.
    Body(usize),
    /// After trailers.
    BeforeEnd,
    /// Before the first record.
    #[default]
    BeforeHead,
    /// Between records of the body.
    Between,
}

/// Takes messages apart that come in pieces.
#[derive(Debug, Default)]
pub struct MessageReader {
    place: Place,
}

impl MessageReader {
    /// Whether no message has begun.
    pub fn is_between_messages(&self) -> bool {
        self.place == Place::BeforeHead
    }

    /// Whether the next piece is [`Piece::End`], which is there whole.
    pub fn is_at_end(&self, bytes: &[u8]) -> bool {
        matches!(self.place, Place::Between | Place::BeforeEnd)
            && bytes.len() >= RECORD_HEADER_BYTES
            && bytes.first() == Some(&RecordKind::End.number())
    }

    /// Returns the next piece and how many bytes are done with by it; `None` while more must come.
    /// Everything but data comes whole.
    ///
    /// # Errors
    /// [`InvalidMessage`].
    pub fn next<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<Option<(Piece<'a>, usize)>, InvalidMessage> {
        if let Place::Body(left) = self.place {
            let count = left.min(bytes.len());
            if count == 0 {
                return Ok(None);
            }
            self.place = if count == left { Place::Between } else { Place::Body(left - count) };
            return Ok(Some((Piece::Data(&bytes[..count]), count)));
        }
        let Some((header, rest)) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>() else {
            return Ok(None);
        };
        let [number, a, b, c] = *header;
        let kind = RecordKind::of(number).ok_or(InvalidMessage::Unknown { number })?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        self.check(kind, length)?;
        if kind == RecordKind::Data {
            self.place = Place::Body(length);
            let next = self.next(rest)?;
            return Ok(Some(match next {
                Some((piece, count)) => (piece, count + RECORD_HEADER_BYTES),
                None => return self.put_back(),
            }));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let (piece, place) = match kind {
            RecordKind::Data | RecordKind::Head => (Piece::Head(payload), Place::Between),
            RecordKind::Interim => (Piece::Interim(payload), Place::BeforeHead),
            RecordKind::Trailers => (Piece::Trailers(payload), Place::BeforeEnd),
            RecordKind::End => (Piece::End, Place::BeforeHead),
            RecordKind::Reset => (Piece::Reset(reason(payload)?), Place::BeforeHead),
        };
        self.place = place;
        Ok(Some((piece, RECORD_HEADER_BYTES + length)))
    }

    /// The header of data has come without the data: it is read again then.
    fn put_back<T>(&mut self) -> Result<Option<T>, InvalidMessage> {
        self.place = Place::Between;
        Ok(None)
    }

    fn check(&self, kind: RecordKind, length: usize) -> Result<(), InvalidMessage> {
        let is_in_place = match kind {
            RecordKind::Head | RecordKind::Interim => self.place == Place::BeforeHead,
            RecordKind::Data | RecordKind::Trailers => self.place == Place::Between,
            RecordKind::End => matches!(self.place, Place::Between | Place::BeforeEnd),
            RecordKind::Reset => true,
        };
        let has_length = match kind {
            RecordKind::Data => length > 0,
            RecordKind::End => length == 0,
            RecordKind::Reset => length == size_of::<u32>(),
            RecordKind::Head | RecordKind::Interim | RecordKind::Trailers => {
                length <= FIELDS_BYTES_MAX
            }
        };
        match (is_in_place, has_length) {
            (false, _) => Err(InvalidMessage::Order { kind }),
            (true, false) => Err(InvalidMessage::Length { length }),
            (true, true) => Ok(()),
        }
    }
}

fn reason(payload: &[u8]) -> Result<u32, InvalidMessage> {
    let bytes = payload.first_chunk().ok_or(InvalidMessage::Fields)?;
    Ok(u32::from_be_bytes(*bytes))
}

/// Writes a record's header; the payload follows.
pub fn write_header(out: &mut Vec<u8>, kind: RecordKind, length: usize) {
    debug_assert!(length <= RECORD_BYTES_MAX, "a record of {length} bytes");
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[kind.number(), length[1], length[2], length[3]]);
}

/// Writes that a message is whole.
pub fn write_end(out: &mut Vec<u8>) {
    write_header(out, RecordKind::End, 0);
}

/// Writes that a message is given up for a reason of HTTP/2.
///
/// **Source**: Spec: RFC 9113 §7.
pub fn write_reset(out: &mut Vec<u8>, reason: u32) {
    write_header(out, RecordKind::Reset, size_of::<u32>());
    out.extend_from_slice(&reason.to_be_bytes());
}

/// Writes a record of fields, whose header is filled in at its end.
#[derive(Debug)]
pub struct FieldsWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> FieldsWriter<'a> {
    /// Begins the head of a request.
    pub fn request(out: &'a mut Vec<u8>, head: &RequestHead<'_>) -> Self {
        let mut writer = Self::begin(out, RecordKind::Head);
        writer.out.push(u8::from(head.is_https));
        for text in [head.method, head.authority, head.target] {
            writer.text(text);
        }
        writer
    }

    /// Begins the head of an answer, or of one before the answer.
    pub fn answer(out: &'a mut Vec<u8>, status: u16) -> Self {
        let is_interim = (100..200).contains(&status);
        let kind = if is_interim { RecordKind::Interim } else { RecordKind::Head };
        let writer = Self::begin(out, kind);
        writer.out.extend_from_slice(&status.to_be_bytes());
        writer
    }

    /// Begins the fields after a body.
    pub fn trailers(out: &'a mut Vec<u8>) -> Self {
        Self::begin(out, RecordKind::Trailers)
    }

    fn begin(out: &'a mut Vec<u8>, kind: RecordKind) -> Self {
        let start = out.len();
        write_header(out, kind, 0);
        Self { out, start }
    }

    /// Adds a field.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.text(name);
        self.text(value);
    }

    fn text(&mut self, text: &[u8]) {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(&text[..usize::from(length)]);
    }

    /// Ends the record.
    ///
    /// # Errors
    /// [`InvalidMessage::Length`] when no peer would take it; then nothing is written.
    pub fn finish(self) -> Result<(), InvalidMessage> {
        let payload = self.start + RECORD_HEADER_BYTES;
        let length = self.out.len() - payload;
        if length > FIELDS_BYTES_MAX {
            self.out.truncate(self.start);
            return Err(InvalidMessage::Length { length });
        }
        let bytes = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        self.out[self.start + 1..payload].copy_from_slice(&bytes[1..]);
        Ok(())
    }
}

/// One field of a head or of trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name, in small letters if the peer keeps to HTTP/2.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// Reads fields one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads those of trailers.
    pub fn of_trailers(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    /// Returns the next field; `None` after the last.
    ///
    /// # Errors
    /// [`InvalidMessage::Fields`].
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's item would carry the error on"
    )]
    pub fn next(&mut self) -> Result<Option<Field<'a>>, InvalidMessage> {
        if self.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(Field { name: self.text()?, value: self.text()? }))
    }

    fn text(&mut self) -> Result<&'a [u8], InvalidMessage> {
        let (length, rest) = self.0.split_first_chunk().ok_or(InvalidMessage::Fields)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (text, rest) = rest.split_at_checked(length).ok_or(InvalidMessage::Fields)?;
        self.0 = rest;
        Ok(text)
    }
}

/// What a request begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// As `GET`.
    pub method: &'a [u8],
    /// Whether `:scheme` is `https`.
    pub is_https: bool,
    /// `:authority`; empty if there is none.
    pub authority: &'a [u8],
    /// `:path`: path and query.
    pub target: &'a [u8],
}

impl<'a> RequestHead<'a> {
    /// Reads the payload of a head; returns the fields as well.
    ///
    /// # Errors
    /// [`InvalidMessage::Fields`].
    pub fn read(payload: &'a [u8]) -> Result<(Self, Fields<'a>), InvalidMessage> {
        let (scheme, rest) = payload.split_first().ok_or(InvalidMessage::Fields)?;
        let mut fields = Fields(rest);
        let method = fields.text()?;
        let authority = fields.text()?;
        let target = fields.text()?;
        Ok((Self { method, is_https: *scheme == 1, authority, target }, fields))
    }
}

/// Reads what an answer begins with: its status, and the fields.
///
/// # Errors
/// [`InvalidMessage::Fields`].
pub fn read_answer(payload: &[u8]) -> Result<(u16, Fields<'_>), InvalidMessage> {
    let (status, rest) = payload.split_first_chunk().ok_or(InvalidMessage::Fields)?;
    Ok((u16::from_be_bytes(*status), Fields(rest)))
}

#[cfg(test)]
mod tests;
