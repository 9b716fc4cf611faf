//! How often a request is tried.

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};
use crate::limits;

/// How often a request is tried, and after what.
///
/// **Source**: Consul: docs/connect/config-entries/service-router#numretries.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RetryPolicy {
    /// Further attempts; 0 means one if anything is given to retry on.
    #[serde(skip_serializing_if = "is_blank")]
    pub num_retries: u32,
    /// What is tried again, in Envoy's words.
    #[serde(skip_serializing_if = "is_blank")]
    pub retry_on: Vec<String>,
    /// Which statuses are tried again.
    #[serde(skip_serializing_if = "is_blank")]
    pub retry_on_status_codes: Vec<u16>,
    /// Whether a connection that failed is tried again.
    #[serde(skip_serializing_if = "is_blank")]
    pub retry_on_connect_failure: bool,
}

impl RetryPolicy {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        if self.num_retries > limits::RETRIES_MAX {
            let reason = format!("is more than the {} allowed", limits::RETRIES_MAX);
            findings.add(format!("{field}.NumRetries"), reason);
        }
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        findings.count(&format!("{field}.RetryOn"), self.retry_on.len(), max);
        for (at, word) in self.retry_on.iter().enumerate() {
            if !RETRY_ON.contains(&word.as_str()) {
                let reason =
                    format!("{:?} must be one of {}", shortened(word), RETRY_ON.join(", "));
                findings.add(format!("{field}.RetryOn[{at}]"), reason);
            }
        }
        findings.count(
            &format!("{field}.RetryOnStatusCodes"),
            self.retry_on_status_codes.len(),
            max,
        );
        for (at, status) in self.retry_on_status_codes.iter().enumerate() {
            if !(100..600).contains(status) {
                let reason = format!("{status} is not a status of HTTP");
                findings.add(format!("{field}.RetryOnStatusCodes[{at}]"), reason);
            }
        }
    }
}

/// What can be tried again.
///
/// **Source**: Consul: docs/connect/config-entries/service-router#retryon.
const RETRY_ON: [&str; 13] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];
