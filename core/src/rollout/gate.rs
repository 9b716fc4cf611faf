//! Whether what was measured of the canary is good enough.

use std::time::Duration;

use crate::config_entry::{RolloutGates, RolloutMeasure, Weight};
use crate::time::Span;

/// What gates say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateVerdict {
    /// All hold.
    Passed,
    /// Too little was measured.
    TooFew,
    /// One does not hold, in words.
    Failed(String),
}

/// Judges what was measured in one interval.
pub fn check(
    gates: &RolloutGates,
    canary: &RolloutMeasure,
    stable: &RolloutMeasure,
) -> GateVerdict {
    if !gates.is_any() {
        return GateVerdict::Passed;
    }
    if canary.requests < gates.min_requests() {
        return GateVerdict::TooFew;
    }
    let rate = canary.success_rate;
    if rate < gates.success_rate {
        let reason = format!("{rate} % of requests went well, and {} % must", gates.success_rate);
        return GateVerdict::Failed(reason);
    }
    // Where the stable version has nothing to do there is nothing to compare with.
    if gates.success_rate_drop != Weight::default() && stable.requests >= gates.min_requests() {
        let drop = stable.success_rate.hundredths().saturating_sub(rate.hundredths());
        if drop > gates.success_rate_drop.hundredths() {
            let (stable, allowed) = (stable.success_rate, gates.success_rate_drop);
            let reason = format!(
                "{rate} % of requests went well, more than {allowed} points below the {stable} % \
                 of the stable version"
            );
            return GateVerdict::Failed(reason);
        }
    }
    let latencies = [
        ("half", canary.p50_us, gates.latency_p50),
        ("95 of 100", canary.p95_us, gates.latency_p95),
        ("99 of 100", canary.p99_us, gates.latency_p99),
    ];
    for (share, found, limit) in latencies {
        let found = Duration::from_micros(found);
        if limit != Span::default() && found > limit.0 {
            let reason =
                format!("{share} requests took up to {}, and may take {limit}", Span(found));
            return GateVerdict::Failed(reason);
        }
    }
    GateVerdict::Passed
}
