//! Faults that a route puts into requests, to find out what their callers make of them.

use serde::{Deserialize, Serialize};

use super::Weight;
use super::blank::is_blank;
use super::findings::Findings;
use crate::time::Span;

/// Faults of a route; each request is drawn for each by itself.
///
/// Ours; **Source**: Istio: VirtualService, HTTPFaultInjection.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RouteFault {
    /// Requests that wait before they go on, or are ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<FaultDelay>,
    /// Requests that are ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<FaultAbort>,
    /// Requests whose answers come slowly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<FaultRateLimit>,
}

/// Slows bodies of answers down.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FaultRateLimit {
    /// **Units**: bytes of an answer's body in a second, at least 1.
    pub bytes_per_second: u64,
    /// Of how many of them; `None` means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Weight>,
}

/// Has requests wait.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FaultDelay {
    /// How long.
    pub fixed: Span,
    /// Of how many of them; `None` means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Weight>,
}

/// Ends requests.
///
/// **Shape**: one of `status` and `grpc_status`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FaultAbort {
    /// With this status of HTTP; 0 for none.
    #[serde(skip_serializing_if = "is_blank")]
    pub status: u16,
    /// With this status of gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
    /// How many of them; `None` means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Weight>,
}

impl RouteFault {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        if *self == Self::default() {
            findings.add(field, "must have a Delay, an Abort or a RateLimit");
        }
        if let Some(delay) = &self.delay {
            if delay.fixed == Span::default() {
                findings.add(format!("{field}.Delay.Fixed"), "must be longer than nothing");
            }
            findings.timeout(&format!("{field}.Delay.Fixed"), delay.fixed.0);
        }
        if self.rate_limit.as_ref().is_some_and(|limit| limit.bytes_per_second == 0) {
            findings.add(format!("{field}.RateLimit.BytesPerSecond"), "must be 1 or more");
        }
        let Some(abort) = &self.abort else { return };
        if (abort.status != 0) == abort.grpc_status.is_some() {
            findings.add(format!("{field}.Abort"), "write exactly one of Status and GrpcStatus");
        }
        if abort.status != 0 && !(200..600).contains(&abort.status) {
            let reason = format!("{} must be 200 to 599", abort.status);
            findings.add(format!("{field}.Abort.Status"), reason);
        }
        if let Some(status) = abort.grpc_status.filter(|status| !(1..=16).contains(status)) {
            let reason = format!("{status} must be 1 to 16");
            findings.add(format!("{field}.Abort.GrpcStatus"), reason);
        }
    }
}
