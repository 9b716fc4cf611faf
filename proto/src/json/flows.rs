//! What an agent's HTTP API says of what goes through the proxies of its host.

use serde::{Deserialize, Serialize};
use weft_core::traffic::flow::FlowRate;

/// What went on in one interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FlowsBody {
    /// When the interval ended, as in RFC 3339.
    pub time: String,
    /// **Units**: seconds; how long it was, give or take the second at which proxies tell.
    pub interval_seconds: u32,
    /// Who calls whom, the busiest first; those who did nothing are left out.
    pub flows: Vec<FlowRate>,
}
