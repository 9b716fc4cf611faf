//! What operators set for the cluster as a whole.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Answer, Change, Refusal, State};
use crate::autopilot::AutopilotConfig;
use crate::index::Index;

/// A write of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorCommand {
    /// Replaces the settings of autopilot.
    SetAutopilot {
        /// The settings; their indexes are ignored.
        config: AutopilotConfig,
        /// The modify index that the present settings must have; `None` writes whatever is
        /// there.
        cas: Option<Index>,
    },
}

/// What is set.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OperatorState {
    #[serde(default)]
    autopilot: AutopilotConfig,
}

impl OperatorState {
    /// Makes no record later than `most`.
    pub(super) fn bring_before(&mut self, most: Index) {
        let Self { autopilot } = self;
        autopilot.create_index = autopilot.create_index.min(most);
        autopilot.modify_index = autopilot.modify_index.min(most);
    }
}

impl State {
    /// Returns the settings of autopilot, the defaults when none were written.
    pub fn autopilot(&self) -> &AutopilotConfig {
        &self.operator.autopilot
    }

    pub(super) fn operate(
        &mut self,
        index: Index,
        command: OperatorCommand,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        match command {
            OperatorCommand::SetAutopilot { mut config, cas } => {
                config.check().map_err(|fault| Refusal::InvalidEntry(fault.to_string()))?;
                let present = &self.operator.autopilot;
                if cas.is_some_and(|cas| cas != present.modify_index) {
                    return Ok(Answer::CasMismatch);
                }
                config.create_index = match present.create_index {
                    Index(0) => index,
                    created => created,
                };
                config.modify_index = present.modify_index;
                if *present == config {
                    return Ok(Answer::Done { changed: false });
                }
                config.modify_index = index;
                self.operator.autopilot = config;
                changes.insert(Change::Operator);
                Ok(Answer::Done { changed: true })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Command;
    use crate::time::Timestamp;

    fn set(config: AutopilotConfig, cas: Option<u64>) -> Command {
        let cas = cas.map(Index);
        Command::Operator(OperatorCommand::SetAutopilot { config, cas })
    }

    #[test]
    fn settings_are_replaced_by_compare_and_set_and_outlive_a_snapshot() {
        let mut state = State::default();
        let less = AutopilotConfig { min_quorum: 3, ..AutopilotConfig::default() };
        let (answer, _) = state.apply(Index(5), Timestamp(1), set(less.clone(), Some(4)));
        assert_eq!(answer, Answer::CasMismatch);
        let (answer, changes) = state.apply(Index(6), Timestamp(1), set(less.clone(), Some(0)));
        assert_eq!((answer, changes.len()), (Answer::Done { changed: true }, 1));
        let written =
            AutopilotConfig { create_index: Index(6), modify_index: Index(6), ..less.clone() };
        assert_eq!(*state.autopilot(), written);
        // The same again is no change.
        let (answer, changes) = state.apply(Index(7), Timestamp(1), set(less, None));
        assert_eq!((answer, changes.len()), (Answer::Done { changed: false }, 0));
        let state = State::from_snapshot(state.to_snapshot());
        assert_eq!(*state.autopilot(), written);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let mut state = State::default();
        let wrong = AutopilotConfig { min_quorum: 100, ..AutopilotConfig::default() };
        let (answer, _) = state.apply(Index(5), Timestamp(1), set(wrong, None));
        let Answer::Refused(refusal) = answer else { panic!("{answer:?}") };
        assert!(refusal.to_string().starts_with("MinQuorum: "), "{refusal}");
    }
}
