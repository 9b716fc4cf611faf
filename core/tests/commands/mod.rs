//! Any command of the replicated state, good ones and bad ones, about few enough things that they
//! meet.

mod acl;
mod records;

use proptest::prelude::*;
use serde_json::Value;
use weft_core::config_entry::EntryKey;
use weft_core::index::Index;
use weft_core::kv::{KvCommand, KvCondition};
use weft_core::state::{Command, NodeLiveness, State, TxnOp};
use weft_core::time::Timestamp;

/// The index that stands for whatever is right.
const RIGHT: Index = Index(u64::MAX);

/// A command, but for what depends on the state that it comes to.
#[derive(Debug, Clone)]
pub(crate) struct Draft(Command);

impl Draft {
    /// Returns the command for a state at a moment.
    pub(crate) fn command(&self, state: &State, now: Timestamp) -> Command {
        match self.0.clone() {
            Command::Kv(command) => Command::Kv(right_key(state, command)),
            Command::Txn(ops) => Command::Txn(
                ops.into_iter()
                    .map(|op| match op {
                        TxnOp::KvWrite(command) => TxnOp::KvWrite(right_key(state, command)),
                        other => other,
                    })
                    .collect(),
            ),
            Command::UpsertEntry { entry, cas: Some(RIGHT) } => {
                let cas = Some(modified(state, &entry.key()));
                Command::UpsertEntry { entry, cas }
            }
            Command::DeleteEntry { key, cas: Some(RIGHT) } => {
                let cas = Some(modified(state, &key));
                Command::DeleteEntry { key, cas }
            }
            Command::CreateJoinToken(mut token) => {
                token.expires.0 += now.0;
                Command::CreateJoinToken(token)
            }
            Command::SetLiveness(liveness) if liveness.as_of == RIGHT => {
                let as_of = state.liveness(&liveness.node).map(|check| check.modify_index);
                let as_of = as_of.unwrap_or_default();
                Command::SetLiveness(NodeLiveness { as_of, ..liveness })
            }
            other => other,
        }
    }
}

fn modified(state: &State, key: &EntryKey) -> Index {
    state.entry(key).map(|entry| entry.indexes().1).unwrap_or_default()
}

fn right_key(state: &State, command: KvCommand) -> KvCommand {
    let modified =
        |key: &str| state.kv().get(key).1.map(|entry| entry.modify_index).unwrap_or_default();
    match command {
        KvCommand::Set { key, value, flags, condition: KvCondition::Cas(RIGHT) } => {
            let condition = KvCondition::Cas(modified(key.as_str()));
            KvCommand::Set { key, value, flags, condition }
        }
        KvCommand::Delete { key, cas: Some(RIGHT) } => {
            let cas = Some(modified(key.as_str()));
            KvCommand::Delete { key, cas }
        }
        other => other,
    }
}

/// Any command.
pub(crate) fn any() -> impl Strategy<Value = Draft> {
    prop_oneof![
        6 => records::catalog(),
        6 => records::kv(),
        3 => records::session(),
        3 => records::txn(),
        5 => records::entry(),
        3 => records::intention(),
        6 => acl::any(),
        2 => records::query(),
        // Three must come before what is said: often enough.
        8 => records::rollout(),
        5 => records::member(),
        2 => records::rest(),
    ]
    .prop_map(Draft)
}

/// Reads a command from the form in which it is written down, which is also how it is named.
fn command(written: Value) -> Command {
    let text = written.to_string();
    serde_json::from_value(written).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// An index to compare with: none, that of nothing, one of some moment, the right one.
fn cas() -> impl Strategy<Value = Option<Index>> {
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(Index(0))),
        1 => (1..30u64).prop_map(|index| Some(Index(index))),
        2 => Just(Some(RIGHT)),
    ]
}

fn one_of(names: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(names)
}

fn node() -> impl Strategy<Value = &'static str> {
    one_of(&["n1", "N1", "n2"])
}

fn service() -> impl Strategy<Value = &'static str> {
    one_of(&["web", "Web", "db"])
}

/// One of three ids; the same in every table.
fn id() -> impl Strategy<Value = String> {
    (1..=3u8).prop_map(|number| format!("00000000-0000-4000-8000-{number:012}"))
}
