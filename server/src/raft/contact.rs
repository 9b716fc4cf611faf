//! When a leader was last heard of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weft_runtime::clock;

/// When this server started, and when it last heard from a leader. Clones share it.
#[derive(Clone)]
pub(super) struct Contact {
    started: Instant,
    /// Milliseconds since `started`; zero: never.
    heard: Arc<AtomicU64>,
}

impl Contact {
    pub(super) fn new() -> Self {
        Self { started: clock::instant(), heard: Arc::default() }
    }

    /// Notes that a leader was heard of at a moment.
    pub(super) fn heard_at(&self, moment: Instant) {
        let since = moment.saturating_duration_since(self.started).as_millis();
        // At least 1: zero stands for never.
        self.heard.fetch_max(u64::try_from(since).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    /// Returns how long no leader has been heard of; since the start when none ever was. A
    /// restart may have forgotten one: so a server that just started counts as one that just
    /// heard.
    pub(super) fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        clock::instant().duration_since(self.started).saturating_sub(heard)
    }

    /// Returns how long ago this server started.
    pub(super) fn age(&self) -> Duration {
        clock::instant().duration_since(self.started)
    }
}
