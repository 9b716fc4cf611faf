//! What endpoints did since the last look, compared with each other by the median: unlike the mean and its
//! deviation it stays where it is when several fail at once.

use super::Cause;
use super::rules::{FailureRule, LatencyRule, OutlierRules, SuccessRule};

/// What one endpoint did since the last look.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Requests that ended.
    pub requests: u32,
    /// Those of them that failed.
    pub failures: u32,
    /// Answers whose time was measured.
    pub timed: u32,
    /// How long they took together.
    ///
    /// **Units**: microseconds.
    pub timed_us: u64,
}

/// How far the median of deviations is from the standard deviation, where chance is normal.
///
/// **Source**: Rousseeuw, Croux: Alternatives to the Median Absolute Deviation, 1993.
const MAD_SCALE: f64 = 1.4826;

/// Returns the endpoints that stand out, the worst first, and the chance in percent that each is left out.
/// `None` stands for those that do not count.
pub(super) fn outliers(
    rules: &OutlierRules,
    windows: &[Option<Window>],
) -> Vec<(usize, Cause, u32)> {
    let mut found = Vec::new();
    if let Some(rule) = &rules.failure {
        found.extend(by_failures(rule, windows).map(|at| (at, Cause::FailurePercentage, 100)));
    }
    if let Some(rule) = &rules.success {
        let bad = by_success(rule, windows).into_iter();
        found.extend(bad.map(|at| (at, Cause::SuccessRate, rule.enforcing_percent)));
    }
    let share = |at: &usize| windows[*at].map_or(0.0, |window| failed(&window));
    found.sort_by(|(a, ..), (b, ..)| share(b).total_cmp(&share(a)).then(a.cmp(b)));
    if let Some(rule) = &rules.latency {
        found.extend(by_latency(rule, windows).into_iter().map(|at| (at, Cause::Latency, 100)));
    }
    found
}

fn failed(window: &Window) -> f64 {
    f64::from(window.failures) / f64::from(window.requests.max(1))
}

/// The windows with so many requests, by the number of their endpoint.
fn busy(
    windows: &[Option<Window>],
    volume_min: u32,
    count: impl Fn(&Window) -> u32,
) -> Vec<(usize, Window)> {
    let windows = windows.iter().enumerate();
    let busy = windows.filter_map(|(at, window)| Some((at, (*window)?)));
    busy.filter(|(_, window)| count(window) >= volume_min.max(1)).collect()
}

fn by_failures(
    rule: &FailureRule,
    windows: &[Option<Window>],
) -> impl Iterator<Item = usize> + use<> {
    let busy = busy(windows, rule.volume_min, |window| window.requests);
    let (share, is_enough) = (rule.share, busy.len() >= rule.hosts_min);
    let bad = busy.into_iter().filter(move |(_, window)| is_enough && failed(window) >= share);
    bad.map(|(at, _)| at)
}

/// Those whose share of good answers is below the median of all by as much as the rule says, in deviations: those
/// of the others, and at least those of chance.
fn by_success(rule: &SuccessRule, windows: &[Option<Window>]) -> Vec<usize> {
    let busy = busy(windows, rule.volume_min, |window| window.requests);
    let (true, Some(usual)) =
        (busy.len() >= rule.hosts_min, median(busy.iter().map(|(_, it)| failed(it))))
    else {
        return Vec::new();
    };
    let deviation = median(busy.iter().map(|(_, it)| (failed(it) - usual).abs()));
    let deviation = MAD_SCALE * deviation.unwrap_or_default();
    let is_bad = |window: &Window| {
        let chance = (usual * (1.0 - usual) / f64::from(window.requests)).sqrt();
        let most = rule.gap.max(rule.deviations * deviation.max(chance));
        failed(window) > usual + most
    };
    busy.iter().filter(|(_, window)| is_bad(window)).map(|(at, _)| *at).collect()
}

/// Those whose answers take so many times as long as the median of all, the slowest first.
fn by_latency(rule: &LatencyRule, windows: &[Option<Window>]) -> Vec<usize> {
    let busy = busy(windows, rule.volume_min, |window| window.timed);
    let mean = |window: &Window| window.timed_us as f64 / f64::from(window.timed.max(1));
    let (true, Some(usual)) =
        (busy.len() >= rule.hosts_min, median(busy.iter().map(|(_, it)| mean(it))))
    else {
        return Vec::new();
    };
    let most = (usual * rule.factor).max(usual + rule.gap_us);
    let slow = busy.iter().map(|(at, window)| (*at, mean(window)));
    let mut slow: Vec<_> = slow.filter(|(_, mean)| *mean > most).collect();
    slow.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    slow.into_iter().map(|(at, _)| at).collect()
}

/// The middle one, or the mean of both; `None` of nothing.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (upper, lower) = (values.get(values.len() / 2)?, values.get((values.len() - 1) / 2)?);
    Some((upper + lower) / 2.0)
}
