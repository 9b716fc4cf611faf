//! The log in tables of the embedded store: slower than segments, and without files of its own.
//!
//! What servers wrote before there were segments; a second implementation under the same tests.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use weft_proto::envelope;
use weft_runtime::store::{Store, StoreError, Table};

use super::damage::LogDamage;
use super::medium::{Bounds, Entries, LogSize, Medium};
use crate::raft::types::{Entry, LogId};

/// Bytes of one piece of an entry: well below the store's bound on values.
const PIECE_BYTES: usize = 48 << 10;

const PURGED: &[u8] = b"purged";

/// The log in two tables.
pub(super) struct TableLog {
    store: Store,
    log: Table,
    marks: Table,
    bounds: Bounds,
}

impl TableLog {
    /// Opens the log and checks all of it.
    pub(super) fn open(store: &Store) -> Result<Self, LogDamage> {
        let (log, marks) = (store.table("log")?, store.table("marks")?);
        let purged = marks.get(PURGED)?.map(|bytes| envelope::decode(&bytes)).transpose()?;
        let last = check(&log, purged)?;
        Ok(Self { store: store.clone(), log, marks, bounds: Bounds { purged, last } })
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.bounds == Bounds::default()
    }

    /// Returns the index of the first entry.
    pub(super) fn first(&self) -> Result<Option<u64>, LogDamage> {
        let Some(pair) = self.log.all().next() else { return Ok(None) };
        Ok(split_key(&pair?.0).map(|(index, _)| index))
    }

    /// Removes all of it, for good.
    pub(super) fn clear(&mut self) -> Result<(), LogDamage> {
        remove_all(&self.log, self.log.all())?;
        self.marks.remove(PURGED)?;
        self.bounds = Bounds::default();
        Ok(self.store.sync()?)
    }
}

impl Medium for TableLog {
    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn append(&mut self, entries: &[(u64, Bytes)]) -> Result<(), LogDamage> {
        entries.iter().try_for_each(|(index, entry)| put_entry(&self.log, *index, entry))?;
        Ok(())
    }

    fn truncate(&mut self, from: u64) -> Result<(), LogDamage> {
        // From the end, so that a crash in between leaves no hole.
        let start = piece_key(from, 0);
        Ok(remove_all(&self.log, self.log.range(Bound::Included(&start), Bound::Unbounded).rev())?)
    }

    fn purge(&mut self, upto: LogId) -> Result<(), LogDamage> {
        // The mark first: a crash in between leaves entries that the next start removes.
        self.marks.put(PURGED, &envelope::encode(&upto))?;
        let end = piece_key(upto.index, u16::MAX);
        Ok(remove_all(&self.log, self.log.range(Bound::Unbounded, Bound::Included(&end)))?)
    }

    fn sync(&mut self) -> Result<(), LogDamage> {
        Ok(self.store.sync()?)
    }

    fn entries(&self) -> Arc<dyn Entries> {
        Arc::new(InTable(self.log.clone()))
    }
}

struct InTable(Table);

impl Entries for InTable {
    fn read(&self, from: u64, to: u64, bytes_max: u64) -> Result<Vec<Vec<u8>>, LogDamage> {
        let start = piece_key(from, 0);
        let first = self.0.range(Bound::Included(&start), Bound::Unbounded).next().transpose()?;
        let from = first.and_then(|(key, _)| split_key(&key)).map_or(from, |(index, _)| index);
        let (mut entries, mut sum) = (Vec::new(), 0);
        for index in from..to {
            let found = read_entries(&self.0, index, index + 1)?.pop();
            let bytes = found.and_then(|(_, bytes)| bytes).ok_or(LogDamage::Hole { index })?;
            sum += bytes.len() as u64;
            if sum > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(bytes);
        }
        Ok(entries)
    }

    fn size_from(&self, from: u64) -> LogSize {
        let start = piece_key(from, 0);
        let pairs = self.0.range(Bound::Included(&start), Bound::Unbounded);
        let bytes = pairs.flatten().map(|(_, value)| value.len() as u64).sum();
        LogSize { bytes, segments: 0 }
    }
}

fn remove_all(
    log: &Table,
    pairs: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>>,
) -> Result<(), StoreError> {
    for pair in pairs {
        log.remove(&pair?.0)?;
    }
    Ok(())
}

/// An entry lies in one or more pieces; the first says how many there are.
fn put_entry(log: &Table, index: u64, entry: &[u8]) -> Result<(), StoreError> {
    let pieces = entry.chunks(PIECE_BYTES);
    let count = u16::try_from(pieces.len()).unwrap_or(u16::MAX);
    for (at, piece) in (0..count).zip(pieces) {
        let mut value = Vec::with_capacity(2 + piece.len());
        value.extend_from_slice(&count.to_be_bytes());
        value.extend_from_slice(piece);
        log.put(&piece_key(index, at), &value)?;
    }
    Ok(())
}

/// Big-endian, so that pieces lie in the order of the log.
fn piece_key(index: u64, piece: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&piece.to_be_bytes());
    key
}

/// An entry's index with its bytes, `None` when its last pieces are missing.
type Found = (u64, Option<Vec<u8>>);

/// Reads entries `from..to` (`to` exclusive); each comes with its index.
fn read_entries(log: &Table, from: u64, to: u64) -> Result<Vec<Found>, StoreError> {
    let (start, end) = (piece_key(from, 0), piece_key(to, 0));
    let mut entries: Vec<Found> = Vec::new();
    let (mut bytes, mut missing) = (Vec::new(), 0u16);
    let mut open: Option<u64> = None;
    for pair in log.range(Bound::Included(&start), Bound::Excluded(&end)) {
        let (key, value) = pair?;
        let Some((index, piece)) = split_key(&key) else { continue };
        let Some((count, part)) = value.split_first_chunk::<2>() else { continue };
        if piece == 0 {
            if let Some(unfinished) = open.take() {
                entries.push((unfinished, None));
            }
            (bytes, missing) = (Vec::new(), u16::from_be_bytes(*count));
            open = Some(index);
        }
        bytes.extend_from_slice(part);
        missing = missing.saturating_sub(1);
        if missing == 0 && open.take().is_some() {
            entries.push((index, Some(std::mem::take(&mut bytes))));
        }
    }
    if let Some(unfinished) = open {
        entries.push((unfinished, None));
    }
    Ok(entries)
}

fn split_key(key: &[u8]) -> Option<(u64, u16)> {
    let (index, piece) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*index), u16::from_be_bytes(piece.try_into().ok()?)))
}

/// Walks through the whole log. Removes what a crash left: entries that were to be purged, and
/// a last entry of which only a part was written (nobody was told that it is kept).
fn check(table: &Table, purged: Option<LogId>) -> Result<Option<LogId>, LogDamage> {
    let first = purged.map_or(0, |id| id.index + 1);
    let mut remove: Vec<u64> = Vec::new();
    let (mut expected, mut last) = (None, None);
    for (index, bytes) in read_entries(table, 0, u64::MAX)? {
        if index < first {
            remove.push(index);
            continue;
        }
        // A torn entry may only be the last one: what follows it would be a hole.
        let expect = expected.unwrap_or(if purged.is_some() { first } else { index });
        if index != expect || remove.last().is_some_and(|torn| *torn >= first) {
            return Err(LogDamage::Hole { index: expect });
        }
        expected = Some(index + 1);
        match bytes {
            Some(bytes) => last = Some(envelope::decode::<Entry>(&bytes)?.log_id),
            None => remove.push(index),
        }
    }
    for index in remove {
        let (start, end) = (piece_key(index, 0), piece_key(index, u16::MAX));
        remove_all(table, table.range(Bound::Included(&start), Bound::Included(&end)))?;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_many_pieces_comes_back_and_a_torn_one_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a store");
        let log = store.table("log").expect("a table");
        let large: Vec<u8> = (0..500_000u32).map(|n| n as u8).collect();
        put_entry(&log, 1, b"small").expect("written");
        put_entry(&log, 2, &large).expect("written");
        put_entry(&log, 3, &large).expect("written");
        let read = read_entries(&log, 1, 4).expect("readable");
        assert_eq!(read[0], (1, Some(b"small".to_vec())));
        assert_eq!(read[1], (2, Some(large.clone())));
        assert_eq!(read.len(), 3);

        log.remove(&piece_key(3, 9)).expect("removed");
        assert_eq!(read_entries(&log, 3, 4).expect("readable"), vec![(3, None)]);
        let entries = InTable(log);
        assert!(matches!(entries.read(0, 4, u64::MAX), Err(LogDamage::Hole { index: 3 })));
        assert_eq!(entries.read(0, 3, u64::MAX).expect("whole"), [b"small".to_vec(), large]);
    }
}
