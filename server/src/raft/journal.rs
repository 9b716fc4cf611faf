//! The one thread that writes the log, the vote and the marks beside it.
//!
//! All writes go through its queue, so they reach the disk in the order in which they were asked
//! for; those that wait together share one sync.

use std::io;
use std::ops::Bound;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::error;
use weft_runtime::store::{Store, StoreError, Table};
use weft_runtime::task::TaskTree;

/// Bytes of one piece of an entry: well below the store's bound on values.
const PIECE_BYTES: usize = 48 << 10;
/// Writes that wait before those who ask have to: more than consensus has in flight.
const QUEUE_LENGTH: usize = 256;
/// Writes that share one sync.
const GROUP_MAX: usize = 256;

/// Keys of the table of marks.
pub(super) const VOTE: &[u8] = b"vote";
pub(super) const COMMITTED: &[u8] = b"committed";
pub(super) const PURGED: &[u8] = b"purged";

/// Called once a write is durable, or has failed.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A write.
pub(super) enum Write {
    /// Adds entries, each by its index.
    Append(Vec<(u64, Bytes)>),
    /// Removes entries up to an index, after the mark of what was purged.
    Purge { upto: u64, mark: Bytes },
    /// Sets a mark.
    Mark(&'static [u8], Bytes),
    /// Removes entries from an index on.
    Truncate { from: u64 },
}

impl Write {
    /// Whether anyone relies on it after a power cut. A lost commit mark or purge only costs
    /// time at the next start.
    fn must_be_durable(&self) -> bool {
        match self {
            Self::Append(_) | Self::Truncate { .. } => true,
            Self::Purge { .. } => false,
            Self::Mark(name, _) => *name != COMMITTED,
        }
    }
}

/// The queue to the thread.
#[derive(Clone)]
pub(super) struct Journal {
    queue: mpsc::Sender<(Write, Done)>,
}

impl Journal {
    /// Starts the thread. It ends when the last handle is dropped.
    pub(super) fn start(store: Store, log: Table, marks: Table, tasks: &TaskTree) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        tasks.worker("journal", waiting, GROUP_MAX, move |group| {
            carry_out_group(&store, &log, &marks, group);
        });
        Self { queue }
    }

    /// Queues a write; waits while the queue is full.
    pub(super) async fn write(&self, write: Write, done: Done) {
        if let Err(mpsc::error::SendError((_, done))) = self.queue.send((write, done)).await {
            done(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed")));
        }
    }

    /// Writes and waits until it is durable.
    pub(super) async fn write_durably(&self, write: Write) -> io::Result<()> {
        let (done, outcome) = tokio::sync::oneshot::channel();
        self.write(write, Box::new(move |result| drop(done.send(result)))).await;
        outcome.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }
}

fn carry_out_group(store: &Store, log: &Table, marks: &Table, group: Vec<(Write, Done)>) {
    let durable = group.iter().any(|(write, _)| write.must_be_durable());
    let result = group
        .iter()
        .try_for_each(|(write, _)| carry_out(log, marks, write))
        .and_then(|()| if durable { store.sync() } else { Ok(()) });
    if let Err(error) = &result {
        error!(%error, "the log could not be written");
    }
    for (_, done) in group {
        done(match &result {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::other(error.to_string())),
        });
    }
}

fn carry_out(log: &Table, marks: &Table, write: &Write) -> Result<(), StoreError> {
    match write {
        Write::Append(entries) => {
            entries.iter().try_for_each(|(index, entry)| put_entry(log, *index, entry))
        }
        Write::Mark(name, value) => marks.put(name, value),
        Write::Purge { upto, mark } => {
            // The mark first: a crash in between leaves entries that the next start removes.
            marks.put(PURGED, mark)?;
            let end = piece_key(*upto, u16::MAX);
            remove_all(log, log.range(Bound::Unbounded, Bound::Included(&end)))
        }
        Write::Truncate { from } => {
            // From the end, so that a crash in between leaves no hole.
            let start = piece_key(*from, 0);
            remove_all(log, log.range(Bound::Included(&start), Bound::Unbounded).rev())
        }
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

/// Removes one entry with all its pieces.
pub(super) fn remove_entry(log: &Table, index: u64) -> Result<(), StoreError> {
    let (start, end) = (piece_key(index, 0), piece_key(index, u16::MAX));
    remove_all(log, log.range(Bound::Included(&start), Bound::Included(&end)))
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
pub(super) type Found = (u64, Option<Vec<u8>>);

/// Reads entries `from..to` (`to` exclusive); each comes with its index.
pub(super) fn read_entries(log: &Table, from: u64, to: u64) -> Result<Vec<Found>, StoreError> {
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
    }
}
