//! The state of a check that is probed: when to run, and what a row of results comes to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand_core::RngCore;

use super::retire::Retirement;
use super::{CheckAction, cut_output};
use crate::catalog::CheckStatus;

/// How a probed check is run and judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckPolicy {
    /// What it is before the first result counts.
    pub initial: CheckStatus,
    /// The pause between the end of one run and the start of the next.
    pub interval: Duration,
    /// Results in a row that are passing or warning before one counts; 0 is as 1.
    pub success_before_passing: u32,
    /// Failures in a row before the check turns warning; 0 means as for critical.
    pub failures_before_warning: u32,
    /// Failures in a row before the check turns critical; 0 is as 1.
    pub failures_before_critical: u32,
    /// How long it may be critical before its service is deregistered; `None` for ever.
    pub deregister_after: Option<Duration>,
    /// Bytes of output kept.
    pub output_bytes_max: usize,
    /// Whether a check that starts critical is run soon and often at first.
    pub is_eager: bool,
}

/// One probed check.
///
/// **Source**: Consul: docs/services/usage/checks#success-failures-before-passing-warning-critical.
#[derive(Debug)]
pub struct CheckState {
    policy: CheckPolicy,
    status: CheckStatus,
    output: String,
    /// Whether anything was reported: the first result is, even if it is as expected.
    is_reported: bool,
    successes: u32,
    failures: u32,
    /// When the next run starts; `None` while one is under way.
    run_at: Option<Instant>,
    /// Runs that may still follow each other sooner than the interval says.
    eager_runs: u32,
    retirement: Retirement,
    actions: VecDeque<CheckAction>,
}

/// The pause between the first runs of a check that has not passed yet: a process that was
/// registered before it listens is up a moment later.
const EAGER_PAUSE: Duration = Duration::from_secs(1);
/// How many runs come that soon; a service that is down longer waits for its interval.
const EAGER_RUNS: u32 = 10;

impl CheckState {
    /// Starts a check. The first run comes at a moment chosen by `rng`: within the first
    /// interval, so that the checks of a host do not all run at once when its agent starts
    /// again; within the first second for an eager one that starts critical, as a new service
    /// does, so that it is not kept from its callers by the mere length of its interval.
    pub fn new(policy: CheckPolicy, now: Instant, rng: &mut impl RngCore) -> Self {
        let is_eager = policy.is_eager && policy.initial == CheckStatus::Critical;
        let within = if is_eager { policy.interval.min(EAGER_PAUSE) } else { policy.interval };
        let within_ns = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX).max(1);
        let pause = Duration::from_nanos(rng.next_u64() % within_ns);
        let retirement = Retirement::new(policy.deregister_after, policy.initial, now);
        Self {
            status: policy.initial,
            output: String::new(),
            is_reported: false,
            successes: 0,
            failures: 0,
            run_at: Some(now + pause),
            eager_runs: if is_eager { EAGER_RUNS } else { 0 },
            retirement,
            actions: VecDeque::new(),
            policy,
        }
    }

    /// Returns how the check stands.
    pub fn status(&self) -> CheckStatus {
        self.status
    }

    /// Whether runs follow each other sooner than the interval says.
    pub fn is_hurrying(&self) -> bool {
        self.eager_runs > 0
    }

    /// Takes the result of a run that [`CheckAction::Run`] asked for.
    pub fn handle_result(&mut self, result: CheckStatus, output: String, now: Instant) {
        self.eager_runs = match result {
            CheckStatus::Passing | CheckStatus::Warning => 0,
            CheckStatus::Critical => self.eager_runs.saturating_sub(1),
        };
        let pause = match self.eager_runs {
            0 => self.policy.interval,
            _ => self.policy.interval.min(EAGER_PAUSE),
        };
        self.run_at = Some(now + pause);
        let output = cut_output(output, self.policy.output_bytes_max);
        let counted = match result {
            CheckStatus::Passing | CheckStatus::Warning => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                (self.successes >= self.policy.success_before_passing).then_some(result)
            }
            CheckStatus::Critical => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                self.judge_failures()
            }
        };
        if let Some(status) = counted {
            self.set(status, output, now);
        }
    }

    fn judge_failures(&self) -> Option<CheckStatus> {
        let before_critical = self.policy.failures_before_critical;
        let before_warning = match self.policy.failures_before_warning {
            0 => before_critical,
            failures => failures,
        };
        if self.failures >= before_critical {
            Some(CheckStatus::Critical)
        } else if self.failures >= before_warning {
            Some(CheckStatus::Warning)
        } else {
            None
        }
    }

    fn set(&mut self, status: CheckStatus, output: String, now: Instant) {
        self.retirement.handle_status(status, now);
        if !self.is_reported || status != self.status || output != self.output {
            self.is_reported = true;
            self.status = status;
            self.output.clone_from(&output);
            self.actions.push_back(CheckAction::Report { status, output });
        }
    }

    /// Does what is due. A call before [`Self::poll_timeout`]'s moment changes nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.run_at.is_some_and(|at| at <= now) {
            self.run_at = None;
            self.actions.push_back(CheckAction::Run);
        }
        if self.retirement.take_due(now) {
            self.actions.push_back(CheckAction::Deregister);
        }
    }

    /// Returns when to call [`Self::handle_timeout`] next; ask again after each call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.run_at, self.retirement.due_at()].into_iter().flatten().min()
    }

    /// Returns the next thing to do; drain it after each call.
    pub fn poll_output(&mut self) -> Option<CheckAction> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::CheckStatus::{Critical, Passing, Warning};

    /// The moment at which a test's time begins; which one does not matter.
    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    fn beginning() -> Instant {
        Instant::now()
    }

    /// Gives the same number each time.
    struct Always(u64);

    impl RngCore for Always {
        fn next_u32(&mut self) -> u32 {
            self.0 as u32
        }
        fn next_u64(&mut self) -> u64 {
            self.0
        }
        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> CheckPolicy {
        CheckPolicy {
            initial: Critical,
            interval: 10 * SECOND,
            success_before_passing: 0,
            failures_before_warning: 0,
            failures_before_critical: 0,
            deregister_after: None,
            output_bytes_max: 8,
            is_eager: true,
        }
    }

    fn drain(state: &mut CheckState) -> Vec<CheckAction> {
        std::iter::from_fn(|| state.poll_output()).collect()
    }

    /// Feeds results one by one and compares the status after each.
    fn check_row(policy: CheckPolicy, row: &[(CheckStatus, CheckStatus)]) {
        let now = beginning();
        let mut state = CheckState::new(policy.clone(), now, &mut Always(0));
        for (at, (result, expected)) in row.iter().enumerate() {
            state.handle_result(*result, String::new(), now);
            assert_eq!(state.status(), *expected, "after result {at} of {row:?} under {policy:?}");
        }
    }

    #[test]
    fn thresholds_decide_when_a_row_of_results_counts() {
        check_row(policy(), &[(Passing, Passing), (Critical, Critical), (Warning, Warning)]);
        check_row(
            CheckPolicy { success_before_passing: 3, ..policy() },
            &[(Passing, Critical), (Passing, Critical), (Passing, Passing), (Critical, Critical)],
        );
        check_row(
            CheckPolicy { success_before_passing: 2, ..policy() },
            &[(Passing, Critical), (Critical, Critical), (Passing, Critical), (Warning, Warning)],
        );
        check_row(
            CheckPolicy { initial: Passing, failures_before_critical: 3, ..policy() },
            &[(Critical, Passing), (Critical, Passing), (Critical, Critical)],
        );
        check_row(
            CheckPolicy {
                initial: Passing,
                failures_before_warning: 2,
                failures_before_critical: 4,
                ..policy()
            },
            &[
                (Critical, Passing),
                (Critical, Warning),
                (Critical, Warning),
                (Critical, Critical),
                (Passing, Passing),
                (Critical, Passing),
            ],
        );
    }

    #[test]
    fn the_first_run_is_spread_over_the_first_interval_or_second() {
        let now = beginning();
        for (initial, is_eager, random, pause_ms) in [
            (Passing, true, 0, 0),
            (Passing, true, 3_000_000_000, 3_000),
            (Passing, true, 13_000_000_000, 3_000),
            (Critical, true, 300_000_000, 300),
            (Critical, true, 3_300_000_000, 300),
            (Critical, false, 3_300_000_000, 3_300),
        ] {
            let policy = CheckPolicy { initial, is_eager, ..policy() };
            let state = CheckState::new(policy, now, &mut Always(random));
            assert_eq!(state.poll_timeout(), Some(now + Duration::from_millis(pause_ms)));
        }
    }

    #[test]
    fn a_new_check_is_run_often_until_it_passes_or_is_down_for_long() {
        let pauses = |results: &[CheckStatus]| -> Vec<u64> {
            let mut now = beginning();
            let mut state = CheckState::new(policy(), now, &mut Always(0));
            let next = |result: &CheckStatus| {
                state.handle_result(*result, String::new(), now);
                let due = state.poll_timeout().expect("a run follows");
                let pause = due - now;
                now = due;
                pause.as_secs()
            };
            results.iter().map(next).collect()
        };
        assert_eq!(pauses(&[Critical, Critical, Passing, Critical]), [1, 1, 10, 10]);
        assert_eq!(pauses(&[Critical; 11]), [1, 1, 1, 1, 1, 1, 1, 1, 1, 10, 10]);
    }

    #[test]
    fn one_run_is_asked_for_at_a_time_and_the_next_after_an_interval() {
        let now = beginning();
        let mut state = CheckState::new(policy(), now, &mut Always(0));
        state.handle_timeout(now);
        state.handle_timeout(now + 60 * SECOND);
        assert_eq!(drain(&mut state), [CheckAction::Run]);
        assert_eq!(state.poll_timeout(), None);
        state.handle_result(Passing, "ok".into(), now + 61 * SECOND);
        assert_eq!(
            drain(&mut state),
            [CheckAction::Report { status: Passing, output: "ok".into() }]
        );
        assert_eq!(state.poll_timeout(), Some(now + 71 * SECOND));
        state.handle_timeout(now + 70 * SECOND);
        assert_eq!(drain(&mut state), []);
    }

    #[test]
    fn the_same_result_twice_is_reported_once_and_output_is_cut() {
        let now = beginning();
        let mut state = CheckState::new(policy(), now, &mut Always(0));
        state.handle_result(Critical, "0123456789".into(), now);
        state.handle_result(Critical, "0123456789".into(), now);
        assert_eq!(
            drain(&mut state),
            [CheckAction::Report { status: Critical, output: "23456789".into() }]
        );
    }

    #[test]
    fn a_service_critical_for_too_long_is_deregistered() {
        let now = beginning();
        let due = CheckPolicy { deregister_after: Some(60 * SECOND), ..policy() };
        let mut state = CheckState::new(due, now, &mut Always(0));
        state.handle_timeout(now);
        state.handle_result(Critical, String::new(), now + 30 * SECOND);
        state.handle_timeout(now + 59 * SECOND);
        assert!(!drain(&mut state).contains(&CheckAction::Deregister));
        state.handle_timeout(now + 60 * SECOND);
        assert!(drain(&mut state).contains(&CheckAction::Deregister));
        state.handle_result(Passing, String::new(), now + 61 * SECOND);
        state.handle_result(Critical, String::new(), now + 100 * SECOND);
        state.handle_timeout(now + 159 * SECOND);
        assert!(!drain(&mut state).contains(&CheckAction::Deregister));
        state.handle_timeout(now + 160 * SECOND);
        assert!(drain(&mut state).contains(&CheckAction::Deregister));
    }
}
