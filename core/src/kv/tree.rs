//! A persistent map by text that answers about all keys with a common start at once.
//!
//! A radix tree whose nodes are shared between versions: a clone is one pointer, a write copies
//! the nodes on its way. Each node knows the newest index below it, so that "when did anything
//! under this prefix change" costs the length of the prefix, not the number of entries.

use std::sync::Arc;

use crate::index::Index;

/// What a [`Tree`] holds.
pub trait Keyed: Clone {
    /// The text by which it is found.
    fn key(&self) -> &str;
    /// When it last changed.
    fn index(&self) -> Index;
}

/// The map. Keys are ordered byte by byte.
#[derive(Debug, Clone)]
pub struct Tree<T> {
    root: Arc<Node<T>>,
    length: usize,
}

#[derive(Debug, Clone)]
struct Node<T> {
    /// What the keys below have after the parent's text. Empty at the root only.
    label: Arc<[u8]>,
    /// The value whose key ends here.
    value: Option<T>,
    /// By the first byte of their labels, which differ.
    children: Vec<(u8, Arc<Node<T>>)>,
    /// The newest index of the value and of everything below.
    newest: Index,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { root: Arc::new(Node::empty(&[])), length: 0 }
    }
}

impl<T: Keyed> Tree<T> {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns the value with a key.
    pub fn get(&self, key: &str) -> Option<&T> {
        let (mut node, mut rest) = (&*self.root, key.as_bytes());
        while let Some(first) = rest.first() {
            let child = node.child(*first)?;
            rest = rest.strip_prefix(&*child.label)?;
            node = child;
        }
        node.value.as_ref()
    }

    /// Returns the newest index under a prefix; 0 when nothing is there.
    pub fn newest(&self, prefix: &str) -> Index {
        self.below(prefix).map_or(Index::default(), |node| node.newest)
    }

    /// Returns the values whose keys start with a prefix, in order.
    pub fn under<'a>(&'a self, prefix: &str) -> Under<'a, T> {
        let start = self.below(prefix);
        Under { open: start.map(|node| (node, Step::Value)).into_iter().collect() }
    }

    /// Returns the values whose keys are a start of a text, the text itself included, shortest
    /// first.
    pub fn along<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a T> {
        let mut at = Some((&*self.root, text.as_bytes()));
        std::iter::from_fn(move || {
            let (node, rest) = at.take()?;
            at = rest.first().and_then(|first| {
                let child = node.child(*first)?;
                Some((child, rest.strip_prefix(&*child.label)?))
            });
            Some(node.value.as_ref())
        })
        .flatten()
    }

    /// Puts a value in, and returns the one that was there.
    ///
    /// Values come in the order of their indexes: one that replaces another is not older.
    pub fn insert(&mut self, value: T) -> Option<T> {
        let replaced = insert(&mut self.root, 0, value);
        self.length += usize::from(replaced.is_none());
        replaced
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &str) -> Option<T> {
        self.get(key)?;
        let removed = remove(&mut self.root, key.as_bytes());
        self.length -= usize::from(removed.is_some());
        removed
    }

    /// Takes out all values whose keys start with a prefix, and returns them in order.
    pub fn remove_under(&mut self, prefix: &str) -> Vec<T> {
        let removed: Vec<T> = self.under(prefix).cloned().collect();
        if !removed.is_empty() {
            self.length -= removed.len();
            detach(&mut self.root, prefix.as_bytes());
        }
        removed
    }

    /// The node that has exactly the keys that start with a prefix at and below itself.
    fn below(&self, prefix: &str) -> Option<&Node<T>> {
        let (mut node, mut rest) = (&*self.root, prefix.as_bytes());
        while let Some(first) = rest.first() {
            node = node.child(*first)?;
            match rest.strip_prefix(&*node.label) {
                Some(after) => rest = after,
                None if node.label.starts_with(rest) => break,
                None => return None,
            }
        }
        Some(node)
    }
}

impl<T: Keyed> FromIterator<T> for Tree<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut tree = Self::default();
        for value in values {
            tree.insert(value);
        }
        tree
    }
}

impl<T> Node<T> {
    fn empty(label: &[u8]) -> Self {
        Self { label: label.into(), value: None, children: Vec::new(), newest: Index::default() }
    }

    fn find(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |(byte, _)| *byte)
    }

    fn child(&self, first: u8) -> Option<&Node<T>> {
        self.find(first).ok().map(|at| &*self.children[at].1)
    }
}

impl<T: Keyed> Node<T> {
    /// Makes good after something below went.
    fn settle(&mut self) {
        let below = self.children.iter().map(|(_, child)| child.newest).max();
        let own = self.value.as_ref().map(T::index);
        self.newest = below.max(own).unwrap_or_default();
    }
}

/// `depth` is how much of the value's key stands for the node.
fn insert<T: Keyed>(node: &mut Arc<Node<T>>, depth: usize, value: T) -> Option<T> {
    let node = Arc::make_mut(node);
    node.newest = node.newest.max(value.index());
    let rest = &value.key().as_bytes()[depth..];
    let Some(first) = rest.first().copied() else { return node.value.replace(value) };
    let at = match node.find(first) {
        Ok(at) => at,
        Err(at) => {
            let mut leaf = Node::empty(rest);
            leaf.newest = value.index();
            leaf.value = Some(value);
            node.children.insert(at, (first, Arc::new(leaf)));
            return None;
        }
    };
    let child = &mut node.children[at].1;
    let shared = child.label.iter().zip(rest).take_while(|(a, b)| a == b).count();
    if shared < child.label.len() {
        let mut between = Node::empty(&rest[..shared]);
        between.newest = child.newest;
        let mut lower = Arc::unwrap_or_clone(std::mem::replace(child, Arc::new(Node::empty(&[]))));
        lower.label = lower.label[shared..].into();
        between.children.push((lower.label[0], Arc::new(lower)));
        *child = Arc::new(between);
    }
    insert(child, depth + shared, value)
}

/// Takes the value at the end of `rest` out, which is there.
fn remove<T: Keyed>(node: &mut Arc<Node<T>>, rest: &[u8]) -> Option<T> {
    let node = Arc::make_mut(node);
    let removed = match rest.first() {
        None => node.value.take(),
        Some(first) => {
            let at = node.find(*first).ok()?;
            let child = &mut node.children[at].1;
            let after = rest.strip_prefix(&*child.label.clone())?;
            let removed = remove(child, after);
            tidy_child(node, at);
            removed
        }
    };
    node.settle();
    removed
}

/// Drops everything whose key has `rest` after the node's text, of which there is something.
fn detach<T: Keyed>(node: &mut Arc<Node<T>>, rest: &[u8]) {
    let node = Arc::make_mut(node);
    match rest.first() {
        None => {
            node.value = None;
            node.children.clear();
        }
        Some(first) => {
            let Ok(at) = node.find(*first) else { return };
            let child = &mut node.children[at].1;
            match rest.strip_prefix(&*child.label.clone()) {
                Some(after) if !after.is_empty() => {
                    detach(child, after);
                    tidy_child(node, at);
                }
                Some(_) | None => {
                    node.children.remove(at);
                }
            }
        }
    }
    node.settle();
}

/// Keeps the tree narrow: no child without values, none that only leads to another.
fn tidy_child<T: Keyed>(node: &mut Node<T>, at: usize) {
    let child = &mut node.children[at].1;
    if child.value.is_some() {
        return;
    }
    match child.children.as_slice() {
        [] => {
            node.children.remove(at);
        }
        [(_, only)] => {
            let mut only = Node::clone(only);
            only.label = [&*child.label, &*only.label].concat().into();
            *child = Arc::new(only);
        }
        [_, _, ..] => {}
    }
}

/// The values under a prefix, in order.
#[derive(Debug)]
pub struct Under<'a, T> {
    /// The way to the value last told, each node with what comes next there.
    open: Vec<(&'a Node<T>, Step)>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Value,
    Child(usize),
}

impl<'a, T: Keyed> Under<'a, T> {
    /// Passes over the further values whose keys share their first `length` bytes with the one
    /// told last. Costs the depth of the tree.
    pub fn skip_sharing(&mut self, last: &T, length: usize) {
        // Each open node stands for a start of the last key: the lowest for all of it, the ones
        // above for ever less, by the length of the labels between.
        let mut depth = last.key().len();
        while let Some((node, _)) = self.open.last()
            && depth >= length
        {
            depth -= node.label.len();
            self.open.pop();
        }
    }
}

impl<'a, T: Keyed> Iterator for Under<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            let (node, step) = self.open.last_mut()?;
            match *step {
                Step::Value => {
                    *step = Step::Child(0);
                    if let Some(value) = &node.value {
                        return Some(value);
                    }
                }
                Step::Child(at) => match node.children.get(at) {
                    Some((_, child)) => {
                        *step = Step::Child(at + 1);
                        self.open.push((child, Step::Value));
                    }
                    None => {
                        self.open.pop();
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
