//! What can be seen of certificates from outside.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use weft_core::name::ServiceName;
use weft_core::time::Timestamp;
use weft_runtime::clock;
use weft_runtime::telemetry::metrics::collector::Collector;
use weft_runtime::telemetry::metrics::encoding::{DescriptorEncoder, EncodeMetric};
use weft_runtime::telemetry::metrics::{ConstGauge, Counter, Family, Gauge, Registry};

/// One label; its values are the services of this host.
type ByService = Vec<(&'static str, String)>;

/// When the certificates end, those that ended unrenewed included.
type Ends = Arc<Mutex<BTreeMap<ServiceName, Timestamp>>>;

pub(super) struct LeafMetrics {
    ends: Ends,
    valid_before: Family<ByService, Gauge>,
    renewals: Family<ByService, Counter>,
    failures: Family<ByService, Counter>,
}

impl LeafMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let ends = Ends::default();
        registry.register_collector(Box::new(Worst { ends: ends.clone() }));
        Self {
            ends,
            valid_before: registry.register(
                "leaf_valid_before_seconds",
                "Until when a local service's certificate is valid, in Unix time",
                Family::default(),
            ),
            renewals: registry.register(
                "leaf_renewals",
                "Certificates that were signed for a local service",
                Family::default(),
            ),
            failures: registry.register(
                "leaf_renewal_failures",
                "Attempts to get a local service's certificate that failed",
                Family::default(),
            ),
        }
    }

    /// Takes note of a certificate in use.
    pub(super) fn in_use(&self, service: &ServiceName, valid_before: Timestamp) {
        let seconds = i64::try_from(valid_before.unix_seconds()).unwrap_or(i64::MAX);
        self.valid_before.get_or_create(&label(service)).set(seconds);
        self.ends.lock().insert(service.clone(), valid_before);
    }

    pub(super) fn renewed(&self, service: &ServiceName) {
        self.renewals.get_or_create(&label(service)).inc();
    }

    pub(super) fn failed(&self, service: &ServiceName) {
        self.failures.get_or_create(&label(service)).inc();
    }

    pub(super) fn ended(&self, service: &ServiceName) {
        self.ends.lock().remove(service);
        self.valid_before.remove(&label(service));
        self.renewals.remove(&label(service));
        self.failures.remove(&label(service));
    }
}

/// How long the certificate lasts that ends first, worked out when it is asked for: the figure to
/// alarm on.
#[derive(Debug)]
struct Worst {
    ends: Ends,
}

impl Collector for Worst {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(end) = self.ends.lock().values().min().copied() else { return Ok(()) };
        let seconds = end.since(clock::wall()).as_secs();
        let gauge = ConstGauge::new(i64::try_from(seconds).unwrap_or(i64::MAX));
        let metric = encoder.encode_descriptor(
            "weft_agent_leaf_worst_remaining_seconds",
            "How long the certificate of a local service that ends first is still valid",
            None,
            gauge.metric_type(),
        )?;
        gauge.encode(metric)
    }
}

fn label(service: &ServiceName) -> ByService {
    vec![("service", service.to_string())]
}
