//! The tree against a sorted map, and its shape.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word(String, u64);

impl Keyed for Word {
    fn key(&self) -> &str {
        &self.0
    }

    fn index(&self) -> Index {
        Index(self.1)
    }
}

fn told<'a>(values: impl Iterator<Item = &'a Word>) -> Vec<(String, u64)> {
    values.map(|word| (word.0.clone(), word.1)).collect()
}

/// No node without a use: that is what keeps paths short.
fn check_shape(node: &Node<Word>, is_root: bool) -> usize {
    if !is_root {
        assert!(!node.label.is_empty());
        assert!(node.value.is_some() || node.children.len() > 1, "a node that only leads on");
    }
    assert!(node.children.is_sorted_by_key(|(byte, _)| *byte));
    let mut newest = node.value.as_ref().map_or(Index(0), Word::index);
    let mut count = usize::from(node.value.is_some());
    for (byte, child) in &node.children {
        assert_eq!(child.label.first(), Some(byte));
        count += check_shape(child, false);
        newest = newest.max(child.newest);
    }
    assert_eq!(node.newest, newest);
    count
}

#[derive(Debug, Clone)]
enum Step {
    Insert(String),
    Remove(String),
    RemoveUnder(String),
}

fn step() -> impl Strategy<Value = Step> {
    let key = "[ab/é]{0,6}";
    prop_oneof![
        5 => key.prop_map(Step::Insert),
        2 => key.prop_map(Step::Remove),
        1 => "[ab/é]{0,3}".prop_map(Step::RemoveUnder),
    ]
}

proptest! {
    #[test]
    fn it_answers_as_a_sorted_map_does(steps in prop::collection::vec(step(), 0..80), ask in "[ab/é]{0,4}") {
        let mut tree = Tree::default();
        let mut model = BTreeMap::<String, u64>::new();
        for (at, step) in steps.into_iter().enumerate() {
            let index = at as u64 + 1;
            let (older, kept) = (tree.clone(), told(tree.under("")));
            match step {
                Step::Insert(key) => {
                    let replaced = tree.insert(Word(key.clone(), index));
                    prop_assert_eq!(replaced.map(|word| word.1), model.insert(key, index));
                }
                Step::Remove(key) => {
                    let removed = tree.remove(&key);
                    prop_assert_eq!(removed.map(|word| word.1), model.remove(&key));
                }
                Step::RemoveUnder(prefix) => {
                    let removed = told(tree.remove_under(&prefix).iter());
                    let gone: Vec<_> = model.iter().filter(|(key, _)| key.starts_with(&prefix))
                        .map(|(key, index)| (key.clone(), *index)).collect();
                    model.retain(|key, _| !key.starts_with(&prefix));
                    prop_assert_eq!(removed, gone);
                }
            }
            prop_assert_eq!(told(older.under("")), kept, "a clone stays as it was");
            prop_assert_eq!(check_shape(&tree.root, true), model.len());
            prop_assert_eq!(tree.len(), model.len());
        }
        let wanted: Vec<_> = model.iter().filter(|(key, _)| key.starts_with(&ask))
            .map(|(key, index)| (key.clone(), *index)).collect();
        prop_assert_eq!(tree.newest(&ask).0, wanted.iter().map(|it| it.1).max().unwrap_or(0));
        prop_assert_eq!(told(tree.under(&ask)), wanted);
        prop_assert_eq!(tree.get(&ask).map(|word| word.1), model.get(&ask).copied());
        let starts: Vec<_> = model.iter().filter(|(key, _)| ask.starts_with(key.as_str()))
            .map(|(key, index)| (key.clone(), *index)).collect();
        prop_assert_eq!(told(tree.along(&ask)), starts);
    }

    #[test]
    fn skipping_passes_over_exactly_what_shares_the_start(
        keys in prop::collection::btree_set("[ab/]{0,6}", 0..40),
        length in 0..5usize,
    ) {
        let tree: Tree<Word> = keys.iter().map(|key| Word(key.clone(), 1)).collect();
        let mut walked = Vec::new();
        let mut under = tree.under("");
        while let Some(word) = under.next() {
            walked.push(word.0.clone());
            if word.0.len() >= length {
                under.skip_sharing(word, length);
            }
        }
        let mut wanted: Vec<String> = Vec::new();
        for key in &keys {
            let shares = |seen: &String| seen.len() >= length && key.len() >= length
                && seen[..length] == key[..length];
            if !wanted.iter().any(shares) {
                wanted.push(key.clone());
            }
        }
        prop_assert_eq!(walked, wanted);
    }
}
