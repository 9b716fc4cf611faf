//! A snapshot's bytes.
//!
//! `WEFTSNAP`, the length of the description (u32, little-endian), the description and the
//! state as envelopes, then the CRC-32 of all before it. The same bytes lie in a server's
//! directory, travel to a follower and are what an operator saves.

use std::io::{self, Write};

use weft_core::state::{State, StateSnapshot};
use weft_proto::envelope;

use crate::raft::types::SnapshotMeta;

const MAGIC: &[u8; 8] = b"WEFTSNAP";
/// Bytes of a description: a membership of hundreds of servers. Read before its checksum is.
const DESCRIPTION_BYTES_MAX: usize = 1 << 20;

/// States why bytes are no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotASnapshot {
    /// The checksum is wrong.
    #[error("its checksum is wrong: it was changed or cut short")]
    Checksum,
    /// It does not begin as one.
    #[error("it is not a snapshot of Weft")]
    Foreign,
    /// The content cannot be understood.
    #[error("its content cannot be understood; it may be of a newer release")]
    Content,
}

/// Writes down a state, piece by piece.
pub(in crate::raft) fn write(
    meta: &SnapshotMeta,
    state: &State,
    writer: &mut impl Write,
) -> io::Result<()> {
    let mut writer = Summing { writer, sum: crc32fast::Hasher::new() };
    let description = envelope::encode(meta);
    let length = u32::try_from(description.len()).map_err(io::Error::other)?;
    writer.write_all(MAGIC)?;
    writer.write_all(&length.to_le_bytes())?;
    writer.write_all(&description)?;
    envelope::write(&state.to_snapshot(), &mut writer)?;
    let Summing { writer, sum } = writer;
    writer.write_all(&sum.finalize().to_le_bytes())
}

/// Returns the SHA-256 of a state's canonical form, in lower-case hex: equal on servers that
/// have applied the same entries.
pub(in crate::raft) fn digest(state: &State) -> String {
    let mut hasher = Hashing(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256));
    envelope::write(&state.to_snapshot(), &mut hasher).expect("a hasher takes every write");
    hasher.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Hashing(aws_lc_rs::digest::Context);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Summing<'a, W> {
    writer: &'a mut W,
    sum: crc32fast::Hasher,
}

impl<W: Write> Write for Summing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Reads a state; all or nothing.
pub(in crate::raft) fn decode(bytes: &[u8]) -> Result<(SnapshotMeta, State), NotASnapshot> {
    let (description, rest) = split(bytes)?;
    let (state, checksum) = rest.split_last_chunk::<4>().ok_or(NotASnapshot::Checksum)?;
    let content = &bytes[..bytes.len() - checksum.len()];
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return Err(NotASnapshot::Checksum);
    }
    let meta = envelope::decode(description).map_err(|_| NotASnapshot::Content)?;
    let state: StateSnapshot = envelope::decode(state).map_err(|_| NotASnapshot::Content)?;
    Ok((meta, State::from_snapshot(state)))
}

/// Reads the description from the first bytes, which need not be all. Nothing says yet that the
/// rest is whole.
pub(in crate::raft) fn describe(start: &[u8]) -> Result<SnapshotMeta, NotASnapshot> {
    envelope::decode(split(start)?.0).map_err(|_| NotASnapshot::Content)
}

/// Bytes that are enough for [`describe`].
pub(in crate::raft) const START_BYTES: usize = MAGIC.len() + 4 + DESCRIPTION_BYTES_MAX;

fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), NotASnapshot> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(NotASnapshot::Foreign)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(NotASnapshot::Checksum)?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > DESCRIPTION_BYTES_MAX {
        return Err(NotASnapshot::Checksum);
    }
    rest.split_at_checked(length).ok_or(NotASnapshot::Checksum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode() -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&SnapshotMeta::default(), &State::default(), &mut bytes).expect("fits");
        bytes
    }

    #[test]
    fn a_damaged_snapshot_is_never_believed() {
        let bytes = encode();
        assert!(decode(&bytes).is_ok() && describe(&bytes).is_ok());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(decode(&damaged).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(decode(b"\x1f\x8bgzip").err(), Some(NotASnapshot::Foreign));
    }

    proptest! {
        /// With a right checksum, so that the decoder behind it is reached.
        #[test]
        fn no_bytes_make_the_reader_panic(
            tail in proptest::collection::vec(any::<u8>(), 0..300),
            keep in 0usize..200,
        ) {
            let whole = encode();
            let mut bytes = whole[..keep.min(whole.len())].to_vec();
            bytes.extend_from_slice(&tail);
            let _ = decode(&bytes);
            let _ = describe(&bytes);
            let sum = crc32fast::hash(&bytes);
            bytes.extend_from_slice(&sum.to_le_bytes());
            let _ = decode(&bytes);
        }
    }
}
