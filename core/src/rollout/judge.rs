//! What the leader does next for a rollout.

use super::gate::{GateVerdict, check};
use super::measured::{Measured, REPORT_LAG};
use crate::config_entry::{Rollout, RolloutPhase, RolloutStatus, Weight};
use crate::limits;
use crate::time::Timestamp;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// To ask those who must agree to the start, and then to begin the first step.
    Start,
    /// To judge what was measured.
    Judge,
    /// Nothing before this moment.
    At(Timestamp),
    /// Nothing until somebody writes something.
    Nothing,
}

/// What follows from what was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It goes on as it stands.
    Stay,
    /// The gates hold. Those who are asked each interval have a say in it; when they agree it stands so.
    Pass(Box<RolloutStatus>),
    /// It stands so now.
    Stand(Box<RolloutStatus>),
}

/// Says what is due.
pub fn due(rollout: &Rollout, now: Timestamp) -> Due {
    let status = &rollout.status;
    // The first question is asked at once, and one that was not answered well an interval later.
    let is_new = status.measured_since == Timestamp::default();
    let end = status.measured_since.saturating_add(rollout.interval());
    match status.phase {
        RolloutPhase::Pending if is_new || now >= end => Due::Start,
        RolloutPhase::Pending => Due::At(end),
        RolloutPhase::Progressing | RolloutPhase::Waiting => {
            let judged = end.saturating_add(REPORT_LAG);
            if now >= judged { Due::Judge } else { Due::At(judged) }
        }
        RolloutPhase::Paused
        | RolloutPhase::Promoted
        | RolloutPhase::RolledBack
        | RolloutPhase::Aborted => Due::Nothing,
    }
}

/// Returns the first step, begun.
pub fn started(now: Timestamp) -> RolloutStatus {
    begun(RolloutPhase::Progressing, 0, now, "the first step has begun".to_owned())
}

/// Returns where a rollout stands when somebody who is asked did not agree.
pub fn held_up(rollout: &Rollout, now: Timestamp, reason: &str) -> RolloutStatus {
    RolloutStatus { measured_since: now, reason: cut(reason), ..rollout.status.clone() }
}

/// Returns the end, once all agree to it.
fn promote(status: &RolloutStatus, now: Timestamp) -> RolloutStatus {
    let reason = "every step has passed".to_owned();
    RolloutStatus {
        canary: status.canary,
        stable: status.stable,
        ..begun(RolloutPhase::Promoted, status.step, now, reason)
    }
}

/// Judges an interval. `hooks` is what those who are asked in it say, `None` before they are asked.
pub fn judge(
    rollout: &Rollout,
    now: Timestamp,
    (stable, canary): (&Measured, &Measured),
    hooks: Option<Result<(), String>>,
) -> Judgement {
    let status = &rollout.status;
    let (stable, canary) = (stable.measure(), canary.measure());
    let share = rollout.share();
    let gets_nothing = share.weight == Weight::default()
        && share.mirror == Weight::default()
        && share.header.is_none();
    let verdict = match gets_nothing {
        true => GateVerdict::Passed,
        false => check(&rollout.gates, &canary, &stable),
    };
    let (canary, stable) = (Some(canary), Some(stable));
    let measured = |status: RolloutStatus| RolloutStatus { canary, stable, ..status };
    let reason = match (verdict, hooks) {
        (GateVerdict::TooFew, _) => {
            let min = rollout.gates.min_requests();
            let reason = format!("waits for {min} requests to the new version in one interval");
            if status.reason == reason {
                return Judgement::Stay;
            }
            return Judgement::Stand(Box::new(RolloutStatus { reason, ..status.clone() }));
        }
        (GateVerdict::Failed(reason), _) | (GateVerdict::Passed, Some(Err(reason))) => reason,
        (GateVerdict::Passed, hooks) => {
            let passed = Box::new(measured(passed(rollout, now)));
            return match hooks {
                Some(_) => Judgement::Stand(passed),
                None => Judgement::Pass(passed),
            };
        }
    };
    let failures = status.failures + 1;
    let (max, reason) = (rollout.max_failures(), cut(&reason));
    Judgement::Stand(Box::new(measured(match failures >= max {
        true => {
            RolloutStatus { failures, ..begun(RolloutPhase::RolledBack, status.step, now, reason) }
        }
        false => RolloutStatus {
            failures,
            measured_since: now,
            reason: cut(&format!("failed {failures} of {max} times in a row: {reason}")),
            ..status.clone()
        },
    })))
}

/// Returns where a rollout stands after an interval that passed. At its end the phase is
/// [`RolloutPhase::Promoted`], to which others may have to agree.
fn passed(rollout: &Rollout, now: Timestamp) -> RolloutStatus {
    let status = &rollout.status;
    let stay = |phase, reason: &str| RolloutStatus {
        phase,
        failures: 0,
        measured_since: now,
        reason: reason.to_owned(),
        ..status.clone()
    };
    let step = rollout.steps.get(status.step as usize);
    let is_over =
        step.is_none_or(|step| now >= status.since.saturating_add(rollout.duration(step)));
    let next = status.step + 1;
    let is_manual = step.is_some_and(|step| step.manual);
    if status.phase == RolloutPhase::Waiting || is_over && is_manual {
        stay(RolloutPhase::Waiting, "waits for somebody to promote it")
    } else if !is_over {
        stay(RolloutPhase::Progressing, "the interval passed")
    } else if (next as usize) < rollout.steps.len() {
        begun(RolloutPhase::Progressing, next, now, "the step before has passed".to_owned())
    } else {
        promote(status, now)
    }
}

fn begun(phase: RolloutPhase, step: u32, now: Timestamp, reason: String) -> RolloutStatus {
    let (since, measured_since) = (now, now);
    RolloutStatus { phase, step, since, measured_since, reason, ..RolloutStatus::default() }
}

fn cut(reason: &str) -> String {
    let mut end = reason.len().min(limits::ROLLOUT_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}
