//! What operators set for the cluster as a whole.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Answer, Change, Refusal, State};
use crate::autopilot::AutopilotConfig;
use crate::ca::{Revocation, Revoked};
use crate::identity::{SpiffeId, Workload};
use crate::index::Index;
use crate::limits;

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
    /// Has nobody trust a certificate or an identity any more; replaces what was said of it.
    Revoke(Revocation),
    /// Takes a revocation back.
    Unrevoke {
        /// What was revoked, as [`Revoked::key`] tells it.
        key: String,
    },
}

/// What is set.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OperatorState {
    #[serde(default)]
    autopilot: AutopilotConfig,
    /// By what is revoked.
    #[serde(default)]
    revocations: BTreeMap<String, Revocation>,
}

impl OperatorState {
    /// Makes no record later than `most`.
    pub(super) fn bring_before(&mut self, most: Index) {
        let Self { autopilot, revocations } = self;
        for revocation in revocations.values_mut() {
            revocation.create_index = revocation.create_index.min(most);
        }
        autopilot.create_index = autopilot.create_index.min(most);
        autopilot.modify_index = autopilot.modify_index.min(most);
    }
}

impl OperatorState {
    /// Takes over what was revoked since a snapshot: it is not trusted again by restoring.
    pub(super) fn keep_revocations(&mut self, present: &Self) {
        let kept = present.revocations.iter().map(|(key, it)| (key.clone(), it.clone()));
        self.revocations.extend(kept);
    }
}

impl State {
    /// Returns what is trusted no more, by [`crate::ca::Revoked::key`].
    pub fn revocations(&self) -> &BTreeMap<String, Revocation> {
        &self.operator.revocations
    }

    /// Whether nothing is signed for an identity any more, and nobody listens to it.
    pub fn is_barred(&self, id: &SpiffeId) -> bool {
        let found = self.operator.revocations.get(&id.to_string());
        found.is_some_and(|it| matches!(it.what, Revoked::Identity { issued_before: None, .. }))
    }

    fn revoke(
        &mut self,
        index: Index,
        mut revocation: Revocation,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        let Revocation { what, reason, .. } = &revocation;
        let limit = |field: &str, length: usize, limit: usize| match length > limit {
            true => Err(Refusal::Limit { field: field.to_owned(), length, limit }),
            false => Ok(()),
        };
        limit("Reason", reason.len(), limits::DESCRIPTION_BYTES_MAX)?;
        if let Revoked::Identity { id, .. } = what
            && matches!(id.workload, Workload::Server(_))
        {
            let text = "SPIFFEID: a server is not revoked; remove it with weft operator raft";
            return Err(Refusal::InvalidEntry(text.to_owned()));
        }
        let (key, present) = (what.key(), &self.operator.revocations);
        if !present.contains_key(&key) {
            limit("revocations", present.len() + 1, limits::REVOCATIONS_MAX)?;
        }
        revocation.create_index = index;
        self.operator.revocations.insert(key, revocation);
        self.rows.roots = index;
        changes.insert(Change::Roots);
        Ok(Answer::Done { changed: true })
    }

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
            OperatorCommand::Revoke(revocation) => self.revoke(index, revocation, changes),
            OperatorCommand::Unrevoke { key } => {
                let changed = self.operator.revocations.remove(&key).is_some();
                if changed {
                    self.rows.roots = index;
                    changes.insert(Change::Roots);
                }
                Ok(Answer::Done { changed })
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

    fn revoke(what: Revoked) -> Command {
        let (reason, revoked_at) = ("stolen".to_owned(), Timestamp(7_000));
        let revocation = Revocation { what, reason, revoked_at, create_index: Index(0) };
        Command::Operator(OperatorCommand::Revoke(revocation))
    }

    fn id(path: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://a1.mesh/{path}")).expect("an id")
    }

    #[test]
    fn what_is_revoked_is_in_the_trust_bundle_until_it_is_taken_back() {
        let mut state = State::default();
        let web = id("ns/default/dc/dc1/svc/web");
        let serial = Revoked::Certificate("aa:bb".parse().expect("a number"));
        let some = |before| Revoked::Identity { id: web.clone(), issued_before: before };
        for (at, what) in [(1, serial.clone()), (2, some(Some(Timestamp(9)))), (3, some(None))] {
            let before = state.is_barred(&web);
            let (answer, changes) = state.apply(Index(at), Timestamp(1), revoke(what));
            assert_eq!(answer, Answer::Done { changed: true });
            assert_eq!(changes.into_iter().collect::<Vec<_>>(), [Change::Roots]);
            assert!(!before);
        }
        assert!(state.is_barred(&web) && !state.is_barred(&id("ns/default/dc/dc1/svc/w")));
        let revoked: Vec<&Revoked> = state.revocations().values().map(|it| &it.what).collect();
        assert_eq!(revoked, [&serial, &some(None)], "one of each identity");
        let restored = State::from_snapshot(state.to_snapshot());
        assert_eq!(restored.revocations(), state.revocations());
        let key = web.to_string();
        let back = Command::Operator(OperatorCommand::Unrevoke { key });
        let (answer, _) = state.apply(Index(4), Timestamp(1), back.clone());
        assert_eq!(answer, Answer::Done { changed: true });
        assert!(!state.is_barred(&web));
        let (answer, changes) = state.apply(Index(5), Timestamp(1), back);
        assert_eq!((answer, changes.len()), (Answer::Done { changed: false }, 0));
    }

    #[test]
    fn a_restored_snapshot_takes_back_no_revocation() {
        let mut state = State::default();
        let older = state.clone();
        let serial = Revoked::Certificate("aa:bb".parse().expect("a number"));
        state.apply(Index(5), Timestamp(1), revoke(serial));
        let restored = state.restored(Index(6), older).expect("of the same cluster");
        assert_eq!(restored.revocations(), state.revocations());
    }

    fn write(state: &mut State, command: Command) -> (Answer, Vec<Change>) {
        state.apply(Index(state.index().0 + 1), Timestamp(1), command)
    }

    #[test]
    fn servers_are_not_revoked_and_there_is_a_bound() {
        let mut state = State::default();
        let refused = |state: &mut State, what| match write(state, revoke(what)) {
            (Answer::Refused(refusal), _) => refusal.to_string(),
            (answer, _) => panic!("{answer:?}"),
        };
        let server = id("agent/server/dc/dc1/id/s1");
        let told = refused(&mut state, Revoked::Identity { id: server, issued_before: None });
        assert!(told.starts_with("SPIFFEID: a server is not revoked"), "{told}");
        let serial = |number: usize| format!("5a{number:06x}").parse().expect("a number");
        for number in 0..limits::REVOCATIONS_MAX {
            write(&mut state, revoke(Revoked::Certificate(serial(number))));
        }
        assert_eq!(state.revocations().len(), limits::REVOCATIONS_MAX);
        let more = Revoked::Certificate(serial(limits::REVOCATIONS_MAX));
        assert!(refused(&mut state, more).contains("revocations"));
        // What is there may be written again.
        let (answer, _) = write(&mut state, revoke(Revoked::Certificate(serial(0))));
        assert_eq!(answer, Answer::Done { changed: true });
    }
}
