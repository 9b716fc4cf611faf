//! The state of a check by which an application reports on itself within a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::retire::Retirement;
use super::{CheckAction, cut_output};
use crate::catalog::CheckStatus;

/// How a ttl check is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TtlPolicy {
    /// What it is before the first report.
    pub initial: CheckStatus,
    /// How long a report holds.
    pub ttl: Duration,
    /// How long it may be critical before its service is deregistered; `None` for ever.
    pub deregister_after: Option<Duration>,
    /// Bytes of output kept.
    pub output_bytes_max: usize,
}

/// One ttl check.
///
/// **Source**: Consul: docs/services/usage/checks#ttl-check.
#[derive(Debug)]
pub struct TtlState {
    policy: TtlPolicy,
    status: CheckStatus,
    output: String,
    /// Whether anything was reported: the first result is, even if it is as expected.
    is_reported: bool,
    /// When the last report stops holding; `None` once that was told.
    expires_at: Option<Instant>,
    retirement: Retirement,
    actions: VecDeque<CheckAction>,
}

impl TtlState {
    /// Starts a check; the initial status holds for one time to live.
    pub fn new(policy: TtlPolicy, now: Instant) -> Self {
        let retirement = Retirement::new(policy.deregister_after, policy.initial, now);
        Self {
            status: policy.initial,
            output: String::new(),
            is_reported: false,
            expires_at: Some(now + policy.ttl),
            retirement,
            actions: VecDeque::new(),
            policy,
        }
    }

    /// Returns how the check stands.
    pub fn status(&self) -> CheckStatus {
        self.status
    }

    /// Takes a report of the application.
    pub fn handle_report(&mut self, status: CheckStatus, output: String, now: Instant) {
        self.expires_at = Some(now + self.policy.ttl);
        self.set(status, cut_output(output, self.policy.output_bytes_max), now);
    }

    /// Takes up a report from before a restart that still holds for `remaining`.
    pub fn handle_restored(
        &mut self,
        status: CheckStatus,
        output: String,
        remaining: Duration,
        now: Instant,
    ) {
        self.handle_report(status, output, now);
        self.expires_at = Some(now + remaining.min(self.policy.ttl));
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
        if self.expires_at.is_some_and(|at| at <= now) {
            self.expires_at = None;
            let output = if self.output.is_empty() {
                "TTL expired".to_owned()
            } else {
                format!("TTL expired (last output before timeout follows): {}", self.output)
            };
            self.set(CheckStatus::Critical, output, now);
        }
        if self.retirement.take_due(now) {
            self.actions.push_back(CheckAction::Deregister);
        }
    }

    /// Returns when to call [`Self::handle_timeout`] next; ask again after each call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.expires_at, self.retirement.due_at()].into_iter().flatten().min()
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

    const SECOND: Duration = Duration::from_secs(1);

    fn state(now: Instant) -> TtlState {
        let policy = TtlPolicy {
            initial: Critical,
            ttl: 10 * SECOND,
            deregister_after: Some(60 * SECOND),
            output_bytes_max: 64,
        };
        TtlState::new(policy, now)
    }

    fn drain(state: &mut TtlState) -> Vec<CheckAction> {
        std::iter::from_fn(|| state.poll_output()).collect()
    }

    fn report(status: CheckStatus, output: &str) -> CheckAction {
        CheckAction::Report { status, output: output.to_owned() }
    }

    #[test]
    fn a_report_holds_for_one_time_to_live() {
        let now = beginning();
        let mut state = state(now);
        state.handle_report(Passing, "fine".into(), now);
        assert_eq!(drain(&mut state), [report(Passing, "fine")]);
        state.handle_report(Passing, "fine".into(), now + 5 * SECOND);
        assert_eq!(drain(&mut state), []);
        state.handle_timeout(now + 14 * SECOND);
        assert_eq!(drain(&mut state), []);
        assert_eq!(state.poll_timeout(), Some(now + 15 * SECOND));
        state.handle_timeout(now + 15 * SECOND);
        let expired = "TTL expired (last output before timeout follows): fine";
        assert_eq!(drain(&mut state), [report(Critical, expired)]);
    }

    #[test]
    fn a_check_never_reported_on_expires_once() {
        let now = beginning();
        let mut state = state(now);
        state.handle_timeout(now + 10 * SECOND);
        state.handle_timeout(now + 20 * SECOND);
        assert_eq!(drain(&mut state), [report(Critical, "TTL expired")]);
        assert_eq!(state.poll_timeout(), Some(now + 60 * SECOND));
        state.handle_timeout(now + 60 * SECOND);
        assert_eq!(drain(&mut state), [CheckAction::Deregister]);
    }

    #[test]
    fn a_restored_report_holds_for_what_is_left() {
        let now = beginning();
        let mut state = state(now);
        state.handle_restored(Warning, "slow".into(), 3 * SECOND, now);
        assert_eq!(state.status(), Warning);
        assert_eq!(state.poll_timeout(), Some(now + 3 * SECOND));
        state.handle_restored(Warning, "slow".into(), 300 * SECOND, now);
        assert_eq!(state.poll_timeout(), Some(now + 10 * SECOND));
    }
}
