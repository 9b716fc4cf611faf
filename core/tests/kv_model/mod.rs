//! The store as a sorted map and nothing else, to compare with.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weft_core::index::Index;
use weft_core::kv::KvKey;
use weft_core::state::{Answer, Command, State, StateSnapshot};
use weft_core::time::Timestamp;

use super::{command, key, session};

/// One entry of the model: value, flags, session, lock index, created, modified.
type Entry = (String, u64, Option<u8>, u64, u64, u64);

/// Sessions have no delay here, so that no time is involved.
#[derive(Default)]
struct Model {
    entries: BTreeMap<String, Entry>,
    /// By number: whether its entries are removed with it.
    sessions: BTreeMap<u8, bool>,
    is_registered: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Put { key: String, value: u8, flags: u64, condition: Condition },
    Delete { key: String, cas: Option<u64> },
    DeleteTree(String),
    Register(bool),
    Session(u8, bool),
    Destroy(u8),
}

#[derive(Debug, Clone)]
enum Condition {
    Always,
    Cas(u64),
    /// Whatever the entry has now.
    CasRight,
    Acquire(u8),
    Release(u8),
}

fn any_key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a/", "a/b", "a/b/c", "ab", "b", "é"]).prop_map(str::to_owned)
}

fn any_step() -> impl Strategy<Value = Step> {
    let condition = prop_oneof![
        4 => Just(Condition::Always),
        1 => (0..12u64).prop_map(Condition::Cas),
        3 => Just(Condition::CasRight),
        4 => (0..3u8).prop_map(Condition::Acquire),
        2 => (0..3u8).prop_map(Condition::Release),
    ];
    prop_oneof![
        10 => (any_key(), 0..3u8, 0..2u64, condition).prop_map(|(key, value, flags, condition)| {
            Step::Put { key, value, flags, condition }
        }),
        3 => (any_key(), prop::option::of(0..12u64)).prop_map(|(key, cas)| Step::Delete { key, cas }),
        1 => prop::sample::select(vec!["", "a", "a/", "a/b", "x"])
            .prop_map(|prefix| Step::DeleteTree(prefix.to_owned())),
        1 => prop::bool::weighted(0.8).prop_map(Step::Register),
        3 => (0..3u8, any::<bool>()).prop_map(|(number, delete)| Step::Session(number, delete)),
        1 => (0..3u8).prop_map(Step::Destroy),
    ]
}

impl Model {
    /// Carries out a step; `None` for a refusal, else whether the condition held.
    fn step(&mut self, index: u64, step: &Step) -> Option<bool> {
        match step {
            Step::Put { key, value, flags, condition } => {
                self.put(index, key, (value.to_string(), *flags), condition)
            }
            Step::Delete { key, cas } => {
                let modified = self.entries.get(key).map(|entry| entry.5);
                let holds = modified.is_none() || cas.is_none() || modified == *cas;
                if holds {
                    self.entries.remove(key);
                }
                Some(holds)
            }
            Step::DeleteTree(prefix) => {
                self.entries.retain(|key, _| !key.starts_with(prefix));
                Some(true)
            }
            Step::Register(true) => {
                self.is_registered = true;
                Some(true)
            }
            Step::Register(false) => {
                self.is_registered = false;
                for number in 0..3 {
                    self.end(index, number);
                }
                Some(true)
            }
            Step::Session(number, delete) => {
                if !self.sessions.contains_key(number) {
                    if !self.is_registered {
                        return None;
                    }
                    self.sessions.insert(*number, *delete);
                }
                Some(true)
            }
            Step::Destroy(number) => {
                self.end(index, *number);
                Some(true)
            }
        }
    }

    fn put(
        &mut self,
        index: u64,
        key: &str,
        (value, flags): (String, u64),
        condition: &Condition,
    ) -> Option<bool> {
        let present = self.entries.get(key).cloned();
        let modified = present.as_ref().map_or(0, |entry| entry.5);
        let (mut holder, mut count) = present.as_ref().map_or((None, 0), |it| (it.2, it.3));
        match condition {
            Condition::Always | Condition::CasRight => {}
            Condition::Cas(cas) if *cas == modified => {}
            Condition::Cas(_) => return Some(false),
            Condition::Acquire(number) => {
                if !self.sessions.contains_key(number) {
                    return None;
                }
                match holder {
                    None => (holder, count) = (Some(*number), count + 1),
                    Some(it) if it == *number => {}
                    Some(_) => return Some(false),
                }
            }
            Condition::Release(number) if holder == Some(*number) => holder = None,
            Condition::Release(_) => return Some(false),
        }
        let created = present.as_ref().map_or(index, |entry| entry.4);
        let mut entry = (value, flags, holder, count, created, modified);
        if present.as_ref() != Some(&entry) {
            entry.5 = index;
        }
        self.entries.insert(key.to_owned(), entry);
        Some(true)
    }

    fn end(&mut self, index: u64, number: u8) {
        let Some(delete) = self.sessions.remove(&number) else { return };
        let held: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.2 == Some(number))
            .map(|(key, _)| key.clone())
            .collect();
        for key in held {
            if delete {
                self.entries.remove(&key);
            } else if let Some(entry) = self.entries.get_mut(&key) {
                (entry.2, entry.5) = (None, index);
            }
        }
    }
}

fn line(step: &Step, model: &Model) -> String {
    match step {
        Step::Put { key, value, flags, condition } => {
            let modified = model.entries.get(key).map_or(0, |entry| entry.5);
            let condition = match condition {
                Condition::Always => String::new(),
                Condition::Cas(cas) => format!(" cas={cas}"),
                Condition::CasRight => format!(" cas={modified}"),
                Condition::Acquire(number) => format!(" acquire={number}"),
                Condition::Release(number) => format!(" release={number}"),
            };
            format!("put {key} {value} flags={flags}{condition}")
        }
        Step::Delete { key, cas: None } => format!("delete {key}"),
        Step::Delete { key, cas: Some(cas) } => format!("delete {key} cas={cas}"),
        Step::DeleteTree(prefix) if prefix.is_empty() => "delete-tree \"\"".to_owned(),
        Step::DeleteTree(prefix) => format!("delete-tree {prefix}"),
        Step::Register(true) => "register n1".to_owned(),
        Step::Register(false) => "deregister n1".to_owned(),
        Step::Session(number, true) => format!("session {number} n1 delete"),
        Step::Session(number, false) => format!("session {number} n1"),
        Step::Destroy(number) => format!("destroy {number}"),
    }
}

fn entries(state: &State, prefix: &str) -> Vec<(String, Entry)> {
    let number = |of: weft_core::session::SessionId| {
        (0..3u8).find(|number| session(&number.to_string()) == of).expect("one of three")
    };
    let (_, entries) = state.kv().list(prefix);
    entries
        .iter()
        .map(|it| {
            let value = String::from_utf8(it.value.to_vec()).expect("a number");
            let (created, modified) = (it.create_index.0, it.modify_index.0);
            let session = it.session.map(number);
            (it.key.to_string(), (value, it.flags, session, it.lock_index, created, modified))
        })
        .collect()
}

fn bytes(state: &State) -> Vec<u8> {
    rmp_serde::to_vec_named(&state.to_snapshot()).expect("records serialise")
}

proptest! {
    #[test]
    fn the_store_does_what_a_sorted_map_does(steps in prop::collection::vec(any_step(), 1..60)) {
        let (mut state, mut twin, mut model) = (State::default(), State::default(), Model::default());
        // An index for each prefix, as a client would have kept it.
        let watched = ["", "a", "a/", "a/b", "x"];
        let mut seen = watched.map(|prefix| (Index(0), entries(&state, prefix)));
        for (at, step) in steps.iter().enumerate() {
            let index = at as u64 + 1;
            let text = line(step, &model);
            let words: Vec<&str> = text.split(' ').collect();
            let write: Command = command(&words);
            let wanted = model.step(index, step);
            let (answer, changes) = state.apply(Index(index), Timestamp(5), write.clone());
            let outcome = match &answer {
                Answer::CasMismatch => Some(false),
                Answer::Done { .. } => Some(true),
                Answer::Refused(_) | Answer::Txn(_) | Answer::TxnFailed(_) => None,
            };
            prop_assert_eq!(outcome, wanted, "{}", text);
            let told: Vec<_> = model.entries.clone().into_iter().collect();
            prop_assert_eq!(entries(&state, ""), told, "{}", text);
            let sessions: Vec<_> = model.sessions.keys().map(|it| session(&it.to_string())).collect();
            let kept: Vec<_> = state.sessions().list().map(|it| it.id).collect();
            prop_assert_eq!(kept, sessions);
            // Whoever waits with an index learns of every change under the prefix.
            for (prefix, seen) in watched.iter().zip(&mut seen) {
                let now = (state.kv().index_under(prefix), entries(&state, prefix));
                if now.1 != seen.1 {
                    prop_assert!(now.0 > seen.0, "{text}: {prefix:?} changed, its index did not");
                    let told = |change: &weft_core::state::Change| {
                        let mut prefixes = weft_core::watch::Prefixes::default();
                        prefixes.add(&key(prefix), ());
                        prefixes.touched(change).count() > 0
                    };
                    prop_assert!(changes.iter().any(told), "{text}: nobody under {prefix:?} was told");
                }
                *seen = now;
            }
            // The twin goes through a snapshot before every step.
            let snapshot: StateSnapshot = rmp_serde::from_slice(&bytes(&twin)).expect("a snapshot");
            twin = State::from_snapshot(snapshot);
            prop_assert_eq!(twin.apply(Index(index), Timestamp(5), write), (answer, changes));
            prop_assert_eq!(bytes(&state), bytes(&twin), "{}", text);
            for number in 0..3u8 {
                let id = session(&number.to_string());
                let held: Vec<&KvKey> = state.kv().held_by(id).collect();
                prop_assert_eq!(held, twin.kv().held_by(id).collect::<Vec<_>>());
            }
        }
    }
}
