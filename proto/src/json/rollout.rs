//! What the API says of a rollout.

use serde::{Deserialize, Serialize};
use weft_core::config_entry::{HeaderMatch, Rollout, RolloutMeasure, RolloutPhase, Weight};
use weft_core::name::ServiceName;

/// How far a rollout has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RolloutBody {
    /// The service.
    pub service: ServiceName,
    /// The subset that serves now; empty for the default.
    pub stable: String,
    /// The subset that is to take over.
    pub canary: String,
    /// Where it stands.
    pub phase: RolloutPhase,
    /// The step, counted from 1.
    pub step: u32,
    /// How many there are.
    pub steps: u32,
    /// The canary's share of requests.
    pub weight: Weight,
    /// Which requests it gets beside that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderMatch>,
    /// The share of the other requests of which it gets a copy.
    pub mirror: Weight,
    /// When the step began, as in RFC 3339; empty before the first.
    pub since: String,
    /// Why it stands where it stands.
    pub reason: String,
    /// Intervals in a row that did not pass.
    pub failures: u32,
    /// How many of them are one too many.
    pub max_failures: u32,
    /// What was measured when it was last judged.
    pub measured: RolloutMeasures,
}

/// What was measured of both versions.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RolloutMeasures {
    /// Of the new one; `None` before anything was judged.
    pub canary: Option<RolloutMeasure>,
    /// Of the one that serves now.
    pub stable: Option<RolloutMeasure>,
}

impl From<&Rollout> for RolloutBody {
    fn from(rollout: &Rollout) -> Self {
        let (status, share) = (&rollout.status, rollout.share());
        let is_begun = status.since != Default::default();
        Self {
            service: rollout.name.clone(),
            stable: rollout.stable.clone(),
            canary: rollout.canary.clone(),
            phase: status.phase,
            step: status.step + 1,
            steps: u32::try_from(rollout.steps.len()).unwrap_or(u32::MAX),
            weight: share.weight,
            header: share.header.cloned(),
            mirror: share.mirror,
            since: if is_begun { status.since.rfc3339() } else { String::new() },
            reason: status.reason.clone(),
            failures: status.failures,
            max_failures: rollout.max_failures(),
            measured: RolloutMeasures { canary: status.canary, stable: status.stable },
        }
    }
}
