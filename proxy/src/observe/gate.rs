//! How the limit of requests under way stands, in our names and in Envoy's.

use std::sync::{Arc, PoisonError};

use weft_core::traffic::gate::GateStanding;

use super::metrics::Counts;
use super::text::{head, line};

/// Name, help and value of each number of a gate.
type OfGate = (&'static str, &'static str, fn(&GateStanding<'_>) -> f64);
const OF_GATE: [OfGate; 4] = [
    ("weft_proxy_concurrent_requests", "Requests under way at the local instance.", |gate| {
        f64::from(gate.in_flight)
    }),
    ("weft_proxy_concurrency_limit", "How many there may be.", |gate| f64::from(gate.limit)),
    (
        "weft_proxy_unloaded_latency_seconds",
        "How long answers take without load, as far as it is known.",
        |gate| gate.shortest.as_secs_f64(),
    ),
    ("weft_proxy_typical_latency_seconds", "How long they took of late.", |gate| {
        gate.typical.as_secs_f64()
    }),
];

/// **Source**: Envoy: adaptive concurrency filter, gradient controller statistics.
const OF_ENVOY: [OfGate; 3] = [
    (
        "envoy_http_adaptive_concurrency_gradient_controller_concurrency_limit",
        "How many requests may be under way.",
        |gate| f64::from(gate.limit),
    ),
    (
        "envoy_http_adaptive_concurrency_gradient_controller_min_rtt_msecs",
        "How long answers take without load.",
        |gate| gate.shortest.as_secs_f64() * 1e3,
    ),
    (
        "envoy_http_adaptive_concurrency_gradient_controller_sample_rtt_msecs",
        "How long they took of late.",
        |gate| gate.typical.as_secs_f64() * 1e3,
    ),
];
const BLOCKED: &str = "envoy_http_adaptive_concurrency_gradient_controller_rq_blocked";
const PREFIX: &str = "envoy_http_conn_manager_prefix=\"public_listener\"";

/// Writes the gates of all workloads, in Envoy's names too if that is asked for.
pub(super) fn write(workloads: &[Arc<Counts>], is_envoy_told: bool, text: &mut String) {
    let gates: Vec<_> = workloads
        .iter()
        .filter_map(|counts| {
            let gate = counts.gate.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
            Some((counts, gate))
        })
        .collect();
    for (name, help, value) in OF_GATE {
        head(text, name, "gauge", help);
        for (counts, gate) in &gates {
            line(text, name, &counts.labels(""), value(&gate.standing()));
        }
    }
    let name = "weft_proxy_shed_total";
    head(text, name, "counter", "Requests refused as too many were under way, by their priority.");
    for (counts, gate) in &gates {
        for (level, count) in gate.standing().refused {
            line(text, name, &counts.labels(&format!("priority=\"{level}\"")), count);
        }
    }
    if !is_envoy_told {
        return;
    }
    for (name, help, value) in OF_ENVOY {
        head(text, name, "gauge", help);
        for (counts, gate) in &gates {
            line(text, name, &counts.labels(PREFIX), value(&gate.standing()));
        }
    }
    head(text, BLOCKED, "counter", "Requests refused as too many were under way.");
    for (counts, gate) in &gates {
        let refused: u64 = gate.standing().refused.iter().map(|(_, count)| count).sum();
        line(text, BLOCKED, &counts.labels(PREFIX), refused);
    }
}
