//! The plain query: one question, at most an OPT record, nothing else. What nearly every caller
//! sends; anything odd is left to the full reader.
//!
//! **Source**: RFC 1035 §4.1; RFC 6891 §6.1.2.

/// Bytes of a message's head.
pub(super) const HEAD_BYTES: usize = 12;
/// Bytes of type and class behind the question's name.
const TAIL_BYTES: usize = 4;
/// Bytes of a name, with its root (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// Bytes of a label.
const LABEL_BYTES_MAX: u8 = 63;
/// The class of the internet.
const CLASS_IN: [u8; 2] = [0, 1];
/// The option for the caller's network, whose answer depends on it (RFC 7871).
const OPTION_SUBNET: u16 = 8;

/// A plain query, as it lies in its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain<'a> {
    pub(super) id: [u8; 2],
    /// Whether the caller wants recursion, which answers repeat.
    pub(super) wants_recursion: bool,
    /// Whether the caller takes unverified data, which answers repeat.
    pub(super) checking_disabled: bool,
    /// Name, type and class.
    pub(super) question: &'a [u8],
    pub(super) edns: Option<PlainEdns>,
}

/// What an OPT record of a plain query says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlainEdns {
    pub(super) payload: u16,
    pub(super) dnssec_ok: bool,
}

/// The name in lower case, with the type: what an answer is kept under.
#[derive(Debug, Clone)]
pub(super) struct Key {
    bytes: [u8; NAME_BYTES_MAX + 2],
    length: usize,
}

impl Key {
    /// Makes the key of a name in wire form with a type.
    fn new(name: &[u8], kind: [u8; 2]) -> Self {
        let mut bytes = [0; NAME_BYTES_MAX + 2];
        let length = name.len() + 2;
        // Lengths of labels are below 64, and `A` is 65: they stay as they are.
        bytes[..name.len()].copy_from_slice(name);
        bytes[..name.len()].make_ascii_lowercase();
        bytes[name.len()..length].copy_from_slice(&kind);
        Self { bytes, length }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<'a> Plain<'a> {
    /// Reads a message; `None` when it is anything but a plain query.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        let (head, rest) = message.split_first_chunk::<HEAD_BYTES>()?;
        let [id0, id1, flags, more_flags, counts @ ..] = *head;
        // A standard query that is no answer, with any of TC, RD, AD and CD.
        if flags & 0b1111_1100 != 0 || more_flags & 0b1100_1111 != 0 {
            return None;
        }
        let has_opt = match counts {
            [0, 1, 0, 0, 0, 0, 0, 0] => false,
            [0, 1, 0, 0, 0, 0, 0, 1] => true,
            _ => return None,
        };
        let length = name_length(rest)? + TAIL_BYTES;
        let (question, rest) = rest.split_at_checked(length)?;
        if !question.ends_with(&CLASS_IN) {
            return None;
        }
        let edns = match (has_opt, rest) {
            (false, []) => None,
            (true, opt) => Some(read_opt(opt)?),
            (false, [..]) => return None,
        };
        Some(Self {
            id: [id0, id1],
            wants_recursion: flags & 1 != 0,
            checking_disabled: more_flags & 0x10 != 0,
            question,
            edns,
        })
    }

    /// Returns what the answer is kept under.
    pub(super) fn key(&self) -> Key {
        let (name, tail) = self.question.split_at(self.question.len() - TAIL_BYTES);
        Key::new(name, [tail[0], tail[1]])
    }
}

/// Returns the bytes of the name at the front, with its root.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let label = *bytes.get(at)?;
        if label > LABEL_BYTES_MAX {
            return None;
        }
        at += 1 + usize::from(label);
        if at > NAME_BYTES_MAX {
            return None;
        }
        if label == 0 {
            return Some(at);
        }
    }
}

/// Reads an OPT record that is all that is left, of a version and with options that are known.
fn read_opt(bytes: &[u8]) -> Option<PlainEdns> {
    let (fixed, mut options) = bytes.split_first_chunk::<11>()?;
    let [0, 0, 41, high, low, 0, 0, flags, 0, length0, length1] = *fixed else { return None };
    if usize::from(u16::from_be_bytes([length0, length1])) != options.len() || flags & 0x7f != 0 {
        return None;
    }
    while let Some((fixed, rest)) = options.split_first_chunk::<4>() {
        let [code0, code1, length0, length1] = *fixed;
        if u16::from_be_bytes([code0, code1]) == OPTION_SUBNET {
            return None;
        }
        options = rest.get(usize::from(u16::from_be_bytes([length0, length1]))..)?;
    }
    let payload = u16::from_be_bytes([high, low]);
    options.is_empty().then_some(PlainEdns { payload, dnssec_ok: flags & 0x80 != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query for A of `Web.mesh`.
    const QUERY: &[u8] = b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\0\x03Web\x04mesh\0\0\x01\0\x01";
    const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";

    fn with(at: usize, byte: u8) -> Vec<u8> {
        let mut query = QUERY.to_vec();
        query[at] = byte;
        query
    }

    #[test]
    fn a_plain_query_is_read_as_it_lies() {
        let plain = Plain::read(QUERY).expect("plain");
        assert_eq!((plain.id, plain.edns), ([0x12, 0x34], None));
        assert!(plain.wants_recursion && plain.checking_disabled);
        assert_eq!(plain.key().as_bytes(), b"\x03web\x04mesh\0\0\x01");
        let mut query = [QUERY, OPT].concat();
        query[11] = 1;
        let plain = Plain::read(&query).expect("plain");
        assert_eq!(plain.edns, Some(PlainEdns { payload: 1232, dnssec_ok: true }));
        // A cookie asks for nothing that has to be answered.
        query[36] = 12;
        query.extend(b"\0\x0a\0\x08abcdefgh");
        assert!(Plain::read(&query).is_some());
        // An option for a network does, and one that lies about its length is no option.
        let at = query.len() - 11;
        query[at] = 8;
        assert!(Plain::read(&query).is_none());
        (query[at], query[at + 2]) = (10, 9);
        assert!(Plain::read(&query).is_none());
    }

    #[test]
    fn what_is_odd_is_left_to_the_full_reader() {
        for odd in [
            with(2, 0x81),
            with(2, 0x29),
            with(3, 0x40),
            with(5, 2),
            with(7, 1),
            with(12, 64),
            with(12, 0xc0),
            with(QUERY.len() - 1, 3),
            QUERY[..QUERY.len() - 1].to_vec(),
            [QUERY, b"x"].concat(),
            with(11, 1),
            QUERY[..11].to_vec(),
            Vec::new(),
            [&QUERY[..12], &b"\x3f".repeat(320)].concat(),
        ] {
            assert_eq!(Plain::read(&odd), None, "{odd:02x?}");
        }
    }
}
