//! How long a service may stay critical before it is deregistered.

use std::time::{Duration, Instant};

use crate::catalog::CheckStatus;

/// Counts the time for which one check has been critical without a break.
#[derive(Debug)]
pub(super) struct Retirement {
    after: Option<Duration>,
    critical_since: Option<Instant>,
}

impl Retirement {
    /// Starts counting for a check that is in `status`.
    pub(super) fn new(after: Option<Duration>, status: CheckStatus, now: Instant) -> Self {
        let mut retirement = Self { after, critical_since: None };
        retirement.handle_status(status, now);
        retirement
    }

    /// Takes note of the check's status.
    pub(super) fn handle_status(&mut self, status: CheckStatus, now: Instant) {
        match status {
            CheckStatus::Critical => {
                self.critical_since.get_or_insert(now);
            }
            CheckStatus::Passing | CheckStatus::Warning => self.critical_since = None,
        }
    }

    /// Returns when the service is due, if nothing changes until then.
    pub(super) fn due_at(&self) -> Option<Instant> {
        Some(self.critical_since? + self.after?)
    }

    /// Says whether the service is due now. Once true, it is so only after a further period.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let due = self.due_at().is_some_and(|at| at <= now);
        if due {
            // Should the deregistration fail, the next period asks for it again.
            self.critical_since = Some(now);
        }
        due
    }
}
