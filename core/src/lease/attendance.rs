//! Who has a stream to one server.

use std::collections::{BTreeMap, BTreeSet};

use super::{Heard, Presence};
use crate::name::NodeName;

/// The list of one server, and how far the leader knows it. One report at a time is on its way.
#[derive(Debug)]
pub struct Attendance {
    epoch: u64,
    version: u64,
    /// The version that the leader has; 0 for none.
    known: u64,
    /// Streams of each host: an agent that starts over may have two for a moment.
    streams: BTreeMap<NodeName, u32>,
    /// Whose presence may be different from what the leader knows.
    changed: BTreeSet<NodeName>,
    /// What the report on its way tells.
    told: BTreeSet<NodeName>,
}

impl Attendance {
    /// Makes an empty list; `epoch` is drawn anew at each start of the server.
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            version: 1,
            known: 0,
            streams: BTreeMap::new(),
            changed: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    /// A stream of a host was opened. Returns whether that is news.
    pub fn handle_open(&mut self, node: &NodeName) -> bool {
        let streams = self.streams.entry(node.clone()).or_default();
        *streams += 1;
        let is_news = *streams == 1;
        if is_news {
            self.changed.insert(node.clone());
        }
        is_news
    }

    /// A stream of a host has ended. Returns whether that is news.
    pub fn handle_close(&mut self, node: &NodeName) -> bool {
        let Some(streams) = self.streams.get_mut(node) else { return false };
        *streams -= 1;
        let is_news = *streams == 0;
        if is_news {
            self.streams.remove(node);
            self.changed.insert(node.clone());
        }
        is_news
    }

    /// Returns how many hosts have a stream.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Returns whether no host has a stream.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Returns what is to be reported now. [`Self::handle_heard`] or [`Self::handle_unheard`]
    /// follows before the next one.
    pub fn report(&mut self) -> Presence {
        self.told = std::mem::take(&mut self.changed);
        if !self.told.is_empty() {
            self.version += 1;
        }
        let (present, gone) = if self.known == 0 {
            (self.streams.keys().cloned().collect(), Vec::new())
        } else {
            self.told.iter().cloned().partition(|node| self.streams.contains_key(node))
        };
        Presence { epoch: self.epoch, base: self.known, version: self.version, present, gone }
    }

    /// The leader has answered.
    pub fn handle_heard(&mut self, heard: Heard) {
        self.told.clear();
        self.known = match heard {
            Heard::Noted => self.version,
            Heard::Unknown => 0,
        };
    }

    /// No leader has answered: it may know the report or not.
    pub fn handle_unheard(&mut self) {
        self.changed.append(&mut self.told);
    }
}
