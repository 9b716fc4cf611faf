//! The bodies of `/v1/agent/check/…`.

use serde::{Deserialize, Serialize};
use weft_core::catalog::CheckStatus;

/// The body of `PUT /v1/agent/check/update/:check_id`.
///
/// **Source**: Consul: api-docs/agent/check#ttl-check-update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckUpdate {
    /// How the check stands from now on.
    pub status: CheckStatus,
    /// What is to be said of it; cut by the agent to the check's limit.
    #[serde(default)]
    pub output: String,
}
