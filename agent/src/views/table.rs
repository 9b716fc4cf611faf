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

use super::Slot;
use super::feed::{Age, Cell, Feed, Taken};
use super::record::Record;

/// How long a watch goes on without readers: longer than the pause between two look-ups of a
/// busy client, short enough that what is unused costs little.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long a watch of an earlier run goes on without readers: as long as DNS keeps names.
const KEPT_IDLE_MAX: Duration = Duration::from_secs(600);
/// How long servers that know less than this agent are not listened to: longer than any of them
/// needs to catch up. After that they do not know better, as after a recovery from an old copy.
const BEHIND_MAX: Duration = Duration::from_secs(60);

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
    was_connected: bool,
    /// Since when there is no connection, once there was one or an attempt failed.
    away_since: Option<Instant>,
    /// Since when servers have only told what is older than what is here.
    behind_since: Option<Instant>,
    /// Whether that is taken now.
    takes_older: bool,
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
    /// Whether the value has to be sent whole, as what was said of it did not fit.
    is_lost: bool,
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
    pub(super) fn connect(&self, now: Instant) {
        let mut table = self.table.lock();
        table.is_connected = true;
        table.was_connected = true;
        table.away_since = None;
        table.takes_older = table.is_long_behind(now);
        table.to_start = table.keys.keys().copied().collect();
        table.to_stop.clear();
    }

    /// Takes note that a server knows less than this agent.
    pub(super) fn fall_behind(&self, now: Instant) {
        self.table.lock().behind_since.get_or_insert(now);
    }

    /// Whether the stream has to begin anew, as the server has known less for so long that what
    /// it says is to be taken.
    pub(super) fn must_begin_anew(&self, now: Instant) -> bool {
        let table = self.table.lock();
        !table.takes_older && table.is_long_behind(now)
    }

    /// Marks every value as no longer confirmed.
    pub(super) fn disconnect(&self) {
        let mut table = self.table.lock();
        table.is_connected = false;
        table.has_failed = true;
        table.away_since.get_or_insert_with(weft_runtime::clock::instant);
        for entry in table.entries.values() {
            entry.feed.disconnect();
        }
        drop(table);
        self.settled.notify_one();
    }

    pub(super) fn is_connected(&self) -> bool {
        self.table.lock().is_connected
    }

    pub(super) fn was_connected(&self) -> bool {
        self.table.lock().was_connected
    }

    /// Returns for how long no server has been connected; `None` while one is, and before the
    /// first attempt has ended.
    pub(super) fn away_for(&self, now: Instant) -> Option<Duration> {
        self.table.lock().away_since.map(|since| now.saturating_duration_since(since))
    }

    pub(super) fn has_requests(&self) -> bool {
        let table = self.table.lock();
        !table.to_start.is_empty() || !table.to_stop.is_empty()
    }

    /// Takes the next thing to tell the servers.
    pub(super) fn next_request(&self) -> Option<WatchRequest> {
        let (id, key, feed, takes_older) = {
            let mut table = self.table.lock();
            if let Some(id) = table.to_stop.pop_first() {
                return Some(WatchRequest { request: Some(Request::Stop(WatchStop { id })) });
            }
            let id = table.to_start.pop_first()?;
            let key = table.keys.get(&id).expect("a watch to start is in the table").clone();
            let entry = table.entries.get_mut(&key).expect("a key is that of an entry");
            let feed = (!std::mem::take(&mut entry.is_lost)).then(|| entry.feed.clone());
            (id, key, feed, table.takes_older)
        };
        let mut start = WatchStart {
            id,
            topic: key.topic,
            key: key.key.into(),
            takes_deltas: true,
            ..WatchStart::default()
        };
        // Outside the lock: a long list takes a while.
        if let Some((index, digest)) = feed.and_then(|feed| feed.known()) {
            start.known_index = if takes_older { 0 } else { index.0 };
            start.known_digest = digest.to_vec().into();
        }
        Some(WatchRequest { request: Some(Request::Start(start)) })
    }

    /// Takes what a server says; a watch that was stopped meanwhile is ignored.
    pub(super) fn take(&self, event: &WatchEvent) {
        let Some(answer) = &event.answer else { return };
        let (feed, takes_older) = {
            let table = self.table.lock();
            (table.feed(event.id), table.takes_older)
        };
        let Some(feed) = feed else { return };
        let age = if takes_older { Age::Any } else { Age::Newer };
        let index = Index(event.index);
        let taken = match answer {
            Answer::Delta(delta) => feed.take_delta(index, delta),
            Answer::Problem(problem) => feed.take_problem(index, problem),
            Answer::Unchanged(_) => feed.take_unchanged(index),
            Answer::Value(bytes) => feed.take_value(index, bytes, age),
        };
        let mut table = self.table.lock();
        match taken {
            Taken::Older => {
                table.behind_since.get_or_insert(weft_runtime::clock::instant());
                return;
            }
            Taken::Misfit => {
                table.lose(event.id);
                drop(table);
                self.wake.notify_one();
                return;
            }
            Taken::Yes => table.behind_since = None,
        }
        table.confirm(event.id);
        match answer {
            Answer::Delta(_) => table.outdate(event.id, index, None),
            Answer::Value(bytes) => table.outdate(event.id, index, Some(bytes)),
            Answer::Problem(_) | Answer::Unchanged(_) => {}
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
            is_lost: false,
            kept: None,
        };
        self.entries.insert(key.clone(), entry);
        self.to_start.insert(id);
    }

    fn feed(&self, id: u64) -> Option<Arc<dyn Feed>> {
        let entry = self.entries.get(self.keys.get(&id)?)?;
        Some(entry.feed.clone())
    }

    fn is_long_behind(&self, now: Instant) -> bool {
        self.behind_since.is_some_and(|since| now.duration_since(since) >= BEHIND_MAX)
    }

    /// Has a value asked for anew.
    fn lose(&mut self, id: u64) {
        let Some(entry) = self.keys.get(&id).and_then(|key| self.entries.get_mut(key)) else {
            return;
        };
        entry.is_lost = true;
        self.to_start.insert(id);
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
    fn outdate(&mut self, id: u64, index: Index, value: Option<&[u8]>) {
        let Some(key) = self.keys.get(&id) else { return };
        let Some(entry) = self.entries.get_mut(key) else { return };
        // What is the same after a reconnection is not written again.
        let is_new = match entry.kept {
            Some(kept) => kept != index,
            None => value.is_none_or(|value| !is_nobody(key, value)),
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
