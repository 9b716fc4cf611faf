//! Values that are kept up for watchers: each once, however many watch it, with the last few
//! versions, so that a reader that is behind, or was away, is told the difference.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use weft_core::config_entry::IntentionAction;
use weft_core::index::Index;
use weft_core::watch::Topic;
use weft_runtime::task::TaskTree;

use super::derived::{Question, Seen};
use super::hub::{Follower, Hub, Told};
use super::mailbox::Marks;
use super::version::Version;

/// Versions that are remembered: a reader further behind than that gets the value. A version
/// holds a pointer for each record, and the records that changed since.
pub(crate) const VERSIONS_KEPT: usize = 32;
/// How long a value is kept up after its last watcher has left: streams that break come back,
/// and are told the difference then.
const LINGER: Duration = Duration::from_secs(60);
/// Watchers told before other tasks get the thread.
const TOLD_AT_A_STRETCH: usize = 256;

/// All values that are kept up; clones share them.
#[derive(Clone)]
pub(crate) struct Views {
    hub: Arc<Hub>,
    default: IntentionAction,
    /// Bounded by what is watched, and was in the last minute.
    views: Arc<Mutex<BTreeMap<Question, Arc<View>>>>,
    tasks: TaskTree,
}

/// One value that is kept up.
pub(crate) struct View {
    question: Question,
    default: IntentionAction,
    hub: Arc<Hub>,
    follower: Arc<Follower>,
    history: Mutex<History>,
    /// By reader, by its number on this hub, and watch.
    subscribers: Mutex<BTreeMap<(u64, u64), Arc<Marks>>>,
}

/// A view as its follower knows it.
pub(super) type ViewRef = Weak<View>;

#[derive(Default)]
struct History {
    /// The newest last; empty until the first look.
    versions: VecDeque<Arc<Version>>,
    last_number: u64,
    topics: BTreeSet<Topic>,
    /// How often the topics had been touched when the newest version was seen to be the value.
    touched: Option<u64>,
    /// The number of the version of which subscribers have been told.
    told: u64,
    /// The index of the state in which it was.
    seen_at: Index,
    idle_since: Option<Instant>,
}

/// A watch of a view. Dropping it ends it.
pub(crate) struct Subscription {
    pub(crate) view: Arc<View>,
    marks: Arc<Marks>,
    place: (u64, u64),
}

impl Views {
    pub(crate) fn new(hub: Arc<Hub>, default: IntentionAction, tasks: TaskTree) -> Self {
        Self { hub, default, views: Arc::default(), tasks }
    }

    /// Makes the marks of a reader.
    pub(crate) fn marks(&self) -> Arc<Marks> {
        self.hub.marks()
    }

    /// Has a watch of a reader marked when the answer to a question is another.
    pub(crate) fn subscribe(
        &self,
        question: Question,
        (marks, watch): (&Arc<Marks>, u64),
    ) -> Subscription {
        let place = (marks.number, watch);
        let mut views = self.views.lock();
        let view = views.entry(question).or_insert_with_key(|question| self.open(question));
        view.subscribers.lock().insert(place, marks.clone());
        Subscription { view: view.clone(), marks: marks.clone(), place }
    }

    fn open(&self, question: &Question) -> Arc<View> {
        self.hub.metrics().views.inc();
        Arc::new_cyclic(|view: &ViewRef| View {
            question: question.clone(),
            default: self.default,
            hub: self.hub.clone(),
            follower: self.hub.follower(Told::View(view.clone())),
            history: Mutex::default(),
            subscribers: Mutex::default(),
        })
    }

    /// Returns the newest version of a view.
    pub(crate) async fn newest(&self, view: &Arc<View>) -> Arc<Version> {
        if view.is_large() {
            let of_thread = view.clone();
            let newest = self.tasks.blocking(move || of_thread.newest()).await;
            // The process is going down: whoever asked ends soon.
            newest.unwrap_or_else(|_| view.newest())
        } else {
            view.newest()
        }
    }

    /// Brings a view up that was touched, and tells its subscribers.
    pub(super) async fn bring_up(&self, view: &Arc<View>) {
        // Who comes later looks by itself.
        if view.subscribers.lock().is_empty() {
            return;
        }
        let newest = self.newest(view).await;
        if !view.must_tell(&newest) {
            return;
        }
        let mut from = Bound::Unbounded;
        loop {
            {
                let subscribers = view.subscribers.lock();
                let mut last = None;
                for (place, marks) in
                    subscribers.range((from, Bound::Unbounded)).take(TOLD_AT_A_STRETCH)
                {
                    marks.mark(place.1);
                    last = Some(*place);
                }
                match last {
                    Some(place) => from = Bound::Excluded(place),
                    None => return,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Lets go what has not been used for a while.
    pub(super) fn sweep(&self, now: Instant) {
        let mut ended = Vec::new();
        self.views.lock().retain(|_, view| {
            let is_kept = view.is_used(now);
            if !is_kept {
                ended.push(view.clone());
            }
            is_kept
        });
        // Ends outside the lock.
        drop(ended);
    }

    /// Returns the number of versions that are remembered, over all views.
    #[cfg(test)]
    pub(crate) fn versions(&self) -> usize {
        self.views.lock().values().map(|view| view.history.lock().versions.len()).sum()
    }
}

impl View {
    /// Returns the newest version, after a look at the state if its topics were touched since
    /// the last one.
    pub(super) fn newest(&self) -> Arc<Version> {
        loop {
            // In this order: what was touched before is in the state.
            let touched = self.follower.touched();
            let (before, topics) = {
                let history = self.history.lock();
                match history.versions.back() {
                    Some(newest) if history.touched >= Some(touched) => return newest.clone(),
                    newest => (newest.cloned(), history.topics.clone()),
                }
            };
            if topics.is_empty()
                && let Some(fixed) = self.question.topics()
            {
                self.follow(fixed);
                continue;
            }
            let state = self.hub.state();
            self.hub.metrics().looks.inc();
            let content = before.as_ref().map(|version| version.content());
            let seen = self.question.look(&state, content, self.default);
            if seen.topics == topics {
                self.enter(seen, touched, state.index());
            } else {
                // Other topics than before: what changed until they were followed is seen by
                // looking once more.
                self.follow(seen.topics);
            }
        }
    }

    fn follow(&self, topics: BTreeSet<Topic>) {
        let mut history = self.history.lock();
        self.hub.follow(&self.follower, &history.topics, &topics);
        history.topics = topics;
        // Seen before these topics were followed.
        history.touched = None;
    }

    fn enter(&self, seen: Seen, touched: u64, index: Index) {
        let mut history = self.history.lock();
        if seen.topics != history.topics || index < history.seen_at {
            // Another look has been faster, and was at a newer state.
            return;
        }
        history.touched = history.touched.max(Some(touched));
        history.seen_at = index;
        if history.versions.back().is_some_and(|newest| *newest.content() == seen.content) {
            self.hub.metrics().looks_in_vain.inc();
            return;
        }
        history.last_number += 1;
        let version = Version::new(history.last_number, index, seen.content);
        if history.versions.len() == VERSIONS_KEPT {
            history.versions.pop_front();
        }
        history.versions.push_back(Arc::new(version));
    }

    /// Whether there are subscribers who have not been told of a version.
    fn must_tell(&self, newest: &Version) -> bool {
        let mut history = self.history.lock();
        let is_new = history.told < newest.number();
        history.told = history.told.max(newest.number());
        is_new
    }

    /// Returns a version that is remembered.
    pub(crate) fn version(&self, number: u64) -> Option<Arc<Version>> {
        let history = self.history.lock();
        let at = history.versions.binary_search_by_key(&number, |it| it.number()).ok()?;
        history.versions.get(at).cloned()
    }

    /// Returns the version that was the value at an index, if it is remembered and has a digest.
    pub(crate) fn version_known(&self, index: Index, digest: &[u8]) -> Option<Arc<Version>> {
        let versions = self.history.lock().versions.clone();
        let newest = versions.back().filter(|newest| newest.has_digest(digest));
        let then = || versions.iter().rev().find(|version| version.index <= index);
        newest.or_else(|| then().filter(|version| version.has_digest(digest))).cloned()
    }

    fn is_large(&self) -> bool {
        let newest = self.history.lock().versions.back().cloned();
        newest.is_some_and(|newest| newest.content().is_large())
    }

    /// Whether it is watched, or was not long ago.
    fn is_used(&self, now: Instant) -> bool {
        let is_watched = !self.subscribers.lock().is_empty();
        let mut history = self.history.lock();
        history.versions.iter().for_each(|version| version.trim());
        if is_watched {
            history.idle_since = None;
            return true;
        }
        now.duration_since(*history.idle_since.get_or_insert(now)) < LINGER
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.hub.follow(&self.follower, &self.history.lock().topics, &BTreeSet::new());
        self.hub.metrics().views.dec();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.view.subscribers.lock().remove(&self.place);
        self.marks.unmark(self.place.1);
    }
}
