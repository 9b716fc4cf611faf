//! Writes of a rollout's progress: what operators say, and what the leader has judged.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Answer, Change, Refusal, State};
use crate::config_entry::{ConfigEntry, EntryKey, EntryKind, Rollout, RolloutPhase, RolloutStatus};
use crate::index::Index;
use crate::name::ServiceName;
use crate::time::Timestamp;

/// A write of a rollout's progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutCommand {
    /// The service.
    pub service: ServiceName,
    /// What is done.
    pub act: RolloutAct,
}

/// What is done to a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RolloutAct {
    /// The next state of it as the leader has judged; nothing is done when it stands elsewhere by now.
    Judge {
        /// Where it stood.
        from: Box<RolloutStatus>,
        /// Where it stands from now on.
        to: Box<RolloutStatus>,
    },
    /// What an operator has said.
    Signal(RolloutSignal),
}

/// What an operator says to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutSignal {
    /// Ends it: the stable version has everything.
    Abort,
    /// Stops it where it is.
    Pause,
    /// Goes on with the next step.
    Promote,
    /// Goes to the end: the new version has everything.
    PromoteFull,
    /// Goes on where it was stopped.
    Resume,
    /// Begins anew.
    Restart,
}

impl RolloutSignal {
    /// Every signal.
    pub const ALL: [Self; 6] =
        [Self::Abort, Self::Pause, Self::Promote, Self::PromoteFull, Self::Resume, Self::Restart];

    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Pause => "pause",
            Self::Promote => "promote",
            Self::PromoteFull => "promote-full",
            Self::Resume => "resume",
            Self::Restart => "restart",
        }
    }
}

impl State {
    /// Returns all rollouts, by service.
    pub fn rollouts(&self) -> impl Iterator<Item = &Rollout> {
        self.entries.values().filter_map(|entry| entry.as_rollout())
    }

    /// Returns the rollout of a service.
    pub fn rollout(&self, service: &ServiceName) -> Option<&Rollout> {
        let key = EntryKey::new(EntryKind::Rollout, service.as_str());
        self.entries.get(&key)?.as_rollout()
    }

    pub(super) fn apply_rollout(
        &mut self,
        (index, now): (Index, Timestamp),
        command: RolloutCommand,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        let present = self.rollout(&command.service).cloned();
        match command.act {
            RolloutAct::Judge { from, to } => {
                let Some(present) = present.filter(|present| present.status == *from) else {
                    return Ok(Answer::CasMismatch);
                };
                self.write_status(index, present, *to, changes)
            }
            RolloutAct::Signal(signal) => {
                let Some(present) = present else {
                    return Err(Refusal::UnknownRollout { service: command.service });
                };
                let status = signalled(&present, signal, now).map_err(|reason| {
                    Refusal::RolloutSignal { service: command.service, reason }
                })?;
                self.write_status(index, present, status, changes)
            }
        }
    }

    fn write_status(
        &mut self,
        index: Index,
        present: Rollout,
        status: RolloutStatus,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        self.replace_entry(index, ConfigEntry::Rollout(Rollout { status, ..present }), changes)
    }
}

/// Gives a rollout that is written the progress of the one that is there, where it goes the same way.
pub(super) fn with_progress(entry: ConfigEntry, present: Option<&ConfigEntry>) -> ConfigEntry {
    let ConfigEntry::Rollout(mut entry) = entry else { return entry };
    let present = present.and_then(ConfigEntry::as_rollout);
    let status = present.filter(|present| present.goes_the_way_of(&entry));
    entry.status = status.map(|present| present.status.clone()).unwrap_or_default();
    ConfigEntry::Rollout(entry)
}

/// Returns where a rollout stands after a signal.
fn signalled(
    rollout: &Rollout,
    signal: RolloutSignal,
    now: Timestamp,
) -> Result<RolloutStatus, String> {
    let status = &rollout.status;
    let begun = |phase, step, reason: &str| RolloutStatus {
        phase,
        step,
        since: now,
        measured_since: now,
        reason: reason.to_owned(),
        ..RolloutStatus::default()
    };
    let is = |word: &str| Err(format!("it is {}, and so cannot be {word}", status.phase));
    match (signal, status.phase) {
        (RolloutSignal::Restart, _) => Ok(begun(RolloutPhase::Pending, 0, "begun anew by hand")),
        (RolloutSignal::Abort, phase) if !phase.is_over() => {
            Ok(begun(RolloutPhase::Aborted, status.step, "ended by hand"))
        }
        (RolloutSignal::Abort, _) => is("ended; write another version to the entry, or restart it"),
        (RolloutSignal::PromoteFull, RolloutPhase::Promoted) => is("promoted"),
        (RolloutSignal::PromoteFull, _) => {
            Ok(begun(RolloutPhase::Promoted, last_step(rollout), "promoted by hand"))
        }
        (
            RolloutSignal::Promote,
            RolloutPhase::Progressing | RolloutPhase::Waiting | RolloutPhase::Paused,
        ) => Ok(match status.step + 1 {
            next if (next as usize) < rollout.steps.len() => {
                begun(RolloutPhase::Progressing, next, "promoted by hand")
            }
            _ => begun(RolloutPhase::Promoted, status.step, "promoted by hand"),
        }),
        (RolloutSignal::Promote, _) => is("promoted by a step"),
        (RolloutSignal::Pause, RolloutPhase::Paused) => is("paused"),
        (RolloutSignal::Pause, phase) if !phase.is_over() => Ok(RolloutStatus {
            phase: RolloutPhase::Paused,
            reason: "paused by hand".to_owned(),
            ..status.clone()
        }),
        (RolloutSignal::Pause, _) => is("paused"),
        // The step's time begins anew: what went on meanwhile was not judged.
        (RolloutSignal::Resume, RolloutPhase::Paused) => {
            Ok(begun(RolloutPhase::Progressing, status.step, "resumed by hand"))
        }
        (RolloutSignal::Resume, _) => is("resumed"),
    }
}

fn last_step(rollout: &Rollout) -> u32 {
    u32::try_from(rollout.steps.len().saturating_sub(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_entry::RolloutStep;

    fn rollout(phase: RolloutPhase, step: u32) -> Rollout {
        Rollout {
            name: ServiceName::parse("web").expect("a name"),
            stable: "v1".to_owned(),
            canary: "v2".to_owned(),
            steps: vec![RolloutStep::default(), RolloutStep::default()],
            step_weight: Default::default(),
            max_weight: Default::default(),
            sticky: None,
            interval: Default::default(),
            gates: Default::default(),
            max_failures: 0,
            webhooks: Vec::new(),
            meta: Default::default(),
            create_index: Index::default(),
            modify_index: Index::default(),
            status: RolloutStatus { phase, step, failures: 1, ..RolloutStatus::default() },
        }
    }

    #[test]
    fn a_signal_leads_on_from_where_it_makes_sense_and_is_refused_elsewhere() {
        use RolloutPhase::{Aborted, Paused, Pending, Progressing, Promoted, RolledBack, Waiting};
        let now = Timestamp(5);
        for (signal, phase, step, expected) in [
            (RolloutSignal::Abort, Progressing, 1, Some((Aborted, 1))),
            (RolloutSignal::Abort, Promoted, 1, None),
            (RolloutSignal::Pause, Pending, 0, Some((Paused, 0))),
            (RolloutSignal::Pause, Paused, 0, None),
            (RolloutSignal::Pause, RolledBack, 0, None),
            (RolloutSignal::Promote, Waiting, 0, Some((Progressing, 1))),
            (RolloutSignal::Promote, Progressing, 1, Some((Promoted, 1))),
            (RolloutSignal::Promote, Pending, 0, None),
            (RolloutSignal::PromoteFull, Pending, 0, Some((Promoted, 1))),
            (RolloutSignal::PromoteFull, RolledBack, 0, Some((Promoted, 1))),
            (RolloutSignal::PromoteFull, Promoted, 1, None),
            (RolloutSignal::Resume, Paused, 1, Some((Progressing, 1))),
            (RolloutSignal::Resume, Progressing, 1, None),
            (RolloutSignal::Restart, RolledBack, 1, Some((Pending, 0))),
        ] {
            let found = signalled(&rollout(phase, step), signal, now).ok();
            let found = found.map(|status| (status.phase, status.step));
            assert_eq!(found, expected, "{signal:?} {phase}");
        }
        let told = signalled(&rollout(Promoted, 1), RolloutSignal::Pause, now).expect_err("over");
        assert_eq!(told, "it is promoted, and so cannot be paused");
    }

    #[test]
    fn what_was_paused_keeps_its_step_and_begins_its_time_anew() {
        let paused =
            signalled(&rollout(RolloutPhase::Progressing, 1), RolloutSignal::Pause, Timestamp(9));
        let paused = paused.expect("under way");
        assert_eq!((paused.step, paused.failures), (1, 1));
        let rollout = Rollout { status: paused, ..rollout(RolloutPhase::Pending, 0) };
        let status = signalled(&rollout, RolloutSignal::Resume, Timestamp(9)).expect("paused");
        assert_eq!((status.step, status.failures, status.since), (1, 0, Timestamp(9)));
    }
}
