//! The whole replicated state under any commands: what must always hold, and what never may.
//!
//! Two states get the same commands. One of them goes through a snapshot before some of them, as a
//! server does that was away for long.

mod commands;
mod questions;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use weft_core::index::Index;
use weft_core::state::{Answer, Change, Command, SessionCommand, State, StateSnapshot};
use weft_core::time::Timestamp;

/// What is carried out when nothing is.
fn nothing() -> Command {
    let never = "ffffffff-ffff-4fff-8fff-ffffffffffff".parse().expect("an id");
    Command::Session(SessionCommand::Destroy(never))
}

fn bytes(state: &State) -> Vec<u8> {
    rmp_serde::to_vec_named(&state.to_snapshot()).expect("records serialise")
}

fn through_snapshot(state: &State) -> State {
    let snapshot: StateSnapshot = rmp_serde::from_slice(&bytes(state)).expect("a snapshot");
    State::from_snapshot(snapshot)
}

/// Whether a command promised to leave everything as it was. What comes of a restore is no part of
/// what anybody sees, and a join token says of no use that it changed something.
fn leaves_all(command: &Command, answer: &Answer) -> bool {
    match answer {
        Answer::CasMismatch | Answer::Refused(_) | Answer::TxnFailed(_) => true,
        Answer::Done { changed } => !changed && !matches!(command, Command::Restore(_)),
        Answer::Txn(_) => false,
    }
}

/// Carries out steps; each has a command, seconds that pass before it, and whether the second
/// state goes through a snapshot.
fn run(steps: &[(commands::Draft, u64, bool)]) -> Result<(), TestCaseError> {
    let (mut one, mut other) = (State::default(), State::default());
    let mut now = Timestamp(1_000_000);
    let mut seen = questions::ask(&one);
    for (at, (draft, seconds, is_saved)) in steps.iter().enumerate() {
        now.0 += 1000 * seconds;
        let index = Index(at as u64 + 1);
        let command = draft.command(&one, now);
        if *is_saved {
            other = through_snapshot(&other);
        }
        let before = one.clone();
        let outcome = one.apply(index, now, command.clone());
        prop_assert_eq!(&outcome, &other.apply(index, now, command.clone()), "{:?}", command);
        prop_assert!(bytes(&one) == bytes(&other), "the states differ after {command:?}");
        let (answer, changes) = outcome;
        if leaves_all(&command, &answer) {
            let mut idle = before.clone();
            idle.apply(index, now, nothing());
            prop_assert!(bytes(&one) == bytes(&idle), "{command:?} gave {answer:?} and changed");
            prop_assert_eq!(&changes, &Vec::<Change>::new(), "{:?} gave {:?}", command, answer);
        }
        let shown = questions::ask(&one);
        prop_assert_eq!(&shown, &questions::ask(&other), "{:?}", command);
        questions::compare(&seen, &shown, &changes)
            .map_err(|fault| TestCaseError::fail(format!("{command:?}: {fault}")))?;
        seen = shown;
    }
    Ok(())
}

/// Of the cases that `PROPTEST_CASES` asks for one in so many is run, as each is a whole history.
const CASES_SHARE: u32 = 4;

fn any_steps() -> impl Strategy<Value = Vec<(commands::Draft, u64, bool)>> {
    prop::collection::vec((commands::any(), 0..30u64, any::<bool>()), 1..50)
}

#[test]
fn any_commands_give_one_state_that_a_snapshot_keeps() {
    let usual = Config::default();
    let config = Config { cases: usual.cases / CASES_SHARE, failure_persistence: None, ..usual };
    let outcome = TestRunner::new(config).run(&any_steps(), |steps| run(&steps));
    outcome.unwrap_or_else(|fault| panic!("{fault}"));
}

/// What is drawn above is worth little if every command is refused, or none.
#[test]
fn commands_of_every_kind_are_carried_out_and_refused() {
    let mut runner = TestRunner::deterministic();
    let (mut changed, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..480 {
        let steps = any_steps().new_tree(&mut runner).expect("steps").current();
        let mut state = State::default();
        for (at, (draft, _, _)) in steps.iter().enumerate() {
            let now = Timestamp(1_000_000);
            let command = draft.command(&state, now);
            let shown = format!("{command:?}");
            let kind = shown.split(|it: char| !it.is_alphanumeric()).next().unwrap_or_default();
            match state.apply(Index(at as u64 + 1), now, command).0 {
                Answer::Done { changed: true } | Answer::Txn(_) => changed.insert(kind.to_owned()),
                Answer::Done { changed: false } => continue,
                Answer::CasMismatch | Answer::Refused(_) | Answer::TxnFailed(_) => {
                    refused.insert(kind.to_owned())
                }
            };
        }
    }
    let kinds = |names: &str| names.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    // A restore says of no step that it changed something.
    let all = "Acl ActivateCaRoot ChangeCa Coordinate CreateJoinToken DeleteEntry DeleteIntention \
               Deregister DeregisterExternal Event InitCluster Intention Kv Operator Query \
               RedeemJoinToken Register RegisterExternal RevokeJoinToken Rollout Session SetCaRoot \
               SetCaSettings SetLiveness Txn \
               UpsertEntry UpsertIntention";
    assert_eq!(changed, kinds(all));
    let refusable = "Acl ActivateCaRoot ChangeCa Coordinate DeleteEntry DeregisterExternal InitCluster Intention Kv \
                     Operator Query RedeemJoinToken Register RegisterExternal Restore \
                     RevokeJoinToken Rollout Session SetLiveness Txn UpsertEntry";
    assert_eq!(refused, kinds(refusable));
}
