//! The log of consensus: its tail in memory, all of it in the store.
//!
//! An entry can be read as soon as it is appended and counts as kept once the journal says so.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{ErrorSubject, ErrorVerb, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::Mutex;
use weft_proto::envelope;
use weft_runtime::store::{Store, StoreError, Table};
use weft_runtime::task::TaskTree;

use super::journal::{self, Journal, Write};
use super::types::{Entry, LogId, NodeId, StorageError, TypeConfig, Vote};

/// Entries kept in memory beyond those on their way to the disk: what a follower that is a
/// little behind asks for.
const TAIL_ENTRIES: usize = 1024;

/// States why the log of a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogDamage {
    /// An entry is missing in the middle.
    #[error(
        "the log lacks entry {index}; move the data directory aside and join again as a new server"
    )]
    Hole {
        /// The first index that is missing.
        index: u64,
    },
    /// A record is there and not readable.
    #[error("the log has a record that cannot be understood")]
    Record(#[from] envelope::InvalidEnvelope),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The log. Clones share it.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    table: Table,
    marks: Table,
    journal: Journal,
    tasks: TaskTree,
    tail: Mutex<Tail>,
}

struct Tail {
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The newest entries; without holes up to `last`.
    entries: BTreeMap<u64, Entry>,
    /// The last index of which the journal said that it is on disk.
    durable: u64,
}

impl Log {
    /// Opens the log, checks all of it and starts its journal.
    pub(crate) fn open(store: &Store, tasks: &TaskTree) -> Result<Self, LogDamage> {
        let (table, marks) = (store.table("log")?, store.table("marks")?);
        let purged: Option<LogId> = read_mark(&marks, journal::PURGED)?;
        let last = check(&table, purged)?;
        let durable = last.map_or(0, |id| id.index);
        let journal = Journal::start(store.clone(), table.clone(), marks.clone(), tasks);
        let tail = Tail { purged, last, entries: BTreeMap::new(), durable };
        let tasks = tasks.clone();
        let shared = Shared { table, marks, journal, tasks, tail: Mutex::new(tail) };
        Ok(Self { shared: Arc::new(shared) })
    }

    async fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, StorageError> {
        let (mut newer, first_in_memory) = {
            let tail = self.shared.tail.lock();
            let end = to.min(tail.last.map_or(0, |id| id.index + 1));
            let from = from.max(tail.purged.map_or(0, |id| id.index + 1));
            if from >= end {
                return Ok(Vec::new());
            }
            let newer: Vec<Entry> =
                tail.entries.range(from..end).map(|(_, entry)| entry.clone()).collect();
            let first = newer.first().map_or(end, |entry| entry.log_id.index);
            (newer, first)
        };
        if from >= first_in_memory {
            return Ok(newer);
        }
        let table = self.shared.table.clone();
        let older = self
            .shared
            .tasks
            .blocking(move || read_decoded(&table, from, first_in_memory))
            .await
            .map_err(|failure| read_error(io::Error::other(failure.message)))?
            .map_err(|damage| read_error(io::Error::other(damage.to_string())))?;
        let mut entries = older;
        entries.append(&mut newer);
        Ok(entries)
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
        self.read(from, to).await
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
            let write = Write::Mark(journal::COMMITTED, envelope::encode(&committed));
            // Not waited for: the mark only spares the next start a wait for the leader.
            self.shared.journal.write(write, Box::new(drop)).await;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
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
                tail.entries.insert(entry.log_id.index, entry);
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
        let before = self.read(from.saturating_sub(1), from).await?;
        let mut tail = self.shared.tail.lock();
        tail.entries.split_off(&from);
        tail.durable = tail.durable.min(from.saturating_sub(1));
        tail.last = before.last().map(|entry| entry.log_id);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        {
            let mut tail = self.shared.tail.lock();
            tail.purged = Some(upto);
            tail.entries = tail.entries.split_off(&(upto.index + 1));
            if tail.last.is_some_and(|last| last.index <= upto.index) {
                tail.last = None;
            }
        }
        let write = Write::Purge { upto: upto.index, mark: envelope::encode(&upto) };
        self.shared.journal.write_durably(write).await.map_err(write_error)
    }
}

impl Tail {
    /// Notes what is on disk, and forgets the oldest of what is there too.
    fn kept(&mut self, upto: u64) {
        self.durable = self.durable.max(upto);
        while self.entries.len() > TAIL_ENTRIES
            && let Some(first) = self.entries.first_entry()
            && *first.key() <= self.durable
        {
            first.remove();
        }
    }
}

fn read_mark<T: serde::de::DeserializeOwned>(
    marks: &Table,
    name: &[u8],
) -> Result<Option<T>, LogDamage> {
    Ok(marks.get(name)?.map(|bytes| envelope::decode(&bytes)).transpose()?)
}

fn read_decoded(table: &Table, from: u64, to: u64) -> Result<Vec<Entry>, LogDamage> {
    let mut entries = Vec::new();
    for (expected, (index, bytes)) in (from..).zip(journal::read_entries(table, from, to)?) {
        let bytes = bytes.filter(|_| index == expected);
        let bytes = bytes.ok_or(LogDamage::Hole { index: expected })?;
        entries.push(envelope::decode(&bytes)?);
    }
    Ok(entries)
}

/// Walks through the whole log. Removes what a crash left: entries that were to be purged, and
/// a last entry of which only a part was written (nobody was told that it is kept).
fn check(table: &Table, purged: Option<LogId>) -> Result<Option<LogId>, LogDamage> {
    let first = purged.map_or(0, |id| id.index + 1);
    let mut remove: Vec<u64> = Vec::new();
    let (mut expected, mut last) = (None, None);
    for (index, bytes) in journal::read_entries(table, 0, u64::MAX)? {
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
        journal::remove_entry(table, index)?;
    }
    Ok(last)
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
