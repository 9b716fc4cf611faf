//! Who waits for all keys with a common start: found from a key that changed without looking at
//! the others who wait.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::kv::KvKey;
use crate::state::Change;

/// Waiters by prefix.
#[derive(Debug)]
pub struct Prefixes<W> {
    waiting: BTreeMap<KvKey, BTreeSet<W>>,
    /// How many different prefixes of each length are waited for: a key is cut at these only.
    lengths: BTreeMap<usize, usize>,
}

impl<W> Default for Prefixes<W> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), lengths: BTreeMap::new() }
    }
}

impl<W: Ord> Prefixes<W> {
    /// Adds who waits for a prefix.
    pub fn add(&mut self, prefix: &KvKey, waiter: W) {
        if !self.waiting.contains_key(prefix) {
            *self.lengths.entry(prefix.as_str().len()).or_default() += 1;
        }
        self.waiting.entry(prefix.clone()).or_default().insert(waiter);
    }

    /// Takes who waits for a prefix out.
    pub fn remove(&mut self, prefix: &KvKey, waiter: &W) {
        let Some(waiters) = self.waiting.get_mut(prefix) else { return };
        waiters.remove(waiter);
        if !waiters.is_empty() {
            return;
        }
        self.waiting.remove(prefix);
        let length = prefix.as_str().len();
        if let Some(count) = self.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
    }

    /// Returns whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns everyone who waits.
    pub fn all(&self) -> impl Iterator<Item = &W> {
        self.waiting.values().flatten()
    }

    /// Returns who waits for a prefix that a change touches.
    pub fn touched<'a>(&'a self, change: &'a Change) -> impl Iterator<Item = &'a W> {
        let (key, is_tree) = match change {
            Change::Key(key) => (Some(key.as_str()), false),
            Change::KeyTree(prefix) => (Some(prefix.as_str()), true),
            _ => (None, false),
        };
        let above = key.into_iter().flat_map(move |key| {
            // What is removed as a tree is looked at as a whole below.
            let starts = self.lengths.keys().filter_map(|length| key.get(..*length));
            starts.filter(move |start| !is_tree || start.len() < key.len())
        });
        let above = above.filter_map(|start| self.waiting.get(start));
        let below = key.filter(|_| is_tree).into_iter().flat_map(|key| {
            let range = self.waiting.range::<str, _>((Bound::Included(key), Bound::Unbounded));
            range.take_while(move |(prefix, _)| prefix.as_str().starts_with(key))
        });
        above.chain(below.map(|(_, waiters)| waiters)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> KvKey {
        KvKey::parse(text).expect("a key")
    }

    #[test]
    fn a_change_finds_those_whose_prefix_it_is_under_and_nobody_else() {
        let mut prefixes = Prefixes::default();
        for prefix in ["", "a", "a/", "a/b/c", "é", "b"] {
            prefixes.add(&key(prefix), prefix);
        }
        for (change, wanted) in [
            (Change::Key(key("a/b")), vec!["", "a", "a/"]),
            (Change::Key(key("a")), vec!["", "a"]),
            (Change::Key(key("éé")), vec!["", "é"]),
            (Change::Key(key("x")), vec![""]),
            (Change::KeyTree(key("a/")), vec!["", "a", "a/", "a/b/c"]),
            (Change::KeyTree(key("a/b")), vec!["", "a", "a/", "a/b/c"]),
            (Change::KeyTree(key("")), vec!["", "a", "a/", "a/b/c", "b", "é"]),
            (Change::Nodes, vec![]),
        ] {
            let told: Vec<&str> = prefixes.touched(&change).copied().collect();
            assert_eq!(told, wanted, "{change:?}");
        }
        for prefix in ["", "a", "a/", "a/b/c", "é", "b"] {
            prefixes.remove(&key(prefix), &"other");
            prefixes.remove(&key(prefix), &prefix);
        }
        assert!(prefixes.is_empty() && prefixes.lengths.is_empty());
    }
}
