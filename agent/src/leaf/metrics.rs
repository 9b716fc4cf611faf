//! What can be seen of certificates from outside.

use weft_core::name::ServiceName;
use weft_core::time::Timestamp;
use weft_runtime::telemetry::metrics::{Counter, Family, Gauge, Registry};

/// One label; its values are the services of this host.
type ByService = Vec<(&'static str, String)>;

pub(super) struct LeafMetrics {
    valid_before: Family<ByService, Gauge>,
    failures: Family<ByService, Counter>,
}

impl LeafMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        Self {
            valid_before: registry.register(
                "leaf_valid_before_seconds",
                "Until when a local service's certificate is valid, in Unix time",
                Family::default(),
            ),
            failures: registry.register(
                "leaf_renewal_failures",
                "Attempts to get a local service's certificate that failed",
                Family::default(),
            ),
        }
    }

    pub(super) fn renewed(&self, service: &ServiceName, valid_before: Timestamp) {
        let seconds = i64::try_from(valid_before.unix_seconds()).unwrap_or(i64::MAX);
        self.valid_before.get_or_create(&label(service)).set(seconds);
    }

    pub(super) fn failed(&self, service: &ServiceName) {
        self.failures.get_or_create(&label(service)).inc();
    }

    pub(super) fn ended(&self, service: &ServiceName) {
        self.valid_before.remove(&label(service));
        self.failures.remove(&label(service));
    }
}

fn label(service: &ServiceName) -> ByService {
    vec![("service", service.to_string())]
}
