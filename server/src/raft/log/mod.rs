//! The log of consensus: its tail in memory, all of it on the disk.
//!
//! An entry can be read as soon as it is appended and counts as kept once the journal says so.

mod damage;
mod journal;
mod medium;
mod migrate;
#[cfg(test)]
mod power_cut;
mod segment;
#[cfg(test)]
mod speed;
mod table;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{ErrorSubject, ErrorVerb, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::Mutex;
use tracing::error;
use weft_proto::envelope;
use weft_runtime::disk::Disk;
use weft_runtime::store::{Store, Table};
use weft_runtime::task::TaskTree;

pub(crate) use self::damage::LogDamage;
use self::journal::{Journal, Marks, Write};
use self::medium::{Bounds, Entries, LogSize, Medium};
use super::gauge::Gauges;
use super::types::{Entry, LogId, NodeId, StorageError, TypeConfig, Vote};

/// Entries kept in memory beyond those on their way to the disk: what a follower that is a
/// little behind asks for.
const TAIL_ENTRIES: usize = 1024;
/// Bytes of these entries, in the form in which they are written: in memory they take a few
/// times as much.
const TAIL_BYTES: u64 = 8 << 20;
/// Bytes of the entries that a follower is sent at once, beyond the first: far below the bound of
/// a message.
const SENT_BYTES: u64 = 4 << 20;

/// The log. Clones share it.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    entries: Arc<dyn Entries>,
    marks: Table,
    journal: Journal,
    tasks: TaskTree,
    tail: Arc<Mutex<Tail>>,
}

/// What the log holds, for whoever may outlive it. Clones are the same.
#[derive(Clone)]
pub(crate) struct LogView {
    entries: Arc<dyn Entries>,
    tail: Arc<Mutex<Tail>>,
}

impl LogView {
    /// Returns the last entry that was removed from the front.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.tail.lock().purged
    }

    /// Returns what the entries from an index on take on the disk.
    pub(crate) fn size_from(&self, from: u64) -> LogSize {
        self.entries.size_from(from)
    }
}

struct Tail {
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The newest entries with their bytes; without holes up to `last`.
    entries: BTreeMap<u64, (Entry, u64)>,
    /// The bytes of these entries.
    bytes: u64,
    /// The last index of which the journal said that it is on disk.
    durable: u64,
}

impl Log {
    /// Opens the log in a directory, checks all of it and starts its journal. The log of an
    /// earlier release is moved there out of the store.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        store: &Store,
        gauges: Gauges,
        tasks: &TaskTree,
    ) -> Result<Self, LogDamage> {
        Self::over(migrate::open(disk, dir, store)?, store, gauges, tasks)
    }

    /// Opens the log in tables of the store.
    #[cfg(test)]
    pub(crate) fn open_tables(store: &Store, tasks: &TaskTree) -> Result<Self, LogDamage> {
        Self::over(table::TableLog::open(store)?, store, Gauges::default(), tasks)
    }

    fn over(
        medium: impl Medium,
        store: &Store,
        gauges: Gauges,
        tasks: &TaskTree,
    ) -> Result<Self, LogDamage> {
        let marks = store.table("marks")?;
        let Bounds { purged, last } = medium.bounds();
        let entries = medium.entries();
        let durable = last.map_or(0, |id| id.index);
        let of_journal = Marks { store: store.clone(), table: marks.clone() };
        let journal = Journal::start(medium, of_journal, gauges, tasks);
        let tail = Tail { purged, last, entries: BTreeMap::new(), bytes: 0, durable };
        let tasks = tasks.clone();
        let shared = Shared { entries, marks, journal, tasks, tail: Arc::new(Mutex::new(tail)) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns a view that keeps neither the journal nor the store open.
    pub(crate) fn view(&self) -> LogView {
        LogView { entries: self.shared.entries.clone(), tail: self.shared.tail.clone() }
    }

    /// Checks that nothing is gone of what the cluster has agreed on, up to what a snapshot has.
    pub(crate) fn check_reach(&self, snapshot: Option<LogId>) -> Result<(), LogDamage> {
        let committed: Option<LogId> = read_mark(&self.shared.marks, journal::COMMITTED)?;
        let last = {
            let tail = self.shared.tail.lock();
            tail.last.max(tail.purged).max(snapshot)
        };
        match committed {
            Some(committed) if Some(committed) > last => Err(LogDamage::Short {
                last: last.map_or(0, |id| id.index),
                committed: committed.index,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Reads the first of the entries `from..to`, as many as have so many bytes, at least one.
    async fn read(&self, from: u64, to: u64, bytes_max: u64) -> Result<Vec<Entry>, StorageError> {
        let (newer, from, first_in_memory) = {
            let tail = self.shared.tail.lock();
            let end = to.min(tail.last.map_or(0, |id| id.index + 1));
            let from = from.max(tail.purged.map_or(0, |id| id.index + 1));
            if from >= end {
                return Ok(Vec::new());
            }
            let first = tail.entries.range(from..end).next().map_or(end, |(index, _)| *index);
            let mut sum = 0;
            let newer: Vec<Entry> = tail
                .entries
                .range(from..end)
                .take_while(|(index, (_, bytes))| {
                    sum += bytes;
                    sum <= bytes_max || **index == from
                })
                .map(|(_, (entry, _))| entry.clone())
                .collect();
            (newer, from, first)
        };
        if from >= first_in_memory {
            return Ok(newer);
        }
        let entries = self.shared.entries.clone();
        let older = self
            .shared
            .tasks
            .blocking(move || {
                let found = entries.read(from, first_in_memory, bytes_max)?;
                let decoded = found.iter().map(|bytes| Ok(envelope::decode(bytes)?));
                decoded.collect::<Result<Vec<Entry>, LogDamage>>()
            })
            .await
            .map_err(|failure| read_error(io::Error::other(failure.message)))?;
        let mut older = older.map_err(damage_error)?;
        if bytes_max == u64::MAX {
            older.extend(newer);
        }
        Ok(older)
    }
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, u64::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, SENT_BYTES).await
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let tail = self.shared.tail.lock();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last.or(tail.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let write = Write::Mark(journal::VOTE, envelope::encode(vote));
        self.shared.journal.write_durably(write).await.map_err(write_vote_error)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        read_mark(&self.shared.marks, journal::VOTE).map_err(damage_error)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        if let Some(committed) = committed {
            // Not waited for: the mark only spares the next start a wait for the leader.
            self.shared.journal.note_committed(committed);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        if let Some(committed) = self.shared.journal.committed() {
            return Ok(Some(committed));
        }
        read_mark(&self.shared.marks, journal::COMMITTED).map_err(damage_error)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records: Vec<(u64, Bytes)> = Vec::new();
        {
            let mut tail = self.shared.tail.lock();
            for entry in entries {
                records.push((entry.log_id.index, envelope::encode(&entry)));
                tail.last = Some(entry.log_id);
                tail.put(entry, records.last().map_or(0, |(_, bytes)| bytes.len() as u64));
            }
        }
        let upto = records.last().map_or(0, |(index, _)| *index);
        let shared = self.shared.clone();
        let done = Box::new(move |result: io::Result<()>| {
            if result.is_ok() {
                shared.tail.lock().kept(upto);
            }
            callback.log_io_completed(result);
        });
        self.shared.journal.write(Write::Append(records), done).await;
        Ok(())
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError> {
        let from = since.index;
        self.shared.journal.write_durably(Write::Truncate { from }).await.map_err(write_error)?;
        let before = self.read(from.saturating_sub(1), from, u64::MAX).await?;
        let mut tail = self.shared.tail.lock();
        let removed = tail.entries.split_off(&from);
        tail.bytes -= removed.values().map(|(_, bytes)| bytes).sum::<u64>();
        tail.durable = tail.durable.min(from.saturating_sub(1));
        tail.last = before.last().map(|entry| entry.log_id);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        {
            let mut tail = self.shared.tail.lock();
            tail.purged = Some(upto);
            let kept = tail.entries.split_off(&(upto.index + 1));
            let removed = std::mem::replace(&mut tail.entries, kept);
            tail.bytes -= removed.values().map(|(_, bytes)| bytes).sum::<u64>();
            if tail.last.is_some_and(|last| last.index <= upto.index) {
                tail.last = None;
            }
        }
        // Not waited for: when it is lost, the next start purges again.
        let done = Box::new(|result: io::Result<()>| {
            if let Err(error) = result {
                error!(%error, "the log could not be purged");
            }
        });
        self.shared.journal.write(Write::Purge { upto }, done).await;
        Ok(())
    }
}

impl Tail {
    fn put(&mut self, entry: Entry, bytes: u64) {
        self.bytes += bytes;
        self.entries.insert(entry.log_id.index, (entry, bytes));
    }

    /// Notes what is on disk, and forgets the oldest of what is there too.
    fn kept(&mut self, upto: u64) {
        self.durable = self.durable.max(upto);
        while (self.entries.len() > TAIL_ENTRIES || self.bytes > TAIL_BYTES)
            && let Some(first) = self.entries.first_entry()
            && *first.key() <= self.durable
        {
            self.bytes -= first.remove().1;
        }
    }
}

fn read_mark<T: serde::de::DeserializeOwned>(
    marks: &Table,
    name: &[u8],
) -> Result<Option<T>, LogDamage> {
    Ok(marks.get(name)?.map(|bytes| envelope::decode(&bytes)).transpose()?)
}

fn damage_error(damage: LogDamage) -> StorageError {
    read_error(io::Error::other(damage.to_string()))
}

fn read_error(error: io::Error) -> StorageError {
    storage_error(ErrorSubject::Logs, ErrorVerb::Read, &error)
}

fn write_error(error: io::Error) -> StorageError {
    storage_error(ErrorSubject::Logs, ErrorVerb::Write, &error)
}

fn write_vote_error(error: io::Error) -> StorageError {
    storage_error(ErrorSubject::Vote, ErrorVerb::Write, &error)
}

pub(super) fn storage_error(
    subject: ErrorSubject<NodeId>,
    verb: ErrorVerb,
    error: &(impl std::error::Error + 'static),
) -> StorageError {
    StorageIOError::new(subject, verb, openraft::AnyError::new(error)).into()
}
