//! What proxies have measured of two versions of a service, and what that comes to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chain::{ChainRollout, CompiledChain, TargetId};
use crate::config_entry::{RolloutMeasure, Weight};
use crate::name::{InstanceId, ServiceName};
use crate::time::Timestamp;
use crate::traffic::flow::{FlowCounts, FlowSide, HistogramCounts, quantile};

/// Requests to one version, and what became of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Requests that have ended.
    pub requests: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// How long they took, in milliseconds.
    pub durations: HistogramCounts,
}

/// What was measured of one version since the last report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutReport {
    /// The service.
    pub service: ServiceName,
    /// The version.
    pub target: TargetId,
    /// What was measured.
    pub measured: Measured,
}

impl Measured {
    /// Adds what was measured elsewhere or later.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failed = self.failed.saturating_add(other.failed);
        for (sum, more) in self.durations.iter_mut().zip(other.durations) {
            *sum = sum.saturating_add(more);
        }
    }

    /// Returns what came after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut durations = self.durations;
        for (count, before) in durations.iter_mut().zip(earlier.durations) {
            *count = count.saturating_sub(before);
        }
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            failed: self.failed.saturating_sub(earlier.failed),
            durations,
        }
    }

    /// Returns what is shown and judged of it.
    pub fn measure(&self) -> RolloutMeasure {
        let failed = self.failed.min(self.requests);
        let well = u128::from(self.requests - failed) * u128::from(Weight::FULL.hundredths());
        let rate = well.checked_div(u128::from(self.requests)).unwrap_or(0);
        let within = |share| {
            let ms = quantile(&self.durations, share).unwrap_or(0.0);
            (ms * 1_000.0) as u64
        };
        RolloutMeasure {
            requests: self.requests,
            success_rate: Weight::from_hundredths(rate as u32).unwrap_or(Weight::FULL),
            p50_us: within(0.5),
            p95_us: within(0.95),
            p99_us: within(0.99),
        }
    }

    fn of(counts: &FlowCounts) -> Self {
        let FlowCounts { requests, failed, durations, .. } = *counts;
        Self { requests, failed, durations }
    }
}

/// What the proxies of one host have measured since it was told last.
#[derive(Debug, Default)]
pub struct Growth {
    /// What each proxy had counted when it was looked at last.
    seen: BTreeMap<InstanceId, BTreeMap<(ServiceName, TargetId), Measured>>,
    untold: BTreeMap<(ServiceName, TargetId), Measured>,
}

impl Growth {
    /// Takes all that a proxy has counted since its process began. What it had counted when it is seen
    /// for the first time is left out, as nobody knows when that was.
    pub fn handle_counts(
        &mut self,
        proxy: &InstanceId,
        flows: &[FlowCounts],
        chains: &[&CompiledChain],
    ) {
        let mut now: BTreeMap<(ServiceName, TargetId), Measured> = BTreeMap::new();
        for (rollout, target, sni) in chains.iter().flat_map(|chain| versions(chain)) {
            let of_target = flows.iter().filter(|counts| {
                counts.name.direction == FlowSide::Outbound && counts.name.target == sni
            });
            // Two chains may lead to the same version: its flows differ by their destination only.
            let sum = of_target.fold(Measured::default(), |mut sum, counts| {
                sum.add(&Measured::of(counts));
                sum
            });
            now.insert((rollout.service.clone(), target.clone()), sum);
        }
        if let Some(before) = self.seen.get(proxy) {
            for (version, sum) in &now {
                // One that is new to the chains is seen for the first time too.
                let Some(before) = before.get(version).copied() else { continue };
                // A process that began anew counts from nothing.
                let before =
                    if sum.requests < before.requests { Measured::default() } else { before };
                let grown = sum.since(&before);
                if grown.requests > 0 {
                    self.untold.entry(version.clone()).or_default().add(&grown);
                }
            }
        }
        self.seen.insert(proxy.clone(), now);
    }

    /// Forgets proxies that are not among these.
    pub fn retain(&mut self, is_there: impl Fn(&InstanceId) -> bool) {
        self.seen.retain(|proxy, _| is_there(proxy));
    }

    /// Returns what is to be told, if anything.
    pub fn untold(&self) -> Vec<RolloutReport> {
        let report = |((service, target), measured): (&(ServiceName, TargetId), &Measured)| {
            let (service, target) = (service.clone(), target.clone());
            RolloutReport { service, target, measured: *measured }
        };
        self.untold.iter().map(report).collect()
    }

    /// Notes that all that was untold has been told.
    pub fn handle_told(&mut self) {
        self.untold.clear();
    }
}

/// Returns both versions of each rollout along a chain, with their names in TLS.
fn versions(chain: &CompiledChain) -> impl Iterator<Item = (&ChainRollout, &TargetId, &str)> {
    let versions = chain.rollouts.iter().flat_map(|it| [(it, &it.stable), (it, &it.canary)]);
    versions.filter_map(|(rollout, id)| {
        let target = chain.targets.get(id)?;
        Some((rollout, id, target.sni.as_str()))
    })
}

/// Adds up the reports of all hosts, at the leader.
#[derive(Debug, Default)]
pub struct Tally {
    sums: BTreeMap<(ServiceName, TargetId), Measured>,
    intervals: BTreeMap<ServiceName, Interval>,
}

/// An interval of a service, and what the sums were when it began.
#[derive(Debug, Default)]
struct Interval {
    begun: Timestamp,
    bases: BTreeMap<TargetId, Measured>,
}

impl Tally {
    /// Takes reports; those of services that are not rolled out are dropped by [`Tally::retain`].
    pub fn handle_reports(&mut self, reports: Vec<RolloutReport>) {
        for report in reports.into_iter().take(REPORTS_MAX) {
            if self.sums.len() < REPORTS_MAX || self.sums.contains_key(&report.key()) {
                self.sums.entry(report.key()).or_default().add(&report.measured);
            }
        }
    }

    /// Notes that an interval of a service began at this moment; one that is known is left alone.
    pub fn handle_interval(&mut self, service: &ServiceName, begun: Timestamp) {
        let known = self.intervals.get(service);
        if known.is_some_and(|interval| interval.begun == begun) {
            return;
        }
        let of_service = self.sums.iter().filter(|((of, _), _)| of == service);
        let bases = of_service.map(|((_, target), sum)| (target.clone(), *sum)).collect();
        self.intervals.insert(service.clone(), Interval { begun, bases });
    }

    /// Returns what was measured of a version in the service's interval. Where this leader has not seen
    /// its beginning, what it has seen.
    pub fn window(&self, service: &ServiceName, target: &TargetId) -> Measured {
        let sum = self.sums.get(&(service.clone(), target.clone())).copied().unwrap_or_default();
        let base = self.intervals.get(service).and_then(|it| it.bases.get(target));
        sum.since(&base.copied().unwrap_or_default())
    }

    /// Forgets services that are not rolled out any more.
    pub fn retain(&mut self, is_rolled_out: impl Fn(&ServiceName) -> bool) {
        self.sums.retain(|(service, _), _| is_rolled_out(service));
        self.intervals.retain(|service, _| is_rolled_out(service));
    }
}

impl RolloutReport {
    fn key(&self) -> (ServiceName, TargetId) {
        (self.service.clone(), self.target.clone())
    }
}

/// Versions of which one report tells, and of which a leader keeps sums: more services are not rolled
/// out at once.
const REPORTS_MAX: usize = 2_000;

/// How long after the end of an interval reports of its last requests may come: agents tell each second.
pub(super) const REPORT_LAG: Duration = Duration::from_secs(1);
