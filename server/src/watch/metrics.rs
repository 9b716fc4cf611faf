//! What is counted of those who wait: whether changes reach them, and what that costs.

use weft_runtime::telemetry::metrics::{Counter, Gauge, Registry};

/// The figures. Clones are the same figures.
#[derive(Debug, Default, Clone)]
pub(crate) struct WatchMetrics {
    /// Watch streams of agents.
    pub(crate) streams: Gauge,
    /// What they watch, all together.
    pub(crate) watches: Gauge,
    /// Values that are kept up for them.
    pub(crate) views: Gauge,
    /// Values looked at anew since something that they are made of changed.
    pub(crate) looks: Counter,
    /// Looks that found the same value as before.
    pub(crate) looks_in_vain: Counter,
    /// Values sent whole.
    pub(crate) values: Counter,
    /// Differences sent.
    pub(crate) deltas: Counter,
    /// Values that an agent had already.
    pub(crate) unchanged: Counter,
    /// Values that a slow reader never saw, as there was a newer one when it was ready.
    pub(crate) skipped: Counter,
    /// Bytes of values and differences.
    pub(crate) bytes: Counter,
    /// Blocking queries that wait.
    pub(crate) waiters: Gauge,
    /// Questions that they ask.
    pub(crate) questions: Gauge,
    /// Times that one of them was woken.
    pub(crate) wakeups: Counter,
    /// Times that it then found the answer that it had.
    pub(crate) wakeups_in_vain: Counter,
    /// Answers made for them; those who ask the same share one.
    pub(crate) answers: Counter,
}

impl WatchMetrics {
    /// Shows the figures.
    pub(crate) fn register(&self, registry: &Registry) {
        for (name, help, gauge) in [
            ("watch_streams", "Watch streams of agents", &self.streams),
            ("watch_watches", "Values watched over these streams", &self.watches),
            ("watch_views", "Different values kept up for watchers", &self.views),
            ("blocking_waiters", "Blocking queries that wait", &self.waiters),
            ("blocking_questions", "Different questions that they ask", &self.questions),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, counter) in [
            ("watch_looks", "Values made anew after a change", &self.looks),
            ("watch_looks_in_vain", "Values made anew that were the same", &self.looks_in_vain),
            ("watch_values_sent", "Values sent whole to agents", &self.values),
            ("watch_deltas_sent", "Differences sent to agents", &self.deltas),
            ("watch_unchanged_sent", "Values agents had at a reconnection", &self.unchanged),
            ("watch_values_skipped", "Values slow agents never saw", &self.skipped),
            ("watch_sent_bytes", "Bytes of values and differences sent", &self.bytes),
            ("blocking_wakeups", "Times a blocking query was woken", &self.wakeups),
            (
                "blocking_wakeups_in_vain",
                "Times a blocking query was woken and its answer was the same",
                &self.wakeups_in_vain,
            ),
            ("blocking_answers", "Answers made for blocking queries", &self.answers),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}
