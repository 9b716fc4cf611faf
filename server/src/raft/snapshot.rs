//! Snapshots as files: written whole or not at all, checked before they are believed.
//!
//! `WEFTSNAP`, the length of the description (u32, little-endian), the description and the
//! state as envelopes, then the CRC-32 of all before it. The same bytes travel to a follower.

use std::path::{Path, PathBuf};
use std::{fs, io};

use weft_core::state::{State, StateSnapshot};
use weft_proto::envelope;
use weft_runtime::store::{self, StoreError};

use super::types::SnapshotMeta;

const MAGIC: &[u8; 8] = b"WEFTSNAP";
const SUFFIX: &str = ".snap";

/// States why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotDamage {
    /// The bytes are not those that were written.
    #[error(
        "the snapshot {name} is damaged; move the data directory aside and join again as a new server"
    )]
    Bytes {
        /// Which one.
        name: String,
    },
    /// The directory cannot be read.
    #[error("cannot read the snapshots in {dir:?}")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The directory of snapshots; it keeps the newest.
#[derive(Debug, Clone)]
pub(super) struct Snapshots {
    dir: PathBuf,
}

impl Snapshots {
    pub(super) fn open(dir: &Path) -> Result<Self, SnapshotDamage> {
        fs::create_dir_all(dir)
            .map_err(|source| SnapshotDamage::Directory { dir: dir.to_owned(), source })?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Writes a snapshot and removes the older ones.
    pub(super) fn save(&self, meta: &SnapshotMeta, bytes: &[u8]) -> Result<(), SnapshotDamage> {
        let (term, index) = meta.last_log_id.map_or((0, 0), |id| (id.leader_id.term, id.index));
        let path = self.dir.join(format!("{term:020}-{index:020}{SUFFIX}"));
        store::write_file(&path, 0o600, bytes)?;
        for other in self.list()? {
            if other < path {
                // One that stays costs disk and nothing else: the newest is taken.
                let _ = fs::remove_file(&other);
            }
        }
        Ok(())
    }

    /// Returns the newest snapshot's bytes.
    pub(super) fn newest(&self) -> Result<Option<Vec<u8>>, SnapshotDamage> {
        let Some(path) = self.list()?.pop() else { return Ok(None) };
        fs::read(&path).map(Some).map_err(|source| self.directory_error(source))
    }

    /// Returns the files, oldest first: their names sort by term and index.
    fn list(&self) -> Result<Vec<PathBuf>, SnapshotDamage> {
        let mut paths = Vec::new();
        for file in fs::read_dir(&self.dir).map_err(|source| self.directory_error(source))? {
            let path = file.map_err(|source| self.directory_error(source))?.path();
            if path.to_string_lossy().ends_with(SUFFIX) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn directory_error(&self, source: io::Error) -> SnapshotDamage {
        SnapshotDamage::Directory { dir: self.dir.clone(), source }
    }
}

/// Writes down a state.
pub(super) fn encode(meta: &SnapshotMeta, state: &State) -> Vec<u8> {
    let description = envelope::encode(meta);
    let mut bytes = MAGIC.to_vec();
    let length = u32::try_from(description.len()).expect("a description is a few hundred bytes");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&description);
    bytes.extend_from_slice(&envelope::encode(&state.to_snapshot()));
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Reads a state.
pub(super) fn decode(bytes: &[u8]) -> Result<(SnapshotMeta, State), SnapshotDamage> {
    let damage = || SnapshotDamage::Bytes { name: format!("of {} bytes", bytes.len()) };
    let (content, checksum) = bytes.split_last_chunk::<4>().ok_or_else(damage)?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return Err(damage());
    }
    let rest = content.strip_prefix(MAGIC).ok_or_else(damage)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(damage)?;
    let (description, state) =
        rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(damage)?;
    let meta: SnapshotMeta = envelope::decode(description).map_err(|_| damage())?;
    let state: StateSnapshot = envelope::decode(state).map_err(|_| damage())?;
    Ok((meta, State::from_snapshot(state)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_snapshot_is_never_believed() {
        let bytes = encode(&SnapshotMeta::default(), &State::default());
        assert!(decode(&bytes).is_ok());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(decode(&damaged).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
