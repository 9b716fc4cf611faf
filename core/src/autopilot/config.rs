//! The settings of autopilot, replicated.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::index::Index;
use crate::time::Span;

/// The settings of autopilot.
///
/// **Source**: Consul: api-docs/operator/autopilot#read-configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AutopilotConfig {
    /// Whether servers that failed are removed once others are enough.
    pub cleanup_dead_servers: bool,
    /// The longest silence of a healthy server (Consul: 200 ms).
    pub last_contact_threshold: Span,
    /// How many entries a healthy server may be behind (Consul: 250).
    pub max_trailing_logs: u64,
    /// Servers below which none is removed; 0: none but a majority's rule.
    pub min_quorum: u64,
    /// How long a new server must be healthy before it gets a vote (Consul: 10 s).
    pub server_stabilization_time: Span,
    /// When it was first written; 0 for the defaults.
    pub create_index: Index,
    /// When it was last written.
    pub modify_index: Index,
}

impl Default for AutopilotConfig {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: Span(Duration::from_millis(200)),
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_time: Span::seconds(10),
            create_index: Index::default(),
            modify_index: Index::default(),
        }
    }
}

/// States which setting is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidAutopilot {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The longest time that a setting may have: longer ones are slips of the unit.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// The most servers that anybody runs as voters, with a margin.
const QUORUM_MAX: u64 = 99;

impl AutopilotConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`InvalidAutopilot`] for the first field that is out of its range.
    pub fn check(&self) -> Result<(), InvalidAutopilot> {
        let fault = |field, reason| Err(InvalidAutopilot { field, reason });
        if self.last_contact_threshold.0.is_zero() || self.last_contact_threshold.0 > TIME_MAX {
            return fault("LastContactThreshold", "write a time above zero, up to 24h");
        }
        if self.server_stabilization_time.0 > TIME_MAX {
            return fault("ServerStabilizationTime", "write a time of up to 24h");
        }
        if self.min_quorum > QUORUM_MAX {
            return fault("MinQuorum", "write a number of up to 99");
        }
        Ok(())
    }
}
