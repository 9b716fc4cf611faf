//! Who waits for what: routes changes to mailboxes by topic.
//!
//! A change marks the watches that it touches; what they are to see is evaluated later, on the
//! newest state, so that a slow reader skips values and never holds up a writer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use weft_core::state::{Change, State};
use weft_core::watch::{Prefixes, Topic, touched};

use crate::raft::Audience;

/// The newest state and everyone who waits for the next.
#[derive(Default)]
pub(crate) struct Hub {
    state: ArcSwap<State>,
    followers: Mutex<Followers>,
}

#[derive(Default)]
struct Followers {
    next: u64,
    boxes: BTreeMap<u64, Arc<Marks>>,
    /// Bounded by the watches of all mailboxes, each of which has its own bound.
    topics: BTreeMap<Topic, BTreeSet<(u64, u64)>>,
    /// Those who wait for keys by prefix.
    prefixes: Prefixes<(u64, u64)>,
}

impl Followers {
    fn add(&mut self, topic: &Topic, who: (u64, u64)) {
        match topic {
            Topic::KeyPrefix(prefix) => self.prefixes.add(prefix, who),
            other => {
                self.topics.entry(other.clone()).or_default().insert(who);
            }
        }
    }

    fn remove(&mut self, topic: &Topic, who: (u64, u64)) {
        if let Topic::KeyPrefix(prefix) = topic {
            self.prefixes.remove(prefix, &who);
        } else if let Some(watches) = self.topics.get_mut(topic) {
            watches.remove(&who);
            if watches.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Marks whoever waits for what a change touches.
    fn mark(&self, changes: &[Change]) {
        let topics: BTreeSet<Topic> = match self.topics.is_empty() {
            true => BTreeSet::new(),
            false => changes.iter().flat_map(touched).collect(),
        };
        let by_topic = topics.iter().filter_map(|topic| self.topics.get(topic)).flatten();
        let of_trees = changes.iter().filter_map(|change| match change {
            Change::KeyTree(prefix) => Some(prefix),
            _ => None,
        });
        let by_tree = of_trees.flat_map(|prefix| {
            let start = Topic::Key(prefix.clone());
            let range = self.topics.range(start..).map_while(move |(topic, who)| match topic {
                Topic::Key(key) if key.as_str().starts_with(prefix.as_str()) => Some(who),
                _ => None,
            });
            range.flatten()
        });
        let by_prefix = changes.iter().flat_map(|change| self.prefixes.touched(change));
        for (mailbox, watch) in by_topic.chain(by_tree).chain(by_prefix) {
            if let Some(marks) = self.boxes.get(mailbox) {
                marks.mark(*watch);
            }
        }
    }
}

/// The watches of one mailbox that are to be looked at. At most one mark for each.
#[derive(Default)]
struct Marks {
    marked: Mutex<BTreeSet<u64>>,
    notify: Notify,
}

impl Marks {
    fn mark(&self, watch: u64) {
        self.marked.lock().insert(watch);
        self.notify.notify_one();
    }
}

impl Hub {
    /// Returns the newest state.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Opens a mailbox.
    pub(crate) fn mailbox(self: &Arc<Self>) -> Mailbox {
        let mut followers = self.followers.lock();
        followers.next += 1;
        let id = followers.next;
        let marks = Arc::<Marks>::default();
        followers.boxes.insert(id, marks.clone());
        Mailbox { hub: self.clone(), id, marks, watches: BTreeMap::new() }
    }
}

impl Audience for Hub {
    fn applied(&self, state: Arc<State>, changes: Vec<Change>) {
        self.state.store(state);
        self.followers.lock().mark(&changes);
    }

    fn replaced(&self, state: Arc<State>) {
        self.state.store(state);
        let followers = self.followers.lock();
        for (mailbox, watch) in followers.topics.values().flatten().chain(followers.prefixes.all())
        {
            if let Some(marks) = followers.boxes.get(mailbox) {
                marks.mark(*watch);
            }
        }
    }
}

/// The watches of one reader. Dropping it ends them.
pub(crate) struct Mailbox {
    hub: Arc<Hub>,
    id: u64,
    marks: Arc<Marks>,
    watches: BTreeMap<u64, BTreeSet<Topic>>,
}

impl Mailbox {
    /// Sets the topics that mark a watch.
    ///
    /// When they are not those that it had, the state may have changed before this took hold:
    /// look at the state after the call.
    pub(crate) fn follow(&mut self, watch: u64, topics: BTreeSet<Topic>) {
        if self.watches.get(&watch) == Some(&topics) {
            return;
        }
        self.forget(watch);
        let mut followers = self.hub.followers.lock();
        for topic in &topics {
            followers.add(topic, (self.id, watch));
        }
        drop(followers);
        self.watches.insert(watch, topics);
    }

    /// Whether a watch follows these topics already.
    pub(crate) fn follows(&self, watch: u64, topics: &BTreeSet<Topic>) -> bool {
        self.watches.get(&watch) == Some(topics)
    }

    /// Ends a watch.
    pub(crate) fn forget(&mut self, watch: u64) {
        let Some(topics) = self.watches.remove(&watch) else { return };
        let mut followers = self.hub.followers.lock();
        for topic in topics {
            followers.remove(&topic, (self.id, watch));
        }
        self.marks.marked.lock().remove(&watch);
    }

    /// Returns the number of watches.
    pub(crate) fn len(&self) -> usize {
        self.watches.len()
    }

    /// Waits for a mark and takes one.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time: a mark is taken only when it is returned.
    pub(crate) async fn marked(&self) -> u64 {
        loop {
            if let Some(watch) = self.marks.marked.lock().pop_first() {
                return watch;
            }
            self.marks.notify.notified().await;
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let watches: Vec<u64> = self.watches.keys().copied().collect();
        for watch in watches {
            self.forget(watch);
        }
        self.hub.followers.lock().boxes.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use weft_core::state::ServiceKey;

    #[test]
    fn keys_wake_those_who_wait_for_them_for_a_prefix_or_for_a_tree_above() {
        let hub = Arc::<Hub>::default();
        let mut mailbox = hub.mailbox();
        let kv = |text: &str| weft_core::kv::KvKey::parse(text).expect("a key");
        mailbox.follow(1, BTreeSet::from([Topic::Key(kv("a/b"))]));
        mailbox.follow(2, BTreeSet::from([Topic::KeyPrefix(kv("a/"))]));
        mailbox.follow(3, BTreeSet::from([Topic::KeyPrefix(kv("c"))]));
        for (change, wanted) in [
            (Change::Key(kv("a/b")), vec![1, 2]),
            (Change::Key(kv("a/c")), vec![2]),
            (Change::Key(kv("d")), vec![]),
            (Change::KeyTree(kv("a/b")), vec![1, 2]),
            (Change::KeyTree(kv("")), vec![1, 2, 3]),
        ] {
            hub.applied(Arc::default(), vec![change.clone()]);
            let marked = std::iter::from_fn(|| mailbox.marked().now_or_never());
            assert_eq!(marked.collect::<Vec<u64>>(), wanted, "{change:?}");
        }
        drop(mailbox);
        assert!(hub.followers.lock().prefixes.is_empty());
    }

    fn key(name: &str) -> ServiceKey {
        ServiceKey::from(&name.parse().expect("a name"))
    }

    #[test]
    fn a_reader_sees_one_mark_however_often_its_answer_changed() {
        let hub = Arc::<Hub>::default();
        let mut mailbox = hub.mailbox();
        let service = |name: &str| Change::Service(key(name));
        let topic = |name: &str| BTreeSet::from([Topic::Service(key(name))]);
        mailbox.follow(7, topic("web"));
        mailbox.follow(8, topic("db"));
        for _ in 0..3 {
            hub.applied(Arc::default(), vec![service("web"), service("other")]);
        }
        assert_eq!(mailbox.marked().now_or_never(), Some(7));
        assert_eq!(mailbox.marked().now_or_never(), None);
        hub.replaced(Arc::default());
        assert_eq!(mailbox.marked().now_or_never(), Some(7));
        assert_eq!(mailbox.marked().now_or_never(), Some(8));
        mailbox.forget(7);
        hub.applied(Arc::default(), vec![service("web")]);
        assert_eq!(mailbox.marked().now_or_never(), None);
        drop(mailbox);
        assert!(hub.followers.lock().topics.is_empty());
        assert!(hub.followers.lock().boxes.is_empty());
    }
}
