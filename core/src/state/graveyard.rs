//! The removals of keys, remembered for a while: who waits for a key that is gone must learn when
//! it went.
//!
//! **Source**: Consul: tombstones of the key/value store.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::index::Index;
use crate::kv::{Keyed, KvKey, Tree};
use crate::limits::{
    KV_TOMBSTONE_LIFETIME, KV_TOMBSTONE_STEP, KV_TOMBSTONES_PER_COMMAND_MAX as PER_COMMAND_MAX,
};
use crate::time::Timestamp;

/// One removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grave {
    /// What was removed.
    key: KvKey,
    /// Whether everything that starts with the key went.
    tree: bool,
    /// When.
    index: Index,
    /// From when on it is forgotten.
    expires: Timestamp,
}

impl Keyed for Grave {
    fn key(&self) -> &str {
        self.key.as_str()
    }

    fn index(&self) -> Index {
        self.index
    }
}

/// All removals that are remembered.
#[derive(Debug, Default, Clone)]
pub(super) struct Graveyard {
    graves: Tree<Grave>,
    /// In the order of removal, with the time of each grave.
    queue: OrdMap<(Index, KvKey), Timestamp>,
    /// The newest removal that has been forgotten.
    forgotten: Index,
}

impl Graveyard {
    /// Notes a removal.
    pub(super) fn bury(&mut self, index: Index, now: Timestamp, key: KvKey, tree: bool) {
        let step = KV_TOMBSTONE_STEP.as_millis() as u64;
        let until = now.saturating_add(KV_TOMBSTONE_LIFETIME).0;
        let expires = Timestamp(until.div_ceil(step).saturating_mul(step));
        let older = self.graves.get(key.as_str());
        let tree = tree || older.is_some_and(|grave| grave.tree);
        if let Some(older) = self.graves.insert(Grave { key: key.clone(), tree, index, expires }) {
            self.queue.remove(&(older.index, older.key));
        }
        self.queue.insert((index, key), expires);
    }

    /// Forgets what is old enough.
    pub(super) fn forget(&mut self, now: Timestamp) {
        for _ in 0..PER_COMMAND_MAX {
            let Some(((index, key), expires)) = self.queue.get_min() else { return };
            if *expires > now {
                return;
            }
            let (index, key) = (*index, key.clone());
            self.forgotten = index;
            self.graves.remove(key.as_str());
            self.queue.remove(&(index, key));
        }
    }

    /// Returns when a key that does not exist was removed, as far as can be told.
    pub(super) fn removed(&self, key: &str) -> Index {
        let graves = self.graves.along(key).filter(|grave| grave.tree || grave.key() == key);
        graves.map(|grave| grave.index).max().unwrap_or_default().max(self.forgotten)
    }

    /// Returns when something under a prefix was last removed, as far as is remembered.
    pub(super) fn removed_under(&self, prefix: &str) -> Index {
        let above = self.graves.along(prefix).filter(|grave| grave.tree);
        let above = above.map(|grave| grave.index).max().unwrap_or_default();
        self.graves.newest(prefix).max(above)
    }

    /// Returns the newest removal that has been forgotten.
    pub(super) fn forgotten(&self) -> Index {
        self.forgotten
    }

    /// Returns every grave, by key.
    pub(super) fn graves(&self) -> Vec<Grave> {
        self.graves.under("").cloned().collect()
    }

    /// Makes it of what [`Self::graves`] and [`Self::forgotten`] told.
    pub(super) fn new(graves: Vec<Grave>, forgotten: Index) -> Self {
        let queue =
            graves.iter().map(|grave| ((grave.index, grave.key.clone()), grave.expires)).collect();
        Self { graves: graves.into_iter().collect(), queue, forgotten }
    }
}
