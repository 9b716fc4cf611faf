//! What storage tells of itself: how long it takes, how much it holds, why it stopped.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weft_runtime::telemetry::metrics::{Counter, Histogram, Registry, exponential_buckets};

/// Shared by the log, the snapshots and whoever asks. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Gauges {
    /// Writing and syncing one group of entries.
    sync_seconds: Histogram,
    snapshot_seconds: Histogram,
    snapshot_failures: Counter,
    /// Why the log takes nothing more.
    failure: Arc<OnceLock<String>>,
    is_short: Arc<AtomicBool>,
}

impl Default for Gauges {
    fn default() -> Self {
        Self {
            // 50 µs, a fast disk, to 26 s.
            sync_seconds: Histogram::new(exponential_buckets(0.00005, 2.0, 20)),
            // 1 ms, an empty state, to 9 min.
            snapshot_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 20)),
            snapshot_failures: Counter::default(),
            failure: Arc::default(),
            is_short: Arc::default(),
        }
    }
}

impl Gauges {
    /// Adds them to a registry.
    pub(crate) fn register(&self, registry: &Registry) {
        registry.register(
            "log_sync_seconds",
            "Time to write and sync one group of log entries",
            self.sync_seconds.clone(),
        );
        registry.register(
            "snapshot_write_seconds",
            "Time to write one snapshot",
            self.snapshot_seconds.clone(),
        );
        registry.register(
            "snapshot_write_failures",
            "Snapshots that could not be written",
            self.snapshot_failures.clone(),
        );
    }

    pub(super) fn synced(&self, took: Duration) {
        self.sync_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn snapshot_written(&self, took: Duration) {
        self.snapshot_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn snapshot_failed(&self) {
        self.snapshot_failures.inc();
    }

    /// Notes why the log takes nothing more. The first reason stays.
    pub(super) fn log_failed(&self, reason: String) {
        let _ = self.failure.set(reason);
    }

    /// Returns why the log takes nothing more, if it does not.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Notes whether the disk has less room than is kept in reserve; says whether that is new.
    pub(super) fn set_short(&self, is_short: bool) -> bool {
        self.is_short.swap(is_short, Ordering::Relaxed) != is_short
    }

    /// Whether the disk has less room than is kept in reserve.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }
}
