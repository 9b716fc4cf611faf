//! The machine behind a check, whatever its kind.

use std::time::{Duration, Instant};

use weft_core::catalog::CheckStatus;
use weft_core::health::{CheckAction, CheckState, TtlState};
use weft_runtime::entropy;

use super::probe::Finding;
use crate::local::{CheckPlan, Probe};

/// A copied state holds until the next one comes; this is as long as a process can run.
const COPY_HOLDS: Duration = Duration::from_secs(u32::MAX as u64);

/// One check's machine.
pub(super) enum Machine {
    /// Copies what is found elsewhere.
    Alias(TtlState),
    /// Is run again and again.
    Probed(CheckState),
    /// Is reported on.
    Ttl(TtlState),
}

impl Machine {
    /// Starts the machine of a check that stands at `initial`.
    pub(super) fn new(
        plan: &CheckPlan,
        initial: CheckStatus,
        is_eager: bool,
        now: Instant,
    ) -> Self {
        match &plan.probe {
            Probe::Alias(_) => {
                Self::Alias(TtlState::new(plan.ttl_policy(COPY_HOLDS, initial), now))
            }
            Probe::Ttl { ttl } => Self::Ttl(TtlState::new(plan.ttl_policy(*ttl, initial), now)),
            Probe::Docker { .. }
            | Probe::Grpc(_)
            | Probe::H2ping { .. }
            | Probe::Http(_)
            | Probe::OsService { .. }
            | Probe::Script { .. }
            | Probe::Tcp { .. }
            | Probe::Udp { .. } => {
                let policy = weft_core::health::CheckPolicy { is_eager, ..plan.policy(initial) };
                Self::Probed(CheckState::new(policy, now, &mut entropy::rng()))
            }
        }
    }

    /// Whether it is run more often than its interval says.
    pub(super) fn is_hurrying(&self) -> bool {
        match self {
            Self::Probed(state) => state.is_hurrying(),
            Self::Alias(_) | Self::Ttl(_) => false,
        }
    }

    /// Takes what a run, or a look elsewhere, has found.
    pub(super) fn handle_finding(&mut self, finding: Finding, now: Instant) {
        let Finding { status, output } = finding;
        match self {
            Self::Alias(state) => state.handle_report(status, output, now),
            Self::Probed(state) => state.handle_result(status, output, now),
            Self::Ttl(_) => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Probed(state) => state.handle_timeout(now),
            Self::Alias(state) | Self::Ttl(state) => state.handle_timeout(now),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Probed(state) => state.poll_timeout(),
            Self::Alias(state) | Self::Ttl(state) => state.poll_timeout(),
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<CheckAction> {
        match self {
            Self::Probed(state) => state.poll_output(),
            Self::Alias(state) | Self::Ttl(state) => state.poll_output(),
        }
    }
}
