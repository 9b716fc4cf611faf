//! What the agent counts. Each part counts what it does itself.

use std::time::Duration;

use weft_core::catalog::CheckStatus;
use weft_core::time::Timestamp;
use weft_runtime::telemetry::metrics::{
    Counter, Family, Gauge, Histogram, Registry, exponential_buckets,
};

use crate::local::LocalServices;

/// The agent's own counters; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    syncs: Counter,
    sync_failures: Counter,
    requests: Counter,
    request_seconds: Histogram,
    services: Gauge,
    checks: Family<Vec<(&'static str, &'static str)>, Gauge>,
    certificate_end: Gauge,
}

impl Metrics {
    /// Makes the counters and enters them in a new registry.
    pub fn new() -> Self {
        let registry = Registry::new("agent");
        // From 100 µs, a local answer, to 26 s, a blocking query.
        let buckets = Histogram::new(exponential_buckets(0.000_1, 4.0, 10));
        Self {
            syncs: registry.register(
                "syncs",
                "Comparisons of this host with the catalog that were carried out",
                Counter::default(),
            ),
            sync_failures: registry.register(
                "sync_failures",
                "Comparisons of this host with the catalog that failed",
                Counter::default(),
            ),
            requests: registry.register(
                "http_requests",
                "Requests of the HTTP API, forwarded ones included",
                Counter::default(),
            ),
            request_seconds: registry.register(
                "http_request_seconds",
                "Time to the head of an answer of the HTTP API",
                buckets,
            ),
            services: registry.register(
                "services",
                "Services registered on this host",
                Gauge::default(),
            ),
            checks: registry.register(
                "checks",
                "Checks registered on this host, by status",
                Family::default(),
            ),
            certificate_end: registry.register(
                "certificate_end_seconds",
                "When the agent's own certificate ends, in seconds since the Unix epoch",
                Gauge::default(),
            ),
            registry,
        }
    }

    /// Takes note of how things stand, for the next reading.
    pub fn observe(&self, local: &LocalServices, certificate_end: Timestamp) {
        let shown = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.services.set(shown(local.services.len()));
        for status in [CheckStatus::Passing, CheckStatus::Warning, CheckStatus::Critical] {
            let count = local.checks.values().filter(|check| check.status == status).count();
            let label = vec![("status", status.as_str())];
            self.checks.get_or_create(&label).set(shown(count));
        }
        let seconds = certificate_end.unix_seconds();
        self.certificate_end.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// Returns the registry, for parts that count more.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts a comparison that was carried out.
    pub fn sync_done(&self) {
        self.syncs.inc();
    }

    /// Counts a comparison that failed.
    pub fn sync_failed(&self) {
        self.sync_failures.inc();
    }

    /// Counts a request of the HTTP API.
    pub fn request_served(&self, taken: Duration) {
        self.requests.inc();
        self.request_seconds.observe(taken.as_secs_f64());
    }

    /// Returns the agent's own counters in the JSON form of `/v1/agent/metrics`.
    pub fn counters(&self) -> Vec<serde_json::Value> {
        let counters = [
            ("weft.agent.syncs", &self.syncs),
            ("weft.agent.sync_failures", &self.sync_failures),
            ("weft.agent.http_requests", &self.requests),
        ];
        let shown = |(name, counter): (&str, &Counter)| {
            let count = counter.get();
            serde_json::json!({ "Name": name, "Count": count, "Sum": count, "Labels": {} })
        };
        counters.map(shown).into()
    }

    /// Returns all metrics in the text form of Prometheus.
    pub fn encode(&self) -> String {
        self.registry.encode()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
