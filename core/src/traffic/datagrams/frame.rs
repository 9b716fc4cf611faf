//! The wire form: on a stream each datagram has its length before it; beside a QUIC connection's
//! streams each has the number of its session's stream before it.

/// Bytes of the longest datagram: what UDP over IPv6 carries. Over IPv4 it is 65,507.
///
/// **Source**: Spec: RFC 768; RFC 8200 §4.5 without jumbograms.
pub const DATAGRAM_BYTES_MAX: usize = 65_527;
/// What stands in a length's place when an end asks the other to open a new session for what comes: it
/// takes datagrams for a while still.
pub const LEAVE: [u8; 2] = [0xff, 0xff];

/// Bytes of a datagram's buffer that is kept for the next one.
const BYTES_KEPT: usize = 4 << 10;

/// Returns what stands before a datagram on a stream; `None` for what is longer than any.
pub fn length_before(datagram: &[u8]) -> Option<[u8; 2]> {
    let length = u16::try_from(datagram.len()).ok()?;
    (datagram.len() <= DATAGRAM_BYTES_MAX).then(|| length.to_be_bytes())
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A datagram; may be empty.
    Datagram(&'a [u8]),
    /// See [`LEAVE`].
    Leave,
}

/// States that a length is none of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no length of a datagram")]
pub struct InvalidLength(pub u16);

/// Reads datagrams from bytes that come in pieces; holds at most one.
#[derive(Debug, Default)]
pub struct Reader {
    /// One that is not whole, with its length.
    partial: Vec<u8>,
    /// Whether that was handed out.
    is_spent: bool,
}

impl Reader {
    /// Takes bytes off the front; `None` when they are used up.
    ///
    /// # Errors
    /// [`InvalidLength`]: what follows cannot be read.
    pub fn next<'held, 'given: 'held>(
        &'held mut self,
        input: &mut &'given [u8],
    ) -> Result<Option<Piece<'held>>, InvalidLength> {
        if std::mem::take(&mut self.is_spent) {
            self.partial.clear();
            self.partial.shrink_to(BYTES_KEPT);
        }
        if self.partial.is_empty()
            && let Some((head, rest)) = input.split_first_chunk::<2>()
        {
            let Some(length) = length(*head)? else {
                *input = rest;
                return Ok(Some(Piece::Leave));
            };
            if let Some((datagram, rest)) = rest.split_at_checked(length) {
                *input = rest;
                return Ok(Some(Piece::Datagram(datagram)));
            }
        }
        loop {
            let known = self.partial.first_chunk::<2>().copied();
            let wanted = match known.map(length).transpose()? {
                None => 2,
                Some(Some(length)) => 2 + length,
                Some(None) => {
                    self.partial.clear();
                    return Ok(Some(Piece::Leave));
                }
            };
            if self.partial.len() == wanted && wanted >= 2 && known.is_some() {
                self.is_spent = true;
                return Ok(Some(Piece::Datagram(&self.partial[2..])));
            }
            if input.is_empty() {
                return Ok(None);
            }
            let (bytes, rest) = input.split_at((wanted - self.partial.len()).min(input.len()));
            self.partial.extend_from_slice(bytes);
            *input = rest;
        }
    }
}

/// `None` for [`LEAVE`].
fn length(head: [u8; 2]) -> Result<Option<usize>, InvalidLength> {
    let length = u16::from_be_bytes(head);
    match usize::from(length) {
        _ if head == LEAVE => Ok(None),
        bytes if bytes <= DATAGRAM_BYTES_MAX => Ok(Some(bytes)),
        _ => Err(InvalidLength(length)),
    }
}

/// Puts a number down in one, two, four or eight bytes; one of 2⁶² or more is no number of a stream.
///
/// **Source**: Spec: RFC 9000 §16.
pub fn write_varint(number: u64, out: &mut Vec<u8>) {
    let bytes = number.to_be_bytes();
    match number {
        0..=0x3f => out.push(bytes[7]),
        0x40..=0x3fff => out.extend([bytes[6] | 0x40, bytes[7]]),
        0x4000..=0x3fff_ffff => {
            out.push(bytes[4] | 0x80);
            out.extend_from_slice(&bytes[5..]);
        }
        _ => {
            out.push(bytes[0] | 0xc0);
            out.extend_from_slice(&bytes[1..]);
        }
    }
}

/// Reads such a number, with the bytes that it took; `None` when there are too few.
pub fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let count = 1_usize << (first >> 6);
    let rest = bytes.get(1..count)?;
    let number = rest.iter().fold(u64::from(first & 0x3f), |sum, byte| sum << 8 | u64::from(*byte));
    Some((number, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, InvalidLength> {
        let mut reader = Reader::default();
        let mut seen = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(piece) = reader.next(&mut input)? {
                seen.push(match piece {
                    Piece::Datagram(bytes) => Some(bytes.to_vec()),
                    Piece::Leave => None,
                });
            }
        }
        Ok(seen)
    }

    #[test]
    fn datagrams_read_alike_however_their_bytes_arrive() {
        let datagrams = [&b""[..], b"a", b"", b"bcd", &[7; 300]];
        let mut bytes = Vec::new();
        for datagram in datagrams {
            bytes.extend(length_before(datagram).expect("a datagram"));
            bytes.extend_from_slice(datagram);
        }
        bytes.extend(LEAVE);
        bytes.extend([0, 1, b'z']);
        let mut want: Vec<Option<Vec<u8>>> = datagrams.map(|it| Some(it.to_vec())).to_vec();
        want.extend([None, Some(b"z".to_vec())]);
        assert_eq!(read(&[&bytes]).as_ref(), Ok(&want));
        for cut in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]).as_ref(), Ok(&want), "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single).as_ref(), Ok(&want));
    }

    #[test]
    fn the_longest_is_read_and_longer_ones_are_none() {
        let longest = vec![9; DATAGRAM_BYTES_MAX];
        let head = length_before(&longest).expect("it fits");
        let came = read(&[&head, &longest[..40_000], &longest[40_000..]]).expect("whole");
        assert_eq!(came, [Some(longest.clone())]);
        assert_eq!(length_before(&vec![0; DATAGRAM_BYTES_MAX + 1]), None);
        for length in [65_528, 65_534_u16] {
            let [a, b] = length.to_be_bytes();
            assert_eq!(read(&[&[a, b]]), Err(InvalidLength(length)));
            assert_eq!(read(&[&[a], &[b]]), Err(InvalidLength(length)));
        }
    }

    #[test]
    fn numbers_of_streams_read_as_they_were_written() {
        for (number, bytes) in [
            (0, &[0][..]),
            (63, &[63]),
            (64, &[0x40, 64]),
            (15_293, &[0x7b, 0xbd]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
        ] {
            let mut out = Vec::new();
            write_varint(number, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(read_varint(&[bytes, b"x"].concat()), Some((number, bytes.len())));
            assert_eq!(read_varint(&bytes[..bytes.len() - 1]), None);
        }
    }
}
