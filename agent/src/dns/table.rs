//! Answers that are ready: one for each name and type in use, as long as nothing has changed.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use weft_core::limits;

use super::plain::Key;
use super::prepared::Prepared;
use crate::views::View;

/// How long a positive answer is used before it is made anew: names in use are told to their
/// watches by that, and rights are judged again.
pub(super) const POSITIVE_MAX: Duration = Duration::from_secs(30);
/// How long a negative one is used: below the time for which a name without instances is watched,
/// and the serial number in it is the time.
pub(super) const NEGATIVE_MAX: Duration = Duration::from_secs(5);

/// Something that an answer was made from.
pub(super) trait Source: Send + Sync {
    /// Whether it is not any more as it was then.
    fn has_changed(&self) -> bool;
}

impl<T: Send + Sync> Source for View<T> {
    fn has_changed(&self) -> bool {
        self.has_news()
    }
}

impl<T: Source> Source for Weak<T> {
    fn has_changed(&self) -> bool {
        self.upgrade().is_none_or(|source| source.has_changed())
    }
}

/// An answer with how long it is one.
pub(super) struct Ready {
    pub(super) prepared: Prepared,
    pub(super) sources: Vec<Box<dyn Source>>,
    pub(super) until: Instant,
}

impl Ready {
    fn is_good(&self, now: Instant) -> bool {
        now < self.until && !self.sources.iter().any(|source| source.has_changed())
    }
}

/// Answers by name and type.
type ByKey = HashMap<Box<[u8]>, Arc<Ready>>;

/// The table; clones share it.
#[derive(Clone, Default)]
pub(super) struct Table {
    ready: Arc<RwLock<ByKey>>,
}

impl Table {
    /// Returns the answer to a question, if it is good.
    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Arc<Ready>> {
        let ready = self.ready.read().get(key.as_bytes()).cloned()?;
        ready.is_good(now).then_some(ready)
    }

    pub(super) fn put(&self, key: &Key, ready: Ready) {
        let mut table = self.ready.write();
        if table.len() >= limits::DNS_READY_ANSWERS_MAX && !table.contains_key(key.as_bytes()) {
            // Random names are what fills it: those in use are back at their next query.
            let now = weft_runtime::clock::instant();
            table.retain(|_, ready| ready.prepared.code() == 0 && ready.is_good(now));
            if table.len() >= limits::DNS_READY_ANSWERS_MAX {
                table.clear();
            }
        }
        table.insert(key.as_bytes().into(), Arc::new(ready));
    }

    /// Forgets what is too old.
    pub(super) fn sweep(&self, now: Instant) {
        self.ready.write().retain(|_, ready| now < ready.until);
    }
}
