//! What is counted of external checks.

use weft_runtime::telemetry::metrics::{Counter, Family, Gauge, Registry};

use super::catalog::Written;

/// Counters of this agent's part; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct ExternalMetrics {
    nodes: Gauge,
    checks: Gauge,
    writes: Family<Vec<(&'static str, &'static str)>, Counter>,
}

impl ExternalMetrics {
    pub(crate) fn register(registry: &Registry) -> Self {
        Self {
            nodes: registry.register(
                "external_nodes",
                "Hosts without an agent whose checks are this agent's to run",
                Gauge::default(),
            ),
            checks: registry.register(
                "external_checks",
                "Checks of hosts without an agent that this agent runs",
                Gauge::default(),
            ),
            writes: registry.register(
                "external_check_writes",
                "Results of external checks sent to the catalog, by what became of them",
                Family::default(),
            ),
        }
    }

    pub(super) fn share(&self, nodes: usize, checks: usize) {
        let shown = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.nodes.set(shown(nodes));
        self.checks.set(shown(checks));
    }

    pub(super) fn written(&self, written: &Written) {
        let result = match written {
            Written::Done => "written",
            Written::Failed(_) => "failed",
            Written::Refused => "refused",
        };
        self.writes.get_or_create(&vec![("result", result)]).inc();
    }
}
