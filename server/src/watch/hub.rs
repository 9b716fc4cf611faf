//! The newest state, and who is told when a part of it changes.
//!
//! A write names the topics that it touched. Their followers are put in a queue, each at most
//! once, and that is all the writer waits for; `fan_out` does the rest behind it. Nobody whose
//! topics were not touched is looked at.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use weft_core::index::Index;
use weft_core::state::{Change, State};
use weft_core::watch::{Prefixes, Topic, touched};
use weft_runtime::knob;

use super::mailbox::{Mailbox, Marks};
use super::metrics::WatchMetrics;
use super::view::ViewRef;
use super::waiting::Questions;
use crate::raft::Audience;

/// The newest state and everyone who follows it.
pub(crate) struct Hub {
    state: ArcSwap<State>,
    index: watch::Sender<Index>,
    followers: Mutex<Followers>,
    last_number: AtomicU64,
    /// At most one place for each follower.
    queue: Mutex<VecDeque<Arc<Follower>>>,
    stirred: Notify,
    pub(super) questions: Questions,
    metrics: WatchMetrics,
}

/// Who follows what. Bounded by the topics of the views and questions there are, each of which
/// has its bound.
#[derive(Default)]
struct Followers {
    topics: BTreeMap<Topic, BTreeSet<Arc<Follower>>>,
    /// Those who wait for keys by prefix.
    prefixes: Prefixes<Arc<Follower>>,
}

/// Someone with topics. What is derived of the state for all who ask the same is one follower.
pub(crate) struct Follower {
    id: u64,
    /// How often one of its topics was touched. Grows after the state is in place, so that who
    /// reads it first and the state then has seen at least those changes.
    touched: AtomicU64,
    is_queued: AtomicBool,
    pub(super) told: Told,
}

/// Who hears of it.
pub(super) enum Told {
    /// A watch of a mailbox, which is marked at once: there are few of them.
    Marks(Arc<Marks>, u64),
    /// A view, which is looked at anew, and then its subscribers.
    View(ViewRef),
    /// Those who wait for another answer to a question.
    Waiters(Arc<Notify>),
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            state: ArcSwap::default(),
            index: watch::Sender::new(Index::default()),
            followers: Mutex::default(),
            last_number: AtomicU64::new(0),
            queue: Mutex::default(),
            stirred: Notify::new(),
            questions: Questions::default(),
            metrics: WatchMetrics::default(),
        }
    }
}

impl Hub {
    /// Returns the newest state.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Returns what is counted here.
    pub(crate) fn metrics(&self) -> &WatchMetrics {
        &self.metrics
    }

    /// Waits until the state has come to an index; false when that takes longer than `limit`.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(crate) async fn reaches(&self, index: Index, limit: Duration) -> bool {
        let mut indexes = self.index.subscribe();
        let reached = indexes.wait_for(|reached| *reached >= index);
        tokio::time::timeout(limit, reached).await.is_ok()
    }

    fn number(&self) -> u64 {
        self.last_number.fetch_add(1, Relaxed)
    }

    /// Opens a mailbox.
    pub(crate) fn mailbox(self: &Arc<Self>) -> Mailbox {
        Mailbox::new(self.clone(), self.marks())
    }

    /// Makes the marks of a reader.
    pub(super) fn marks(&self) -> Arc<Marks> {
        Arc::new(Marks::new(self.number()))
    }

    /// Makes a follower without topics.
    pub(super) fn follower(&self, told: Told) -> Arc<Follower> {
        let id = self.number();
        let (touched, is_queued) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Follower { id, touched, is_queued, told })
    }

    /// Gives a follower other topics.
    ///
    /// The state may have changed before this took hold: look at the state after the call.
    pub(super) fn follow(
        &self,
        follower: &Arc<Follower>,
        before: &BTreeSet<Topic>,
        topics: &BTreeSet<Topic>,
    ) {
        let mut followers = self.followers.lock();
        for topic in before.difference(topics) {
            followers.remove(topic, follower);
        }
        for topic in topics.difference(before) {
            followers.add(topic, follower);
        }
    }

    /// Waits for a follower whose topics were touched.
    ///
    /// # Cancel safety
    /// May be dropped at any time: a follower is taken only when it is returned.
    pub(super) async fn next_stirred(&self) -> Arc<Follower> {
        loop {
            if let Some(follower) = self.queue.lock().pop_front() {
                // What touches it from now on puts it in the queue again.
                follower.is_queued.store(false, SeqCst);
                return follower;
            }
            self.stirred.notified().await;
        }
    }

    /// Puts followers in the queue.
    fn stir<'a>(&self, followers: impl Iterator<Item = &'a Arc<Follower>>) {
        let mut queue = self.queue.lock();
        for follower in followers {
            follower.touched.fetch_add(1, SeqCst);
            if let Told::Marks(marks, watch) = &follower.told {
                marks.mark(*watch);
            } else if !follower.is_queued.swap(true, SeqCst) {
                queue.push_back(follower.clone());
            }
        }
        if !queue.is_empty() {
            self.stirred.notify_one();
        }
    }

    #[cfg(test)]
    pub(super) fn topics_followed(&self) -> usize {
        self.followers.lock().topics.len()
    }
}

impl Followers {
    fn add(&mut self, topic: &Topic, follower: &Arc<Follower>) {
        if let Topic::KeyPrefix(prefix) = topic {
            self.prefixes.add(prefix, follower.clone());
        } else {
            self.topics.entry(topic.clone()).or_default().insert(follower.clone());
        }
    }

    fn remove(&mut self, topic: &Topic, follower: &Arc<Follower>) {
        if let Topic::KeyPrefix(prefix) = topic {
            self.prefixes.remove(prefix, follower);
        } else if let Some(here) = self.topics.get_mut(topic) {
            here.remove(follower);
            if here.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Returns who follows what changes touch; one may come more than once.
    fn touched<'a>(&'a self, changes: &'a [Change]) -> impl Iterator<Item = &'a Arc<Follower>> {
        let topics: BTreeSet<Topic> = changes.iter().flat_map(touched).collect();
        let by_topic = topics.into_iter().filter_map(|topic| self.topics.get(&topic)).flatten();
        let of_trees = changes.iter().filter_map(|change| match change {
            Change::KeyTree(prefix) => Some(prefix),
            _ => None,
        });
        let by_tree = of_trees.flat_map(|prefix| {
            let start = Topic::Key(prefix.clone());
            let range = self.topics.range(start..).map_while(move |(topic, here)| match topic {
                Topic::Key(key) if key.as_str().starts_with(prefix.as_str()) => Some(here),
                _ => None,
            });
            range.flatten()
        });
        let by_prefix = changes.iter().flat_map(|change| self.prefixes.touched(change));
        by_topic.chain(by_tree).chain(by_prefix)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Follower>> {
        self.topics.values().flatten().chain(self.prefixes.all())
    }
}

impl Ord for Follower {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

impl PartialOrd for Follower {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Follower {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Follower {}

impl Follower {
    /// Returns how often one of its topics was touched.
    pub(super) fn touched(&self) -> u64 {
        self.touched.load(SeqCst)
    }
}

impl Audience for Hub {
    fn applied(&self, state: Arc<State>, changes: Vec<Change>) {
        let index = state.index();
        self.state.store(state);
        if knob("bug: watch events are dropped", 0) == 0 {
            let followers = self.followers.lock();
            self.stir(followers.touched(&changes));
        }
        self.index.send_replace(index);
    }

    fn replaced(&self, state: Arc<State>) {
        let index = state.index();
        self.state.store(state);
        {
            let followers = self.followers.lock();
            self.stir(followers.all());
        }
        self.index.send_replace(index);
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

    fn topics(names: &[&str]) -> BTreeSet<Topic> {
        names.iter().map(|name| Topic::Service(key(name))).collect()
    }

    #[test]
    fn a_mailbox_sees_one_mark_however_often_a_topic_was_touched() {
        let hub = Arc::<Hub>::default();
        let service = |name: &str| Change::Service(key(name));
        let mut mailbox = hub.mailbox();
        mailbox.follow(7, topics(&["web"]));
        mailbox.follow(8, topics(&["db"]));
        for _ in 0..3 {
            hub.applied(Arc::default(), vec![service("web"), service("other")]);
        }
        let next = |mailbox: &Mailbox| mailbox.marked().now_or_never();
        assert_eq!([next(&mailbox), next(&mailbox)], [Some(7), None]);
        mailbox.follow(7, topics(&["other"]));
        hub.applied(Arc::default(), vec![service("web")]);
        assert_eq!(next(&mailbox), None);
        hub.replaced(Arc::default());
        assert!(next(&mailbox).is_some() && next(&mailbox).is_some());
        drop(mailbox);
        assert_eq!(hub.topics_followed(), 0);
    }

    #[test]
    fn a_follower_is_in_the_queue_once_however_often_it_is_touched() {
        let hub = Hub::default();
        let service = |name: &str| Change::Service(key(name));
        let web = hub.follower(Told::Waiters(Arc::default()));
        let both = hub.follower(Told::Waiters(Arc::default()));
        let none = BTreeSet::new();
        hub.follow(&web, &none, &topics(&["web"]));
        hub.follow(&both, &none, &topics(&["db", "web"]));
        let next = || hub.next_stirred().now_or_never().map(|follower| follower.id);
        for _ in 0..3 {
            hub.applied(Arc::default(), vec![service("web"), service("other")]);
        }
        assert_eq!((web.touched(), both.touched()), (3, 3));
        assert_eq!([next(), next(), next()], [Some(web.id), Some(both.id), None]);
        hub.follow(&both, &topics(&["db", "web"]), &topics(&["db"]));
        hub.applied(Arc::default(), vec![service("web"), service("db")]);
        assert_eq!([next(), next(), next()], [Some(both.id), Some(web.id), None]);
        hub.replaced(Arc::default());
        assert!(next().is_some() && next().is_some() && next().is_none());
        hub.follow(&both, &topics(&["db"]), &none);
        hub.follow(&web, &topics(&["web"]), &none);
        assert_eq!(hub.topics_followed(), 0);
    }
}
