//! A record of a log file: 24 bytes of head, the body, zeros up to the next multiple of eight.
//!
//! All numbers are little-endian. The checksum covers the file's sequence number too, so that
//! bytes of another file are no record here.

/// Bytes before the body: checksum, length, group, kind (u32 each), index (u64).
pub(super) const HEAD_BYTES: usize = 24;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// The entry of that index.
    Entry = 1,
    /// The first record of a file; the index is that of the next entry.
    Opening = 2,
    /// Entries up to that index are gone.
    Purge = 3,
    /// Entries from that index on are gone.
    Truncate = 4,
}

impl Kind {
    fn of(number: u32) -> Option<Self> {
        [Self::Entry, Self::Opening, Self::Purge, Self::Truncate]
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    /// Where the group begins that was written and synced together: all before it was on the
    /// disk before this record was written.
    pub(super) group: u32,
    pub(super) index: u64,
    pub(super) body: &'a [u8],
}

/// Returns what a record with such a body takes in a file.
pub(super) fn bytes_of(body: usize) -> usize {
    (HEAD_BYTES + body).next_multiple_of(ALIGNMENT)
}

impl<'a> Record<'a> {
    /// Appends the record to what is written next to the file.
    ///
    /// # Panics
    /// When the body has 4 GiB or more; entries have a megabyte.
    pub(super) fn put(&self, sequence: u64, into: &mut Vec<u8>) {
        let start = into.len();
        let length = u32::try_from(self.body.len()).expect("entries are bounded far below 4 GiB");
        into.extend_from_slice(&[0; 4]);
        into.extend_from_slice(&length.to_le_bytes());
        into.extend_from_slice(&self.group.to_le_bytes());
        into.extend_from_slice(&(self.kind as u32).to_le_bytes());
        into.extend_from_slice(&self.index.to_le_bytes());
        into.extend_from_slice(self.body);
        let checksum = checksum(sequence, &into[start + 4..]);
        into[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
        into.resize(start + bytes_of(self.body.len()), 0);
    }

    /// Reads the record at the start of the bytes; none when there is none that is whole.
    pub(super) fn read(sequence: u64, bytes: &'a [u8]) -> Option<Self> {
        let (sum, rest) = bytes.split_first_chunk::<4>()?;
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (group, after) = after.split_first_chunk::<4>()?;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let (index, after) = after.split_first_chunk::<8>()?;
        let kind = Kind::of(u32::from_le_bytes(*kind))?;
        let body = after.get(..length)?;
        let whole = rest.get(..HEAD_BYTES - 4 + length)?;
        let is_whole = u32::from_le_bytes(*sum) == checksum(sequence, whole);
        is_whole.then_some(Self {
            kind,
            group: u32::from_le_bytes(*group),
            index: u64::from_le_bytes(*index),
            body,
        })
    }

    /// Returns what the record takes in the file.
    pub(super) fn bytes(&self) -> usize {
        bytes_of(self.body.len())
    }
}

fn checksum(sequence: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_comes_back_and_any_changed_byte_is_noticed() {
        let record = Record { kind: Kind::Entry, group: 40, index: 7, body: b"seven" };
        let mut bytes = Vec::new();
        record.put(3, &mut bytes);
        assert_eq!(bytes.len(), record.bytes());
        assert_eq!(Record::read(3, &bytes), Some(record));
        assert_eq!(Record::read(4, &bytes), None, "of another file");
        for at in 0..HEAD_BYTES + record.body.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Record::read(3, &damaged), None, "byte {at}");
            assert_eq!(Record::read(3, &bytes[..at]), None, "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::read(1, &bytes);
        }

        #[test]
        fn every_record_comes_back(
            group: u32,
            index: u64,
            sequence: u64,
            body in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let record = Record { kind: Kind::Purge, group, index, body: &body };
            let mut bytes = Vec::new();
            record.put(sequence, &mut bytes);
            prop_assert_eq!(bytes.len() % ALIGNMENT, 0);
            prop_assert_eq!(Record::read(sequence, &bytes), Some(record));
        }
    }
}
