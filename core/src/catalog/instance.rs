//! An instance with all that decides whether it is used.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{CheckStatus, HealthCheck, Node, Service};

/// A service instance with its node and every check that speaks of either.
///
/// A copy shares the records, so that a list of instances costs little beside the catalog.
///
/// **Shape**: checks of the node first, then those of the instance, each by id.
/// **Source**: Consul: api-docs/health#list-service-instances-for-service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceInstance {
    /// The host.
    pub node: Arc<Node>,
    /// The instance.
    pub service: Arc<Service>,
    /// The checks.
    pub checks: Vec<Arc<HealthCheck>>,
}

impl ServiceInstance {
    /// Returns the worst status among the checks, passing when there are none.
    pub fn status(&self) -> CheckStatus {
        aggregate_status(self.checks.iter().map(|check| check.status))
    }

    /// Returns the address to call: the instance's own, else its node's.
    pub fn address(&self) -> &str {
        if self.service.address.is_empty() { &self.node.address } else { &self.service.address }
    }

    /// Returns the instance's share among others of equal standing, by its health.
    pub fn weight(&self) -> u16 {
        match self.status() {
            CheckStatus::Passing => self.service.weights.passing,
            CheckStatus::Warning => self.service.weights.warning,
            CheckStatus::Critical => 0,
        }
    }
}

/// Returns the worst of the given statuses, passing when there are none.
pub fn aggregate_status(statuses: impl Iterator<Item = CheckStatus>) -> CheckStatus {
    statuses.max().unwrap_or(CheckStatus::Passing)
}
