//! The key/value store: writes, locks, and the index of every question.
//!
//! **Source**: Consul: api-docs/kv; docs/dynamic-app-config/sessions.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::graveyard::{Grave, Graveyard};
use super::rebase::earlier;
use super::{Answer, Change, Refusal, State};
use crate::index::Index;
use crate::kv::{KvCommand, KvCondition, KvEntry, KvKey, Tree};
use crate::limits;
use crate::session::{Session, SessionBehavior, SessionId};
use crate::time::Timestamp;

/// All entries, with what is known of their locks.
#[derive(Debug, Default, Clone)]
pub struct KvTable {
    entries: Tree<Arc<KvEntry>>,
    graveyard: Graveyard,
    /// What each session has locked.
    held: OrdMap<SessionId, OrdSet<KvKey>>,
    /// Until when nobody gets a lock whose session was ended.
    delays: OrdMap<KvKey, Timestamp>,
    /// The same by time, to find those that are over.
    delays_by_end: OrdSet<(Timestamp, KvKey)>,
    /// The last write of any entry.
    index: Index,
}

/// A [`KvTable`] as records.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct KvSnapshot {
    #[serde(default)]
    entries: Vec<Arc<KvEntry>>,
    #[serde(default)]
    graves: Vec<Grave>,
    #[serde(default)]
    forgotten: Index,
    #[serde(default)]
    delays: Vec<(KvKey, Timestamp)>,
    #[serde(default)]
    index: Index,
}

impl KvSnapshot {
    /// Makes no record later than `most`, and forgets what was removed.
    pub(super) fn bring_before(&mut self, most: Index) {
        self.entries.iter_mut().for_each(|entry| earlier!(entry, most));
        self.graves.clear();
        (self.forgotten, self.index) = (self.forgotten.min(most), self.index.min(most));
    }
}

/// What a write of one entry came to.
pub(super) enum Written {
    /// The condition did not hold, with the reason in the words of a transaction's errors.
    Declined(String),
    /// The entry is new, or another than before.
    New(Arc<KvEntry>),
    /// It was that already.
    Same(Arc<KvEntry>),
}

impl KvTable {
    /// Returns an entry, with when it last changed.
    ///
    /// For one that does not exist: when it was removed. Differs: Consul tells the newest write
    /// of any key then, so that every write anywhere ends the wait of who waits for this one.
    pub fn get(&self, key: &str) -> (Index, Option<&Arc<KvEntry>>) {
        match self.entries.get(key) {
            Some(entry) => (entry.modify_index, Some(entry)),
            None => (self.graveyard.removed(key), None),
        }
    }

    /// Returns the entries whose keys start with a prefix, in order, with when any of them was
    /// last written or removed.
    pub fn list(&self, prefix: &str) -> (Index, Vec<Arc<KvEntry>>) {
        (self.index_under(prefix), self.entries.under(prefix).cloned().collect())
    }

    /// Returns the keys that start with a prefix, in order; with a separator each only up to
    /// and with the first one after the prefix, once.
    pub fn keys(&self, prefix: &str, separator: &str) -> (Index, Vec<String>) {
        let mut keys = Vec::new();
        let mut under = self.entries.under(prefix);
        while let Some(entry) = under.next() {
            let key = entry.key.as_str();
            let at = (!separator.is_empty()).then(|| key[prefix.len()..].find(separator)).flatten();
            match at {
                Some(at) => {
                    let length = prefix.len() + at + separator.len();
                    keys.push(key[..length].to_owned());
                    under.skip_sharing(entry, length);
                }
                None => keys.push(key.to_owned()),
            }
        }
        (self.index_under(prefix), keys)
    }

    /// Returns when anything under a prefix was last written or removed. Costs the length of
    /// the prefix.
    ///
    /// **Source**: Consul: of everything the table's index; else the newest entry or tombstone.
    /// An index may fall when a removal is forgotten. Differs: a prefix with nothing under it
    /// has the index of its own removal here, in Consul that of the whole table.
    pub fn index_under(&self, prefix: &str) -> Index {
        if prefix.is_empty() {
            return self.index;
        }
        let entries = self.entries.newest(prefix);
        let removed = self.graveyard.removed_under(prefix);
        match entries {
            Index(0) => removed.max(self.graveyard.forgotten()),
            _ => entries.max(removed),
        }
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the keys that a session has locked.
    pub fn held_by(&self, session: SessionId) -> impl Iterator<Item = &KvKey> {
        self.held.get(&session).into_iter().flatten()
    }

    /// Whether a lock is closed because its session was ended a short while ago.
    pub(super) fn is_delayed(&self, key: &KvKey, now: Timestamp) -> bool {
        self.delays.get(key).is_some_and(|until| *until > now)
    }

    /// Forgets removals and delays that are over.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.graveyard.forget(now);
        while let Some((until, key)) = self.delays_by_end.get_min().cloned()
            && until <= now
        {
            self.delays.remove(&key);
            self.delays_by_end.remove(&(until, key));
        }
    }

    pub(super) fn to_snapshot(&self) -> KvSnapshot {
        KvSnapshot {
            entries: self.entries.under("").cloned().collect(),
            graves: self.graveyard.graves(),
            forgotten: self.graveyard.forgotten(),
            delays: self.delays.iter().map(|(key, until)| (key.clone(), *until)).collect(),
            index: self.index,
        }
    }

    pub(super) fn from_snapshot(snapshot: KvSnapshot) -> Self {
        let KvSnapshot { entries, graves, forgotten, delays, index } = snapshot;
        let mut held = OrdMap::<SessionId, OrdSet<KvKey>>::new();
        for entry in &entries {
            if let Some(session) = entry.session {
                held.entry(session).or_default().insert(entry.key.clone());
            }
        }
        Self {
            entries: entries.into_iter().collect(),
            graveyard: Graveyard::new(graves, forgotten),
            held,
            delays_by_end: delays.iter().map(|(key, until)| (*until, key.clone())).collect(),
            delays: delays.into_iter().collect(),
            index,
        }
    }

    fn put(&mut self, index: Index, entry: Arc<KvEntry>) {
        let session = entry.session;
        let key = entry.key.clone();
        let before = self.entries.insert(entry).and_then(|older| older.session);
        self.index = index;
        if before == session {
            return;
        }
        if let Some(session) = before {
            self.let_go(session, &key);
        }
        if let Some(session) = session {
            self.held.entry(session).or_default().insert(key);
        }
    }

    fn remove(&mut self, index: Index, now: Timestamp, key: &KvKey) {
        let Some(entry) = self.entries.remove(key.as_str()) else { return };
        if let Some(session) = entry.session {
            self.let_go(session, key);
        }
        self.graveyard.bury(index, now, key.clone(), false);
        self.index = index;
    }

    fn let_go(&mut self, session: SessionId, key: &KvKey) {
        if let Some(keys) = self.held.get_mut(&session) {
            keys.remove(key);
            if keys.is_empty() {
                self.held.remove(&session);
            }
        }
    }

    fn delay(&mut self, key: KvKey, until: Timestamp) {
        if let Some(older) = self.delays.insert(key.clone(), until) {
            self.delays_by_end.remove(&(older, key.clone()));
        }
        self.delays_by_end.insert((until, key));
    }
}

impl State {
    /// Returns the key/value store.
    pub fn kv(&self) -> &KvTable {
        &self.kv
    }

    /// Carries out one write. A refusal comes before anything is changed.
    pub(super) fn kv_write(
        &mut self,
        index: Index,
        now: Timestamp,
        command: KvCommand,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        match command {
            KvCommand::Delete { key, cas } => Ok(self.kv_delete(index, now, key, cas, changes)),
            KvCommand::DeleteTree { prefix } => {
                Ok(self.kv_delete_tree(index, now, prefix, changes))
            }
            KvCommand::Set { key, value, flags, condition } => {
                match self.kv_set(index, now, (key, value, flags), &condition, changes)? {
                    Written::Declined(_) => Ok(Answer::CasMismatch),
                    Written::New(_) => Ok(Answer::Done { changed: true }),
                    Written::Same(_) => Ok(Answer::Done { changed: false }),
                }
            }
        }
    }

    pub(super) fn kv_set(
        &mut self,
        index: Index,
        now: Timestamp,
        (key, value, flags): (KvKey, Bytes, u64),
        condition: &KvCondition,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Written, Refusal> {
        check_entry(&key, &value)?;
        let present = self.kv.entries.get(key.as_str());
        let holder = present.and_then(|entry| entry.session);
        let lock_index = present.map_or(0, |entry| entry.lock_index);
        let declined = |verb: &str, reason: &str| {
            Ok(Written::Declined(format!("failed to {verb} key {key:?}{reason}")))
        };
        let (session, lock_index) = match condition {
            KvCondition::Always => (holder, lock_index),
            KvCondition::Cas(cas) => {
                if *cas != present.map(|entry| entry.modify_index).unwrap_or_default() {
                    return declined("set", ", index is stale");
                }
                (holder, lock_index)
            }
            KvCondition::Acquire(session) => {
                if self.kv.is_delayed(&key, now) {
                    return declined("lock", " due to lock delay");
                }
                if self.sessions.get(*session).is_none() {
                    return Err(Refusal::InvalidSession(session.to_string()));
                }
                match holder {
                    None => (Some(*session), lock_index + 1),
                    Some(holder) if holder == *session => (Some(holder), lock_index),
                    Some(_) => return declined("lock", ", lock is already held"),
                }
            }
            KvCondition::Release(session) => {
                if holder != Some(*session) {
                    let reason = ", lock isn't held, or is held by another session";
                    return declined("unlock", reason);
                }
                (None, lock_index)
            }
        };
        if let Some(present) = present
            && present.value == value
            && (present.flags, present.session, present.lock_index) == (flags, session, lock_index)
        {
            return Ok(Written::Same(present.clone()));
        }
        let create_index = present.map_or(index, |entry| entry.create_index);
        let modify_index = index;
        changes.insert(Change::Key(key.clone()));
        let entry = KvEntry { key, value, flags, session, lock_index, create_index, modify_index };
        let entry = Arc::new(entry);
        self.kv.put(index, entry.clone());
        Ok(Written::New(entry))
    }

    pub(super) fn kv_delete(
        &mut self,
        index: Index,
        now: Timestamp,
        key: KvKey,
        cas: Option<Index>,
        changes: &mut BTreeSet<Change>,
    ) -> Answer {
        // As Consul: to remove what is not there succeeds, whatever index was asked for.
        let Some(present) = self.kv.entries.get(key.as_str()) else {
            return Answer::Done { changed: false };
        };
        if cas.is_some_and(|cas| cas != present.modify_index) {
            return Answer::CasMismatch;
        }
        self.kv.remove(index, now, &key);
        changes.insert(Change::Key(key));
        Answer::Done { changed: true }
    }

    pub(super) fn kv_delete_tree(
        &mut self,
        index: Index,
        now: Timestamp,
        prefix: KvKey,
        changes: &mut BTreeSet<Change>,
    ) -> Answer {
        let removed = self.kv.entries.remove_under(prefix.as_str());
        if removed.is_empty() {
            return Answer::Done { changed: false };
        }
        for entry in &removed {
            if let Some(session) = entry.session {
                self.kv.let_go(session, &entry.key);
            }
        }
        self.kv.graveyard.bury(index, now, prefix.clone(), true);
        self.kv.index = index;
        changes.insert(Change::KeyTree(prefix));
        Answer::Done { changed: true }
    }

    /// Frees or removes what an ended session has locked.
    pub(super) fn kv_end_session(
        &mut self,
        index: Index,
        now: Timestamp,
        session: &Session,
        changes: &mut BTreeSet<Change>,
    ) {
        let keys = self.kv.held.get(&session.id).cloned().unwrap_or_default();
        for key in keys {
            match session.behavior {
                SessionBehavior::Delete => self.kv.remove(index, now, &key),
                SessionBehavior::Release => {
                    let Some(entry) = self.kv.entries.get(key.as_str()) else { continue };
                    let mut entry = KvEntry::clone(entry);
                    entry.session = None;
                    entry.modify_index = index;
                    self.kv.put(index, Arc::new(entry));
                }
            }
            if !session.lock_delay.0.is_zero() {
                self.kv.delay(key.clone(), now.saturating_add(session.lock_delay.0));
            }
            changes.insert(Change::Key(key));
        }
    }
}

fn check_entry(key: &KvKey, value: &Bytes) -> Result<(), Refusal> {
    let limit = |field: &str, length, limit| {
        if length <= limit {
            return Ok(());
        }
        Err(Refusal::Limit { field: field.to_owned(), length, limit })
    };
    limit("Key", key.as_str().len(), limits::KV_KEY_BYTES_MAX)?;
    limit("Value", value.len(), limits::KV_VALUE_BYTES_CEILING)
}
