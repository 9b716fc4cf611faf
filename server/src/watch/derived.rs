//! What watchers see, made of the state: instances, compiled chains, intentions, trust.

use std::collections::BTreeSet;

use bytes::Bytes;
use weft_core::config_entry::{EntryKey, EntryKind, IntentionAction};
use weft_core::intention::IntentionSet;
use weft_core::name::ServiceName;
use weft_core::state::State;
use weft_core::watch::Topic;
use weft_proto::envelope;

/// What one watch asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Question {
    Chain(ServiceName),
    Connect(ServiceName),
    Intentions(ServiceName),
    Nodes,
    Roots,
    Service(ServiceName),
    ServiceDefaults(ServiceName),
}

/// What it sees, and what that depends on.
pub(crate) struct Seen {
    /// The value as an envelope, or why there is none.
    pub(crate) answer: Result<Bytes, String>,
    /// When one of these is touched, the value may be another.
    pub(crate) topics: BTreeSet<Topic>,
}

/// Looks a question up.
pub(crate) fn look(question: &Question, state: &State, default: IntentionAction) -> Seen {
    match question {
        Question::Chain(name) => look_at_chain(name, state),
        Question::Connect(name) => {
            seen(envelope::encode(&state.connect_instances(name).1), [Topic::Connect(name.clone())])
        }
        Question::Intentions(name) => seen(
            envelope::encode(&state.intentions(name, default)),
            IntentionSet::reads(name).map(Topic::Entry),
        ),
        Question::Nodes => seen(envelope::encode(&state.nodes().1), [Topic::Nodes]),
        Question::Roots => Seen {
            answer: state
                .trust_bundle()
                .map(|bundle| envelope::encode(&bundle))
                .ok_or_else(|| "the cluster has no root yet".to_owned()),
            topics: BTreeSet::from([Topic::Roots, Topic::Cluster]),
        },
        Question::Service(name) => {
            seen(envelope::encode(&state.service_instances(name).1), [Topic::Service(name.clone())])
        }
        Question::ServiceDefaults(name) => seen(
            envelope::encode(&state.service_defaults(name)),
            [
                entry(EntryKind::ServiceDefaults, name.as_str()),
                entry(EntryKind::ProxyDefaults, "global"),
            ],
        ),
    }
}

/// A chain depends on exactly the entries that its compilation read, also those that are
/// absent. One that does not compile depends on every entry that chains are made of.
fn look_at_chain(name: &ServiceName, state: &State) -> Seen {
    match state.compile_chain(name) {
        Ok(chain) => Seen {
            answer: Ok(envelope::encode(&chain)),
            topics: chain.reads.iter().cloned().map(Topic::Entry).collect(),
        },
        Err(problem) => {
            let kinds = EntryKind::ALL.into_iter().map(Topic::EntryKind);
            Seen { answer: Err(problem), topics: kinds.chain([Topic::Cluster]).collect() }
        }
    }
}

fn seen(value: Bytes, topics: impl IntoIterator<Item = Topic>) -> Seen {
    Seen { answer: Ok(value), topics: topics.into_iter().collect() }
}

fn entry(kind: EntryKind, name: &str) -> Topic {
    Topic::Entry(EntryKey::new(kind, name))
}
