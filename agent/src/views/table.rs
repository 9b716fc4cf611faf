//! Which values are watched, and what the servers have yet to be told about that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use weft_core::index::Index;
use weft_core::limits;
use weft_proto::grpc::v1::watch_event::Answer;
use weft_proto::grpc::v1::watch_request::Request;
use weft_proto::grpc::v1::{WatchEvent, WatchRequest, WatchStart, WatchStop};

use super::Slot;
use super::feed::{Cell, Feed};

/// How long a watch goes on without readers: longer than the pause between two look-ups of a
/// busy client, short enough that what is unused costs little.
const IDLE_MAX: Duration = Duration::from_secs(30);

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
}

#[derive(Default)]
struct Table {
    last_id: u64,
    entries: BTreeMap<Key, Entry>,
    keys: BTreeMap<u64, Key>,
    to_start: BTreeSet<u64>,
    to_stop: BTreeSet<u64>,
    is_connected: bool,
}

struct Entry {
    id: u64,
    feed: Arc<dyn Feed>,
    idle_since: Option<Instant>,
}

impl Shared {
    /// Returns a receiver of the value, and has it watched.
    pub(super) fn subscribe<T>(&self, key: &Key) -> watch::Receiver<Slot<T>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let mut table = self.table.lock();
        if let Some(entry) = table.entries.get_mut(key) {
            entry.idle_since = None;
            let cell = entry.feed.clone().into_any().downcast::<Cell<T>>();
            return cell.expect("a topic has one type of value: see `Views`").subscribe();
        }
        if table.entries.len() >= limits::WATCHES_PER_AGENT_MAX {
            table.stop_idle(Duration::ZERO, weft_runtime::clock::instant());
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

    /// Ends a watch that nobody looks at.
    pub(super) fn retire(&self, key: &Key) {
        let mut table = self.table.lock();
        if table.entries.get(key).is_some_and(|entry| !entry.feed.has_readers()) {
            table.stop(key);
            drop(table);
            self.wake.notify_one();
        }
    }

    /// Ends the watches that nobody looked at for a while.
    pub(super) fn sweep(&self, now: Instant) {
        self.table.lock().stop_idle(IDLE_MAX, now);
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
        for entry in table.entries.values() {
            entry.feed.disconnect();
        }
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
        let feed = {
            let table = self.table.lock();
            let entry = table.keys.get(&event.id).and_then(|key| table.entries.get(key));
            entry.map(|entry| entry.feed.clone())
        };
        match (feed, &event.answer) {
            (Some(feed), Some(Answer::Value(bytes))) => {
                feed.take_value(Index(event.index), bytes);
            }
            (Some(feed), Some(Answer::Problem(problem))) => {
                feed.take_problem(Index(event.index), problem);
            }
            (Some(_), None) | (None, _) => {}
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
        self.entries.insert(key.clone(), Entry { id, feed, idle_since: None });
        self.to_start.insert(id);
    }

    fn stop(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.keys.remove(&entry.id);
        // What the servers never heard of needs no stop.
        if !self.to_start.remove(&entry.id) {
            self.to_stop.insert(entry.id);
        }
    }

    fn stop_idle(&mut self, idle_max: Duration, now: Instant) {
        let mut ended = Vec::new();
        for (key, entry) in &mut self.entries {
            if entry.feed.has_readers() {
                entry.idle_since = None;
            } else if now.duration_since(*entry.idle_since.get_or_insert(now)) >= idle_max {
                ended.push(key.clone());
            }
        }
        for key in ended {
            self.stop(&key);
        }
    }
}
