//! When endpoints are left out: what an entry says, and what is usual for the rest.

use std::time::Duration;

use crate::config_entry::PassiveHealthCheck;

/// Time between two looks, where nothing is said.
///
/// **Source**: Envoy: `OutlierDetection.interval`.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
/// Failures in a row, where nothing is said.
///
/// **Source**: Envoy: `OutlierDetection.consecutive_5xx`, and the like of other failures.
const FAILURES_DEFAULT: u32 = 5;
/// How many may be left out at once, in percent, where nothing is said.
///
/// **Source**: Envoy: `OutlierDetection.max_ejection_percent`.
const EJECTED_PERCENT_DEFAULT: u32 = 10;
/// For how long the first time, and at most however often, where nothing is said.
///
/// **Source**: Envoy: `OutlierDetection.base_ejection_time`, `max_ejection_time`.
const BASE_DEFAULT: Duration = Duration::from_secs(30);
const LONGEST_DEFAULT: Duration = Duration::from_secs(300);
/// For how long the first time where nobody asked for it: as long as a host needs that is started again.
const BASE_UNASKED: Duration = Duration::from_secs(10);
/// Instances with enough requests, and requests, from which on shares say something.
///
/// **Source**: Envoy: `OutlierDetection.success_rate_minimum_hosts`, `…_request_volume`,
/// `failure_percentage_request_volume`.
const HOSTS_DEFAULT: u32 = 5;
const VOLUME_DEFAULT: u32 = 100;
const PERCENTAGE_VOLUME_DEFAULT: u32 = 50;
/// Deviations below the median, in thousandths. Envoy's 1900 is of a deviation that those who fail widen
/// themselves; ours is not, and would leave out every thirtieth by chance.
const DEVIATIONS_DEFAULT: u32 = 3_000;
/// What is smaller is no reason to do without a host, however many requests tell it. In percent.
const GAP_DEFAULT: u32 = 10;
/// The same of time: what a pause of the host's own may take.
const LATENCY_GAP_DEFAULT: Duration = Duration::from_millis(10);
/// Below which share of instances that are left all are called again, in percent.
///
/// **Source**: Envoy: `CommonLbConfig.healthy_panic_threshold`.
const PANIC_PERCENT_DEFAULT: u32 = 50;

/// When endpoints are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierRules {
    pub(super) interval: Duration,
    /// In a row, by [`super::Failure`]; `None` for any number.
    pub(super) in_a_row: [Option<u32>; 3],
    pub(super) enforcing_percent: u32,
    pub(super) ejected_percent_max: u32,
    pub(super) base: Duration,
    pub(super) longest: Duration,
    pub(super) success: Option<SuccessRule>,
    pub(super) failure: Option<FailureRule>,
    pub(super) latency: Option<LatencyRule>,
    pub(super) panic_percent: u32,
}

/// Who answers well far less often than others.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SuccessRule {
    pub(super) hosts_min: usize,
    pub(super) volume_min: u32,
    pub(super) deviations: f64,
    pub(super) gap: f64,
    pub(super) enforcing_percent: u32,
}

/// Whose share of failures is above this.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FailureRule {
    pub(super) hosts_min: usize,
    pub(super) volume_min: u32,
    pub(super) share: f64,
}

/// Whose answers take far longer than those of others.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LatencyRule {
    pub(super) hosts_min: usize,
    pub(super) volume_min: u32,
    pub(super) factor: f64,
    pub(super) gap_us: f64,
}

impl OutlierRules {
    /// Takes what is said, and what is usual for the rest. Without an entry only those are left out that cannot be
    /// reached, or give no answer at all: whatever the service does, they are of no use to the caller.
    pub fn new(check: Option<&PassiveHealthCheck>) -> Self {
        let Some(check) = check else {
            return Self {
                base: BASE_UNASKED,
                in_a_row: [None, None, Some(FAILURES_DEFAULT)],
                success: None,
                ..Self::new(Some(&PassiveHealthCheck::default()))
            };
        };
        let or = |time: Duration, usual| if time.is_zero() { usual } else { time };
        let failures = if check.max_failures == 0 { FAILURES_DEFAULT } else { check.max_failures };
        let row = |said: Option<u32>| Some(said.unwrap_or(failures)).filter(|count| *count > 0);
        let base = or(check.base_ejection_time.unwrap_or_default().0, BASE_DEFAULT);
        let longest = or(check.max_ejection_time.unwrap_or_default().0, LONGEST_DEFAULT);
        let count = |said: Option<u32>, usual| said.filter(|count| *count > 0).unwrap_or(usual);
        let hosts = |said| count(said, HOSTS_DEFAULT) as usize;
        let volume_min = count(check.success_rate_request_volume, VOLUME_DEFAULT);
        let hosts_min = hosts(check.success_rate_minimum_hosts);
        let percent = |said: u32| f64::from(said) / 100.0;
        let thousandths = |said: u32| f64::from(said) / 1_000.0;
        let success = SuccessRule {
            hosts_min,
            volume_min,
            deviations: thousandths(count(check.success_rate_stdev_factor, DEVIATIONS_DEFAULT)),
            gap: percent(check.success_rate_minimum_gap.unwrap_or(GAP_DEFAULT)),
            enforcing_percent: check.enforcing_success_rate.unwrap_or(100),
        };
        let failure = |threshold| FailureRule {
            hosts_min: hosts(check.failure_percentage_minimum_hosts),
            volume_min: count(check.failure_percentage_request_volume, PERCENTAGE_VOLUME_DEFAULT),
            share: percent(threshold),
        };
        let gap = or(check.latency_minimum_gap.unwrap_or_default().0, LATENCY_GAP_DEFAULT);
        let latency = |factor| LatencyRule {
            hosts_min,
            volume_min,
            factor: thousandths(factor),
            gap_us: gap.as_micros() as f64,
        };
        Self {
            interval: or(check.interval.0, INTERVAL_DEFAULT),
            in_a_row: [
                Some(failures),
                row(check.consecutive_gateway_failure),
                row(check.consecutive_local_origin_failure),
            ],
            enforcing_percent: check.enforcing_consecutive_5xx.unwrap_or(100),
            ejected_percent_max: check.max_ejection_percent.unwrap_or(EJECTED_PERCENT_DEFAULT),
            base,
            longest: longest.max(base),
            success: Some(success).filter(|rule| rule.enforcing_percent > 0),
            failure: check.failure_percentage_threshold.filter(|it| *it > 0).map(failure),
            latency: check.latency_factor.filter(|it| *it > 0).map(latency),
            panic_percent: check.panic_threshold.unwrap_or(PANIC_PERCENT_DEFAULT),
        }
    }

    /// Whether somebody is to count requests and failures between two looks.
    pub fn wants_windows(&self) -> bool {
        self.success.is_some() || self.failure.is_some() || self.latency.is_some()
    }

    /// Whether somebody is to measure how long answers take.
    pub fn wants_latency(&self) -> bool {
        self.latency.is_some()
    }

    /// Whether errors of a service that answers are failures, beside no answer.
    pub fn wants_errors(&self) -> bool {
        self.in_a_row[0].is_some() || self.in_a_row[1].is_some() || self.wants_windows()
    }
}
