//! What can be seen of the CA from outside: signatures, failures, and when certificates end.

use weft_core::time::Timestamp;
use weft_runtime::telemetry::metrics::{Counter, Gauge, Registry};

/// The figures of this server's pen. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    signatures: Counter,
    failures: Counter,
    intermediates: Counter,
    intermediate_failures: Counter,
    intermediate_ends: Gauge,
    root_ends: Gauge,
}

impl Counts {
    pub(super) fn signed(&self, is_done: bool) {
        let counter = if is_done { &self.signatures } else { &self.failures };
        counter.inc();
    }

    pub(super) fn made_intermediate(&self, is_done: bool) {
        let counter = if is_done { &self.intermediates } else { &self.intermediate_failures };
        counter.inc();
    }

    pub(super) fn ends(&self, intermediate: Timestamp, root: Timestamp) {
        for (gauge, ends) in [(&self.intermediate_ends, intermediate), (&self.root_ends, root)] {
            gauge.set(i64::try_from(ends.unix_seconds()).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn register(&self, registry: &Registry) {
        for (name, help, counter) in [
            ("ca_signatures", "Certificates signed by this server", &self.signatures),
            ("ca_signature_failures", "Requests that were not signed", &self.failures),
            (
                "ca_intermediates",
                "Intermediates that this server got since its start",
                &self.intermediates,
            ),
            (
                "ca_intermediate_failures",
                "Attempts to get an intermediate that failed",
                &self.intermediate_failures,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        for (name, help, gauge) in [
            (
                "ca_intermediate_valid_before_seconds",
                "Until when this server's intermediate is valid, in Unix time",
                &self.intermediate_ends,
            ),
            (
                "ca_root_valid_before_seconds",
                "Until when the root is valid under which this server signs, in Unix time",
                &self.root_ends,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }
}
