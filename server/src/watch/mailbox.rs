//! What one reader has to look at: the watches that were touched, each at most once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use weft_core::watch::Topic;

use super::hub::{Follower, Hub, Told};

/// The watches of one reader that are to be looked at, in the order in which they were marked.
/// Bounded by the watches there are, whatever happens while nobody reads.
#[derive(Debug)]
pub(crate) struct Marks {
    /// Unique on its hub.
    pub(super) number: u64,
    marks: Mutex<Marked>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Marked {
    order: VecDeque<u64>,
    marked: BTreeSet<u64>,
}

/// The topics that one reader follows by itself. Dropping it ends that.
pub(crate) struct Mailbox {
    hub: Arc<Hub>,
    marks: Arc<Marks>,
    watches: BTreeMap<u64, (Arc<Follower>, BTreeSet<Topic>)>,
}

impl Marks {
    pub(super) fn new(number: u64) -> Self {
        Self { number, marks: Mutex::default(), notify: Notify::new() }
    }

    /// Marks a watch.
    pub(super) fn mark(&self, watch: u64) {
        let mut marks = self.marks.lock();
        if marks.marked.insert(watch) {
            marks.order.push_back(watch);
            drop(marks);
            self.notify.notify_one();
        }
    }

    /// Takes a mark back.
    pub(super) fn unmark(&self, watch: u64) {
        let mut marks = self.marks.lock();
        if marks.marked.remove(&watch) {
            marks.order.retain(|marked| *marked != watch);
        }
    }

    /// Waits for a mark and takes the oldest.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time: a mark is taken only when it is returned.
    pub(crate) async fn marked(&self) -> u64 {
        loop {
            {
                let mut marks = self.marks.lock();
                if let Some(watch) = marks.order.pop_front() {
                    marks.marked.remove(&watch);
                    return watch;
                }
            }
            self.notify.notified().await;
        }
    }
}

impl Mailbox {
    pub(super) fn new(hub: Arc<Hub>, marks: Arc<Marks>) -> Self {
        Self { hub, marks, watches: BTreeMap::new() }
    }

    /// Sets the topics that mark a watch.
    ///
    /// The state may have changed before this took hold: look at the state after the call.
    pub(crate) fn follow(&mut self, watch: u64, topics: BTreeSet<Topic>) {
        let told = || Told::Marks(self.marks.clone(), watch);
        let (follower, before) = self
            .watches
            .entry(watch)
            .or_insert_with(|| (self.hub.follower(told()), BTreeSet::new()));
        self.hub.follow(follower, before, &topics);
        *before = topics;
    }

    /// Waits for a mark and takes the oldest.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time: a mark is taken only when it is returned.
    pub(crate) async fn marked(&self) -> u64 {
        self.marks.marked().await
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        for (follower, topics) in self.watches.values() {
            self.hub.follow(follower, topics, &BTreeSet::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn a_watch_is_marked_once_and_waits_its_turn() {
        let mailbox = Marks::new(1);
        let next = || mailbox.marked().now_or_never();
        for watch in [7, 3, 7, 7, 9] {
            mailbox.mark(watch);
        }
        assert_eq!(next(), Some(7));
        // A watch that changes all the time goes behind those that have waited.
        mailbox.mark(7);
        mailbox.unmark(9);
        assert_eq!([next(), next(), next()], [Some(3), Some(7), None]);
    }
}
