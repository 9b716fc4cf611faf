//! What proxies count of a flow (who calls whom, by which route), and what that is a second: requests,
//! how many of them went well, how long they took.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config_entry::Protocol;

/// Upper bounds of all histograms of proxies: those that Envoy and Istio have, so that queries for
/// them fit.
///
/// **Units**: milliseconds, or bytes.
pub const HISTOGRAM_BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Values of a histogram by [`HISTOGRAM_BOUNDS`], and one for those above; not added up.
pub type HistogramCounts = [u64; HISTOGRAM_BOUNDS.len() + 1];

/// Flows of which one proxy tells at most, the busiest: more are not read by anybody.
pub const FLOWS_TOLD_MAX: usize = 500;

/// The side on which a proxy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowSide {
    /// That of the called service.
    Inbound,
    /// That of the caller.
    Outbound,
}

impl FlowSide {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What tells flows apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FlowName {
    /// Which proxy has counted it.
    pub direction: FlowSide,
    /// The calling service; `unknown` for one without an identity.
    pub source: String,
    /// The called service.
    pub destination: String,
    /// The name of the target as it is given in TLS; `local_app` where it is called.
    pub target: String,
    /// The number of the route of the destination's router, from 1; 0 for none.
    pub route: u32,
    /// What is spoken.
    pub protocol: Protocol,
}

/// What a proxy has counted of one flow since its process began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FlowCounts {
    /// Which flow.
    pub name: FlowName,
    /// Requests that have ended.
    pub requests: u64,
    /// Those of them that failed: see [`has_failed`].
    pub failed: u64,
    /// How long requests took, in milliseconds.
    pub durations: HistogramCounts,
    /// Connections of bytes that were opened.
    pub opened: u64,
    /// Those of them that have ended.
    pub closed: u64,
    /// Bytes towards the called service: of connections that have ended.
    pub sent: u64,
    /// Bytes back.
    pub received: u64,
}

/// What a flow is a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FlowRate {
    /// Which flow.
    #[serde(flatten)]
    pub name: FlowName,
    /// Requests that ended.
    pub requests_per_second: f64,
    /// The share of requests that did not fail, from 0 to 1; `None` without requests.
    pub success_rate: Option<f64>,
    /// **Units**: milliseconds; half of the requests took no longer. Read out of a histogram, so only as
    /// exact as its buckets are narrow. `None` without requests.
    pub p50_ms: Option<f64>,
    /// As [`FlowRate::p50_ms`], for 95 of a hundred.
    pub p95_ms: Option<f64>,
    /// As [`FlowRate::p50_ms`], for 99 of a hundred.
    pub p99_ms: Option<f64>,
    /// Connections of bytes that are open.
    pub open_connections: u64,
    /// Connections of bytes that were opened.
    pub connections_per_second: f64,
    /// Bytes towards the called service.
    pub sent_bytes_per_second: f64,
    /// Bytes back.
    pub received_bytes_per_second: f64,
}

/// Whether a request counts as failed: no answer, a status of 500 or more, or a status of gRPC for which
/// the called side is at fault.
///
/// **Source**: Linkerd: how it tells failures of gRPC (Unknown, `DeadlineExceeded`, Internal, Unavailable,
/// `DataLoss`).
pub fn has_failed(status: u16, grpc: Option<u8>) -> bool {
    status == 0 || status >= 500 || matches!(grpc, Some(2 | 4 | 13..=15))
}

/// Adds up what proxies have counted between two looks.
#[derive(Debug, Default)]
pub struct FlowMeter(BTreeMap<FlowName, Growth>);

#[derive(Debug, Default)]
struct Growth {
    requests: u64,
    failed: u64,
    durations: HistogramCounts,
    open: u64,
    requests_per_second: f64,
    connections_per_second: f64,
    sent_per_second: f64,
    received_per_second: f64,
}

impl FlowMeter {
    /// Adds what one proxy has counted in so many seconds.
    ///
    /// A process that has begun anew counts from nothing; flows that it forgot are left out.
    pub fn add(&mut self, before: &[FlowCounts], now: &[FlowCounts], seconds: f64) {
        let before: BTreeMap<&FlowName, &FlowCounts> =
            before.iter().map(|counts| (&counts.name, counts)).collect();
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        for counts in now {
            let before = before.get(&counts.name).filter(|before| counts.continues(before));
            let grown = |pick: fn(&FlowCounts) -> u64| {
                pick(counts).saturating_sub(before.map_or(0, |before| pick(before)))
            };
            let growth = self.0.entry(counts.name.clone()).or_default();
            let requests = grown(|it| it.requests);
            growth.requests += requests;
            growth.failed += grown(|it| it.failed);
            for (at, sum) in growth.durations.iter_mut().enumerate() {
                let known = before.map_or(0, |before| before.durations[at]);
                *sum += counts.durations[at].saturating_sub(known);
            }
            growth.open += counts.opened.saturating_sub(counts.closed);
            growth.requests_per_second += per_second(requests);
            growth.connections_per_second += per_second(grown(|it| it.opened));
            growth.sent_per_second += per_second(grown(|it| it.sent));
            growth.received_per_second += per_second(grown(|it| it.received));
        }
    }

    /// Returns what goes on, the busiest flow first.
    pub fn rates(self) -> Vec<FlowRate> {
        let is_alive = |growth: &Growth| {
            growth.requests > 0 || growth.open > 0 || growth.connections_per_second > 0.0
        };
        let alive = self.0.into_iter().filter(|(_, growth)| is_alive(growth));
        let mut rates: Vec<FlowRate> = alive.map(|(name, growth)| growth.rate(name)).collect();
        let load = |rate: &FlowRate| rate.requests_per_second + rate.connections_per_second;
        // Stable, so that flows with as much to do stay in the order of their names.
        rates.sort_by(|one, other| load(other).total_cmp(&load(one)));
        rates
    }
}

impl FlowCounts {
    /// Whether these may be later counts of the same process.
    fn continues(&self, before: &Self) -> bool {
        self.requests >= before.requests && self.opened >= before.opened
    }
}

impl Growth {
    fn rate(self, name: FlowName) -> FlowRate {
        let failed = self.failed.min(self.requests) as f64;
        let success = 1.0 - failed / self.requests as f64;
        FlowRate {
            name,
            requests_per_second: self.requests_per_second,
            success_rate: (self.requests > 0).then_some(success),
            p50_ms: quantile(&self.durations, 0.5),
            p95_ms: quantile(&self.durations, 0.95),
            p99_ms: quantile(&self.durations, 0.99),
            open_connections: self.open,
            connections_per_second: self.connections_per_second,
            sent_bytes_per_second: self.sent_per_second,
            received_bytes_per_second: self.received_per_second,
        }
    }
}

/// Returns the value below which a share of a histogram's values lies, taking those of one bucket as
/// evenly spread; of those above all bounds no more is known than the last bound.
///
/// **Source**: Prometheus: `histogram_quantile`.
pub(crate) fn quantile(counts: &HistogramCounts, share: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = share * total as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for (count, upper) in counts.iter().zip(HISTOGRAM_BOUNDS) {
        let count = *count as f64;
        if count > 0.0 && below + count >= rank {
            return Some(lower + (upper - lower) * (rank - below) / count);
        }
        (below, lower) = (below + count, upper);
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(source: &str, requests: u64, failed: u64) -> FlowCounts {
        let mut durations = HistogramCounts::default();
        durations[2] = requests;
        let name = FlowName {
            direction: FlowSide::Inbound,
            source: source.to_owned(),
            destination: "web".to_owned(),
            target: "local_app".to_owned(),
            route: 0,
            protocol: Protocol::Http,
        };
        FlowCounts { name, requests, failed, durations, opened: 0, closed: 0, sent: 0, received: 0 }
    }

    #[test]
    fn rates_are_what_grew_over_all_proxies_the_busiest_first() {
        let mut meter = FlowMeter::default();
        meter.add(&[counts("shop", 100, 1)], &[counts("shop", 300, 51)], 2.0);
        meter.add(&[counts("shop", 0, 0)], &[counts("shop", 10, 0), counts("desk", 900, 0)], 1.0);
        let rates = meter.rates();
        let row = |at: usize| {
            let rate = &rates[at];
            (rate.name.source.as_str(), rate.requests_per_second, rate.success_rate)
        };
        assert_eq!(rates.len(), 2);
        assert_eq!(row(0), ("desk", 900.0, Some(1.0)));
        assert_eq!(row(1), ("shop", 110.0, Some(1.0 - 50.0 / 210.0)));
        assert_eq!((rates[1].p50_ms, rates[1].p99_ms), (Some(3.0), Some(4.96)));
    }

    #[test]
    fn a_process_that_began_anew_counts_from_nothing() {
        let mut meter = FlowMeter::default();
        meter.add(&[counts("shop", 100, 9)], &[counts("shop", 30, 3)], 1.0);
        let rates = meter.rates();
        assert_eq!((rates[0].requests_per_second, rates[0].success_rate), (30.0, Some(0.9)));
    }

    #[test]
    fn what_does_nothing_is_left_out_but_an_open_connection_is_shown() {
        let idle = counts("shop", 5, 0);
        let open = FlowCounts { opened: 7, closed: 4, sent: 50, ..counts("desk", 0, 0) };
        let before = FlowCounts { opened: 5, ..open.clone() };
        let mut meter = FlowMeter::default();
        meter.add(&[idle.clone(), before], &[idle, open], 0.5);
        let rates = meter.rates();
        assert_eq!(rates.len(), 1);
        assert_eq!((rates[0].open_connections, rates[0].connections_per_second), (3, 4.0));
        assert_eq!((rates[0].success_rate, rates[0].p50_ms), (None, None));
    }

    #[test]
    fn quantiles_lie_within_their_buckets_and_never_above_the_last_bound() {
        let mut histogram = HistogramCounts::default();
        assert_eq!(quantile(&histogram, 0.5), None);
        histogram[0] = 1;
        histogram[HISTOGRAM_BOUNDS.len()] = 1;
        assert_eq!(quantile(&histogram, 0.5), Some(0.5));
        assert_eq!(quantile(&histogram, 0.99), Some(3_600_000.0));
    }

    #[test]
    fn the_called_sides_faults_are_failures_and_the_callers_are_not() {
        for (status, grpc, failed) in [
            (0, None, true),
            (503, None, true),
            (404, None, false),
            (200, None, false),
            (200, Some(0), false),
            (200, Some(5), false),
            (200, Some(14), true),
        ] {
            assert_eq!(has_failed(status, grpc), failed, "{status} {grpc:?}");
        }
    }
}
