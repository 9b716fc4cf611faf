//! A process's metrics, and their text form for Prometheus.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::registry::{Metric, Unit};

use super::process::Process;

pub use prometheus_client::metrics::counter::{ConstCounter, Counter};
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
pub use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
pub use prometheus_client::{collector, encoding};

/// The content type of [`Registry::encode`].
///
/// **Source**: Spec: OpenMetrics 1.0 §"Overall Structure".
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that a process counts. Clones are the same registry; it is passed in, never
/// global.
#[derive(Clone)]
pub struct Registry {
    prefix: Arc<str>,
    inner: Arc<Mutex<prometheus_client::registry::Registry>>,
}

impl Registry {
    /// Makes a registry whose metrics are named `weft_<process>_…`, with those of the operating
    /// system (`process_…`) beside them.
    pub fn new(process: &str) -> Self {
        let mut inner = prometheus_client::registry::Registry::default();
        inner.register_collector(Box::new(Process::new()));
        Self { prefix: format!("weft_{process}_").into(), inner: Arc::new(Mutex::new(inner)) }
    }

    /// Adds a metric and returns a handle to it. `name` ends in its unit, without `_total`,
    /// which counters get by themselves.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.inner.lock().register(self.full(name), help, metric.clone());
        metric
    }

    /// As [`Registry::register`], with the unit told apart; it is appended to the name.
    pub fn register_with_unit<M: Metric + Clone>(
        &self,
        name: &str,
        help: &str,
        unit: Unit,
        metric: M,
    ) -> M {
        self.inner.lock().register_with_unit(self.full(name), help, unit, metric.clone());
        metric
    }

    /// Adds a collector, which gives its metrics their full names and is asked at each [`Registry::encode`].
    pub fn register_collector(&self, collector: Box<dyn collector::Collector>) {
        self.inner.lock().register_collector(collector);
    }

    /// Returns all metrics in OpenMetrics' text form.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.inner.lock())
            .expect("writing to a String does not fail");
        text
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_encoded_with_their_help_and_prefix() {
        let registry = Registry::new("agent");
        let counter: Counter = registry.register("syncs", "Full syncs", Counter::default());
        counter.inc();
        let text = registry.encode();
        assert!(text.contains("# HELP weft_agent_syncs Full syncs."), "{text}");
        assert!(text.contains("weft_agent_syncs_total 1"), "{text}");
        assert!(text.contains("# TYPE process_resident_memory_bytes gauge"), "{text}");
        assert!(text.contains("process_cpu_seconds_total "), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
