//! What is different between two lists of records, and a list brought up by that. Lists are by
//! key, each key once: whoever has one list and the difference has the other.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::catalog::{Node, ServiceInstance};
use crate::name::{InstanceId, NodeName};

/// A record with a place in its list.
pub trait Keyed {
    /// What it is found by.
    type Key: Ord;
    /// Returns what it is found by.
    fn key(&self) -> Self::Key;
}

/// The place of a node. Names that differ in case alone are one place, as in the catalog.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodePlace(pub NodeName);

/// The place of an instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstancePlace {
    /// The node that it is on.
    pub node: NodePlace,
    /// What it is known by there.
    pub id: InstanceId,
}

impl NodePlace {
    fn folded(&self) -> impl Iterator<Item = u8> {
        self.0.as_str().bytes().map(|byte| byte.to_ascii_lowercase())
    }
}

impl Ord for NodePlace {
    fn cmp(&self, other: &Self) -> Ordering {
        self.folded().cmp(other.folded())
    }
}

impl PartialOrd for NodePlace {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for NodePlace {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for NodePlace {}

impl Keyed for Node {
    type Key = NodePlace;
    fn key(&self) -> NodePlace {
        NodePlace(self.name.clone())
    }
}

impl Keyed for ServiceInstance {
    type Key = InstancePlace;
    fn key(&self) -> InstancePlace {
        InstancePlace { node: self.node.key(), id: self.service.id.clone() }
    }
}

impl<T: Keyed> Keyed for std::sync::Arc<T> {
    type Key = T::Key;
    fn key(&self) -> T::Key {
        T::key(self)
    }
}

/// What is different between two lists.
///
/// **Shape**: both parts by key, and no key in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta<T, K> {
    /// Records that are new or other than before.
    pub changed: Vec<T>,
    /// The places of those that are gone.
    pub removed: Vec<K>,
}

/// States that a difference does not belong to a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A record to be removed is not there.
    #[error("a record to remove is not in the list")]
    Absent,
    /// The parts are not by key, or a key is there twice.
    #[error("the records are not in order")]
    Disorder,
}

impl<T: Keyed> Delta<T, T::Key> {
    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    /// Returns what makes `new` of `old`. Both are by key.
    pub fn between(old: &[T], new: &[T]) -> Self
    where
        T: Clone + PartialEq,
    {
        let mut delta = Self { changed: Vec::new(), removed: Vec::new() };
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            match (old.peek(), new.peek()) {
                (None, None) => return delta,
                (Some(before), Some(after)) if before == after => {
                    old.next();
                    new.next();
                }
                (before, after) => {
                    let order = by_key(before.copied(), after.copied());
                    if order.is_ge() {
                        delta.changed.extend(new.next().cloned());
                    }
                    if order.is_le() {
                        let gone = old.next().filter(|_| order.is_lt());
                        delta.removed.extend(gone.map(Keyed::key));
                    }
                }
            }
        }
    }

    /// Brings a list up. It is by key before and after.
    ///
    /// # Errors
    /// [`Misfit`] when the difference does not belong to this list, which is then as it was.
    pub fn apply(self, list: &mut Vec<T>) -> Result<(), Misfit>
    where
        T: Clone,
    {
        let Self { changed, removed } = self;
        let (mut changed, mut removed) =
            (changed.into_iter().peekable(), removed.iter().peekable());
        let mut brought_up = Vec::with_capacity(list.len() + changed.len());
        for record in list.iter() {
            let key = record.key();
            while let Some(new) = changed.next_if(|new| new.key() < key) {
                push(&mut brought_up, new)?;
            }
            match changed.next_if(|new| new.key() == key) {
                Some(new) => push(&mut brought_up, new)?,
                None if removed.next_if_eq(&&key).is_some() => {}
                None => push(&mut brought_up, record.clone())?,
            }
        }
        for new in changed {
            push(&mut brought_up, new)?;
        }
        if removed.peek().is_some() {
            return Err(Misfit::Absent);
        }
        *list = brought_up;
        Ok(())
    }
}

fn push<T: Keyed>(list: &mut Vec<T>, record: T) -> Result<(), Misfit> {
    match list.last() {
        Some(last) if last.key() >= record.key() => Err(Misfit::Disorder),
        Some(_) | None => {
            list.push(record);
            Ok(())
        }
    }
}

/// Compares the places of what comes next in two lists; the end comes after everything.
fn by_key<T: Keyed>(one: Option<&T>, other: Option<&T>) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) => one.key().cmp(&other.key()),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Keyed for (u8, u8) {
        type Key = u8;
        fn key(&self) -> u8 {
            self.0
        }
    }

    fn any_list() -> impl Strategy<Value = Vec<(u8, u8)>> {
        prop::collection::btree_map(0_u8..16, 0_u8..3, 0..12)
            .prop_map(|list: BTreeMap<u8, u8>| list.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_list_and_the_difference_always_give_the_other(old in any_list(), new in any_list()) {
            let delta = Delta::between(&old, &new);
            prop_assert_eq!(delta.is_empty(), old == new);
            let changed = delta.changed.iter();
            prop_assert!(changed.clone().all(|it| !old.contains(it) && new.contains(it)));
            let mut brought_up = old.clone();
            prop_assert_eq!(delta.apply(&mut brought_up), Ok(()));
            prop_assert_eq!(brought_up, new);
        }

        #[test]
        fn a_difference_of_something_else_never_leaves_half_of_it(
            list in any_list(),
            changed in prop::collection::vec((0_u8..16, 0_u8..3), 0..5),
            removed in prop::collection::vec(0_u8..16, 0..5),
        ) {
            let mut brought_up = list.clone();
            let outcome = Delta { changed, removed }.apply(&mut brought_up);
            prop_assert!(outcome.is_ok() || brought_up == list);
            prop_assert!(brought_up.is_sorted_by_key(|it| it.0));
        }
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        let list = vec![(1, 0), (3, 0)];
        for (changed, removed, expected) in [
            (vec![], vec![2], Misfit::Absent),
            (vec![(3, 1)], vec![3], Misfit::Absent),
            (vec![], vec![3, 1], Misfit::Absent),
            (vec![(2, 0), (2, 1)], vec![], Misfit::Disorder),
            (vec![(9, 0), (5, 0)], vec![], Misfit::Disorder),
        ] {
            let mut kept = list.clone();
            let outcome = Delta { changed, removed }.apply(&mut kept);
            assert_eq!((outcome, kept), (Err(expected), list.clone()));
        }
    }

    #[test]
    fn names_that_differ_in_case_alone_are_one_place() {
        let place = |name: &str| NodePlace(name.parse().expect("a name"));
        assert_eq!(place("Host-1"), place("hOST-1"));
        assert!(place("HOST-1") < place("host-2"));
        assert!(place("host-1") < place("HOST-10"));
    }
}
