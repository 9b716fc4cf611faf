//! How far a rollout has come. It stands in the entry, so that chains, watches and snapshots have it
//! with what it belongs to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Weight;
use super::blank::is_blank;
use crate::time::Timestamp;

/// How far a rollout has come.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RolloutStatus {
    /// Where it stands.
    pub phase: RolloutPhase,
    /// The step, counted from 0.
    pub step: u32,
    /// When the step began, or where there is none the phase.
    pub since: Timestamp,
    /// Since when is measured.
    pub measured_since: Timestamp,
    /// Intervals in a row that did not pass.
    pub failures: u32,
    /// Why it stands where it stands, in words.
    pub reason: String,
    /// What was measured of the canary when it was last judged.
    #[serde(skip_serializing_if = "is_blank")]
    pub canary: Option<RolloutMeasure>,
    /// As `canary`, of the stable version.
    #[serde(skip_serializing_if = "is_blank")]
    pub stable: Option<RolloutMeasure>,
}

/// Where a rollout stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutPhase {
    /// Nothing is sent to the canary yet.
    #[default]
    Pending,
    /// A step is under way.
    Progressing,
    /// A step is over, and somebody must say that it goes on. Gates are judged meanwhile.
    Waiting,
    /// Somebody has stopped it where it is. Nothing is judged.
    Paused,
    /// The canary has everything.
    Promoted,
    /// A gate did not hold: the stable version has everything.
    RolledBack,
    /// Somebody has ended it: the stable version has everything.
    Aborted,
}

impl RolloutPhase {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Progressing => "progressing",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled-back",
            Self::Aborted => "aborted",
        }
    }

    /// Whether it goes no further by itself or by anybody's word but a new start.
    pub fn is_over(self) -> bool {
        match self {
            Self::Promoted | Self::RolledBack | Self::Aborted => true,
            Self::Pending | Self::Progressing | Self::Waiting | Self::Paused => false,
        }
    }
}

impl fmt::Display for RolloutPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was measured of one version.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RolloutMeasure {
    /// Requests that ended.
    pub requests: u64,
    /// The share of them that went well; of none, none did.
    pub success_rate: Weight,
    /// **Units**: microseconds, within which half of them were answered.
    #[serde(rename = "LatencyP50Us")]
    pub p50_us: u64,
    /// As `p50_us`, for 95 of a hundred.
    #[serde(rename = "LatencyP95Us")]
    pub p95_us: u64,
    /// As `p50_us`, for 99 of a hundred.
    #[serde(rename = "LatencyP99Us")]
    pub p99_us: u64,
}
