//! Questions of blocking queries. Who asks the same waits for the same: the question is looked
//! at once for all of them, and again only when one of its topics was touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use weft_core::index::Index;
use weft_core::watch::Topic;

use super::hub::{Follower, Hub, Told};
use crate::read::{Answer, Ask};

/// The questions that are waited for, by what tells them apart.
pub(super) type Questions = Mutex<BTreeMap<Arc<str>, Weak<Waiting>>>;

/// A question with those who wait for another answer to it.
pub(crate) struct Waiting {
    hub: Arc<Hub>,
    /// What tells it from others; `None` for one that is nobody else's.
    name: Option<Arc<str>>,
    follower: Arc<Follower>,
    waiters: Arc<Notify>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// In order; not a set, which has room for eleven.
    topics: Box<[Topic]>,
    /// The answer, and how often the topics had been touched when it was made.
    answer: Option<(u64, Answer)>,
}

impl Waiting {
    /// Joins those who ask a question.
    pub(crate) fn join(hub: &Arc<Hub>, name: Option<String>) -> Arc<Self> {
        let Some(name) = name.map(Arc::<str>::from) else { return Self::open(hub, None) };
        let mut questions = hub.questions.lock();
        if let Some(waiting) = questions.get(&name).and_then(Weak::upgrade) {
            return waiting;
        }
        let waiting = Self::open(hub, Some(name.clone()));
        questions.insert(name, Arc::downgrade(&waiting));
        waiting
    }

    fn open(hub: &Arc<Hub>, name: Option<Arc<str>>) -> Arc<Self> {
        hub.metrics().questions.inc();
        let waiters = Arc::<Notify>::default();
        let follower = hub.follower(Told::Waiters(waiters.clone()));
        Arc::new(Self { hub: hub.clone(), name, follower, waiters, known: Mutex::default() })
    }

    /// Returns what ends when one of the topics is touched after it was enabled.
    pub(crate) fn touched(&self) -> Notified<'_> {
        self.waiters.notified()
    }

    /// Returns the answer of the newest state, or nothing when it is known without making it
    /// that it is not newer than this.
    ///
    /// One of those who ask makes it; the others wait for it as long as they would need
    /// themselves.
    pub(crate) fn look<E>(
        &self,
        question: &impl Ask<E>,
        newer_than: Option<Index>,
    ) -> Result<Option<Answer>, E> {
        let mut known = self.known.lock();
        loop {
            // In this order: what was touched before is in the state.
            let touched = self.follower.touched();
            if let Some((at, answer)) = &known.answer
                && *at == touched
            {
                return Ok(Some(answer.clone()));
            }
            let state = self.hub.state();
            let topics = question.topics(&state);
            if !topics.iter().eq(&known.topics) {
                self.follow(&known.topics, &topics);
                known.topics = topics.into_iter().collect();
                // What changed before these topics were followed is seen by a later look.
                continue;
            }
            let index = question.index(&state).map(|index| index.max(state.restored_at()));
            if index.is_some_and(|index| Some(index) <= newer_than) {
                return Ok(None);
            }
            self.hub.metrics().answers.inc();
            let answer = question.answer(&state)?.raised(&state);
            known.answer = Some((touched, answer.clone()));
            return Ok(Some(answer));
        }
    }
}

impl Waiting {
    fn follow(&self, before: &[Topic], topics: &BTreeSet<Topic>) {
        self.hub.follow(&self.follower, &before.iter().cloned().collect(), topics);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.follow(&self.known.lock().topics, &BTreeSet::new());
        self.hub.metrics().questions.dec();
        let Some(name) = &self.name else { return };
        let mut questions = self.hub.questions.lock();
        // Somebody may have asked it anew meanwhile.
        if questions.get(name).is_some_and(|waiting| waiting.strong_count() == 0) {
            questions.remove(name);
        }
    }
}
