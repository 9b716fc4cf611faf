//! What storage tells of itself: how long it takes, how much it holds, why it stopped.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weft_runtime::telemetry::metrics::{
    Counter, Family, Gauge, Histogram, Registry, exponential_buckets,
};

/// Shared by the log, the snapshots and whoever asks. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Gauges {
    /// Writing and syncing one group of entries.
    sync_seconds: Histogram,
    snapshot_seconds: Histogram,
    snapshot_failures: Counter,
    /// From the arrival of a write to its applied answer.
    write_seconds: Histogram,
    /// Applying what was committed since the last time.
    apply_seconds: Histogram,
    /// Of entries that this server proposed as leader.
    entry_bytes: Histogram,
    /// Requests that wait for a leader.
    held: Gauge,
    /// Writes by what they write.
    writes: Family<Vec<(&'static str, &'static str)>, Counter>,
    /// Why the log takes nothing more.
    failure: Arc<OnceLock<String>>,
    is_short: Arc<AtomicBool>,
}

/// A request that is held.
#[derive(Debug)]
pub(crate) struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Gauges {
    fn default() -> Self {
        Self {
            // 50 µs, a fast disk, to 26 s.
            sync_seconds: Histogram::new(exponential_buckets(0.00005, 2.0, 20)),
            // 1 ms, an empty state, to 9 min.
            snapshot_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 20)),
            snapshot_failures: Counter::default(),
            // 100 µs, a fast disk, to 26 s: a write is held for some seconds at most.
            write_seconds: Histogram::new(exponential_buckets(0.000_1, 4.0, 10)),
            // 10 µs, one command, to 2.6 s.
            apply_seconds: Histogram::new(exponential_buckets(0.000_01, 4.0, 10)),
            // 64 bytes, a key, to 1 MiB, the largest.
            entry_bytes: Histogram::new(exponential_buckets(64.0, 4.0, 8)),
            held: Gauge::default(),
            writes: Family::default(),
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
        registry.register(
            "raft_commit_seconds",
            "Time from the arrival of a write here to its applied answer",
            self.write_seconds.clone(),
        );
        registry.register(
            "raft_apply_seconds",
            "Time to apply the entries that were committed since the last time",
            self.apply_seconds.clone(),
        );
        registry.register(
            "raft_entry_bytes",
            "Size of the groups of commands that this server proposed as leader",
            self.entry_bytes.clone(),
        );
        registry.register(
            "raft_held_requests",
            "Reads, and groups of writes, that are held as there is no leader",
            self.held.clone(),
        );
        registry.register("writes", "Writes asked for here, by kind", self.writes.clone());
    }

    /// Notes a write that was answered.
    pub(crate) fn written(&self, kind: &'static str, took: Duration) {
        self.writes.get_or_create(&vec![("kind", kind)]).inc();
        self.write_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn applied(&self, took: Duration) {
        self.apply_seconds.observe(took.as_secs_f64());
    }

    #[expect(clippy::cast_precision_loss, reason = "an entry has a megabyte at most")]
    pub(super) fn proposed(&self, bytes: usize) {
        self.entry_bytes.observe(bytes as f64);
    }

    /// Counts a request as held for as long as what is returned is there.
    pub(crate) fn hold(&self) -> Held {
        self.held.inc();
        Held(self.held.clone())
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
