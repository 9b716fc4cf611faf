//! Which values are watched, and what the servers have yet to be told about that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use weft_core::index::Index;
use weft_core::limits;
use weft_proto::envelope;
use weft_proto::grpc::v1::watch_event::Answer;
use weft_proto::grpc::v1::watch_request::Request;
use weft_proto::grpc::v1::{Topic, WatchEvent, WatchRequest, WatchStart, WatchStop};

use super::feed::{Cell, Feed};
use super::{Record, Slot};

/// How long a watch goes on without readers: longer than the pause between two look-ups of a
/// busy client, short enough that what is unused costs little.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long a watch of an earlier run goes on without readers: as long as DNS keeps names.
const KEPT_IDLE_MAX: Duration = Duration::from_secs(600);

/// What is watched: a topic of the protocol, and a key within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) topic: i32,
    pub(super) key: Box<str>,
}

/// The table, shared by those who look and the stream that fills it.
#[derive(Default)]
pub(super) struct Shared {
    table: Mutex<Table>,
    /// Told when there is something to tell the servers.
    pub(super) wake: Notify,
    /// Told when the files of values are behind.
    pub(super) behind: Notify,
    /// Told when it may be that there is nothing to wait for at the start.
    pub(super) settled: Notify,
}

#[derive(Default)]
struct Table {
    last_id: u64,
    entries: BTreeMap<Key, Entry>,
    keys: BTreeMap<u64, Key>,
    to_start: BTreeSet<u64>,
    to_stop: BTreeSet<u64>,
    is_connected: bool,
    /// Whether an attempt to reach a server has failed.
    has_failed: bool,
    /// Values of an earlier run about which no server has said anything yet.
    unconfirmed: usize,
    /// Whether values are kept in files; those of `changed` are behind.
    is_keeping: bool,
    changed: BTreeSet<Key>,
}

struct Entry {
    id: u64,
    feed: Arc<dyn Feed>,
    idle_since: Option<Instant>,
    idle_max: Duration,
    is_unconfirmed: bool,
    /// The index of the value for which there is, or soon will be, a file.
    kept: Option<Index>,
}

impl Shared {
    /// Returns a receiver of the value, and has it watched.
    pub(super) fn subscribe<T>(&self, key: &Key) -> watch::Receiver<Slot<T>>
    where
        T: Record,
    {
        let mut table = self.table.lock();
        if let Some(entry) = table.entries.get_mut(key) {
            entry.idle_since = None;
            entry.idle_max = IDLE_MAX;
            let cell = entry.feed.clone().into_any().downcast::<Cell<T>>();
            return cell.expect("a topic has one type of value: see `Views`").subscribe();
        }
        if table.entries.len() >= limits::WATCHES_PER_AGENT_MAX {
            table.stop_idle(Some(Duration::ZERO), weft_runtime::clock::instant());
        }
        if table.entries.len() >= limits::WATCHES_PER_AGENT_MAX {
            return Cell::refused("this agent watches as much as it may").subscribe();
        }
        let cell = Arc::new(Cell::<T>::new());
        let slot = cell.subscribe();
        table.start(key, cell);
        drop(table);
        self.wake.notify_one();
        slot
    }

    /// Enters a value of an earlier run, and has it watched; whether there was room.
    pub(super) fn enter_kept(&self, key: &Key, (index, feed): (Index, Arc<dyn Feed>)) -> bool {
        let mut table = self.table.lock();
        if table.entries.len() >= limits::WATCHES_PER_AGENT_MAX {
            return false;
        }
        table.start(key, feed);
        table.unconfirmed += 1;
        if let Some(entry) = table.entries.get_mut(key) {
            entry.idle_max = KEPT_IDLE_MAX;
            entry.kept = Some(index);
            entry.is_unconfirmed = true;
        }
        true
    }

    /// Has values kept in files from now on.
    pub(super) fn keep(&self) {
        self.table.lock().is_keeping = true;
    }

    /// Takes what the files are behind with: the values to write, and those to remove, which
    /// have none.
    pub(super) fn take_changed(&self) -> Vec<(Key, Option<Arc<dyn Feed>>)> {
        let mut table = self.table.lock();
        let changed = std::mem::take(&mut table.changed);
        let feed = |key: &Key| table.entries.get(key).map(|entry| entry.feed.clone());
        changed.into_iter().map(|key| (key.clone(), feed(&key))).collect()
    }

    /// Takes note that a file is still behind.
    pub(super) fn put_off(&self, key: Key) {
        self.table.lock().changed.insert(key);
        self.behind.notify_one();
    }

    /// Whether servers have spoken about all values of an earlier run, or cannot be reached.
    pub(super) fn is_settled(&self) -> bool {
        let table = self.table.lock();
        table.unconfirmed == 0 || table.has_failed
    }

    /// Ends a watch that nobody looks at.
    pub(super) fn retire(&self, key: &Key) {
        let mut table = self.table.lock();
        if table.entries.get(key).is_some_and(|entry| !entry.feed.has_readers()) {
            table.stop(key);
            drop(table);
            self.wake.notify_one();
            self.behind.notify_one();
        }
    }

    /// Ends the watches that nobody looked at for a while.
    pub(super) fn sweep(&self, now: Instant) {
        self.table.lock().stop_idle(None, now);
        self.behind.notify_one();
    }

    /// Begins anew on a fresh stream: everything has to be started.
    pub(super) fn connect(&self) {
        let mut table = self.table.lock();
        table.is_connected = true;
        table.to_start = table.keys.keys().copied().collect();
        table.to_stop.clear();
    }

    /// Marks every value as no longer confirmed.
    pub(super) fn disconnect(&self) {
        let mut table = self.table.lock();
        table.is_connected = false;
        table.has_failed = true;
        for entry in table.entries.values() {
            entry.feed.disconnect();
        }
        drop(table);
        self.settled.notify_one();
    }

    pub(super) fn is_connected(&self) -> bool {
        self.table.lock().is_connected
    }

    pub(super) fn has_requests(&self) -> bool {
        let table = self.table.lock();
        !table.to_start.is_empty() || !table.to_stop.is_empty()
    }

    /// Takes the next thing to tell the servers.
    pub(super) fn next_request(&self) -> Option<WatchRequest> {
        let mut table = self.table.lock();
        let request = match table.to_stop.pop_first() {
            Some(id) => Request::Stop(WatchStop { id }),
            None => {
                let id = table.to_start.pop_first()?;
                let key = table.keys.get(&id).expect("a watch to start is in the table");
                Request::Start(WatchStart { id, topic: key.topic, key: key.key.clone().into() })
            }
        };
        Some(WatchRequest { request: Some(request) })
    }

    /// Takes what a server says; a watch that was stopped meanwhile is ignored.
    pub(super) fn take(&self, event: &WatchEvent) {
        let Some(answer) = &event.answer else { return };
        let Some(feed) = self.table.lock().feed(event.id) else { return };
        match answer {
            Answer::Value(bytes) => feed.take_value(Index(event.index), bytes),
            Answer::Problem(problem) => feed.take_problem(Index(event.index), problem),
        }
        let mut table = self.table.lock();
        table.confirm(event.id);
        if let Answer::Value(bytes) = answer {
            table.outdate((event.id, Index(event.index)), bytes);
        }
        let (is_settled, is_behind) = (table.unconfirmed == 0, !table.changed.is_empty());
        drop(table);
        if is_settled {
            self.settled.notify_one();
        }
        if is_behind {
            self.behind.notify_one();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.lock().entries.len()
    }
}

impl Table {
    fn start(&mut self, key: &Key, feed: Arc<dyn Feed>) {
        self.last_id += 1;
        let id = self.last_id;
        self.keys.insert(id, key.clone());
        let entry = Entry {
            id,
            feed,
            idle_since: None,
            idle_max: IDLE_MAX,
            is_unconfirmed: false,
            kept: None,
        };
        self.entries.insert(key.clone(), entry);
        self.to_start.insert(id);
    }

    fn feed(&self, id: u64) -> Option<Arc<dyn Feed>> {
        let entry = self.entries.get(self.keys.get(&id)?)?;
        Some(entry.feed.clone())
    }

    /// Takes note that a server has spoken about a watch.
    fn confirm(&mut self, id: u64) {
        let Some(entry) = self.keys.get(&id).and_then(|key| self.entries.get_mut(key)) else {
            return;
        };
        if std::mem::take(&mut entry.is_unconfirmed) {
            self.unconfirmed -= 1;
        }
    }

    /// Takes note that the file of a watch is behind.
    fn outdate(&mut self, (id, index): (u64, Index), value: &[u8]) {
        let Some(key) = self.keys.get(&id) else { return };
        let Some(entry) = self.entries.get_mut(key) else { return };
        // What is the same after a reconnection is not written again.
        let is_new = match entry.kept {
            Some(kept) => kept != index,
            None => !is_nobody(key, value),
        };
        if self.is_keeping && is_new {
            entry.kept = Some(index);
            self.changed.insert(key.clone());
        }
    }

    fn stop(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.keys.remove(&entry.id);
        if entry.is_unconfirmed {
            self.unconfirmed -= 1;
        }
        // While the disk hangs, some files are left to the next start.
        if entry.kept.is_some() && self.changed.len() < limits::WATCHES_PER_AGENT_MAX {
            self.changed.insert(key.clone());
        }
        // What the servers never heard of needs no stop.
        if !self.to_start.remove(&entry.id) {
            self.to_stop.insert(entry.id);
        }
    }

    /// Ends what is idle for so long, or for as long as each may be.
    fn stop_idle(&mut self, idle_max: Option<Duration>, now: Instant) {
        let mut ended = Vec::new();
        for (key, entry) in &mut self.entries {
            if entry.feed.has_readers() {
                entry.idle_since = None;
            } else if now.duration_since(*entry.idle_since.get_or_insert(now))
                >= idle_max.unwrap_or(entry.idle_max)
            {
                ended.push(key.clone());
            }
        }
        for key in ended {
            self.stop(&key);
        }
    }
}

/// Whether a value says that nobody has registered the service. It need not be remembered, and
/// anybody may ask DNS for any name.
pub(super) fn is_nobody(key: &Key, value: &[u8]) -> bool {
    key.topic == i32::from(Topic::Service) && *value == *envelope::encode::<[u8]>(&[])
}
