//! The store's twin in memory, for simulations: the same rules, and a power cut on demand.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Pair;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the disk under one store keeps. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Twin {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What the process sees.
    tables: BTreeMap<String, Rows>,
    /// What a power cut leaves for certain.
    durable: BTreeMap<String, Rows>,
    /// The writes since the last sync, in order.
    unsynced: Vec<(String, Vec<u8>, Option<Vec<u8>>)>,
    is_forgetful: bool,
}

impl Twin {
    /// Makes syncs do nothing: a bug on purpose, which the checks must find.
    pub fn forget_syncs(&self) {
        self.inner.lock().is_forgetful = true;
    }

    /// Returns the number of writes that a power cut may lose.
    pub fn unsynced(&self) -> usize {
        self.inner.lock().unsynced.len()
    }

    /// Cuts the power: of the writes since the last sync only the first `kept` are there.
    pub fn cut_power(&self, kept: usize) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        for (table, key, value) in inner.unsynced.drain(..).take(kept) {
            write(&mut inner.durable, &table, key, value);
        }
        inner.tables = inner.durable.clone();
    }

    pub(super) fn sync(&self) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if inner.is_forgetful {
            return;
        }
        for (table, key, value) in inner.unsynced.drain(..) {
            write(&mut inner.durable, &table, key, value);
        }
    }

    pub(super) fn get(&self, table: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.inner.lock().tables.get(table)?.get(key).cloned()
    }

    pub(super) fn set(&self, table: &str, key: &[u8], value: Option<Vec<u8>>) {
        let mut inner = self.inner.lock();
        write(&mut inner.tables, table, key.to_vec(), value.clone());
        inner.unsynced.push((table.to_owned(), key.to_vec(), value));
    }

    pub(super) fn range(&self, table: &str, keys: (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Vec<Pair> {
        let inner = self.inner.lock();
        let Some(rows) = inner.tables.get(table) else { return Vec::new() };
        rows.range(keys).map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

fn write(tables: &mut BTreeMap<String, Rows>, table: &str, key: Vec<u8>, value: Option<Vec<u8>>) {
    let rows = tables.entry(table.to_owned()).or_default();
    match value {
        Some(value) => rows.insert(key, value),
        None => rows.remove(&key),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_a_first_part_of_the_rest() {
        let twin = Twin::default();
        twin.set("t", b"a", Some(b"1".to_vec()));
        twin.sync();
        twin.set("t", b"a", Some(b"2".to_vec()));
        twin.set("t", b"b", Some(b"3".to_vec()));
        assert_eq!(twin.unsynced(), 2);
        twin.cut_power(1);
        assert_eq!(twin.get("t", b"a"), Some(b"2".to_vec()));
        assert_eq!(twin.get("t", b"b"), None);
        twin.set("t", b"a", None);
        twin.cut_power(0);
        assert_eq!(twin.get("t", b"a"), Some(b"2".to_vec()), "kept by the cut before");
    }

    #[test]
    fn a_forgetful_disk_loses_what_it_said_to_be_synced() {
        let twin = Twin::default();
        twin.forget_syncs();
        twin.set("t", b"a", Some(b"1".to_vec()));
        twin.sync();
        twin.cut_power(0);
        assert_eq!(twin.get("t", b"a"), None);
    }
}
