//! What watchers see, made of the state: instances, compiled chains, intentions, trust.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use weft_core::config_entry::{EntryKey, EntryKind, IntentionAction};
use weft_core::index::Index;
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
#[derive(Clone)]
pub(crate) struct Seen {
    /// The value as an envelope, or why there is none.
    pub(crate) answer: Result<Bytes, String>,
    /// When one of these is touched, the value may be another.
    pub(crate) topics: BTreeSet<Topic>,
}

/// Answers questions; those who ask the same of the same state share one answer, as all agents
/// do that a change wakes.
pub(crate) struct Views {
    default: IntentionAction,
    newest: Mutex<OfState>,
}

/// The answers made of one state. Bounded by the questions that are watched, as the next state
/// clears it.
#[derive(Default)]
struct OfState {
    index: Index,
    answers: BTreeMap<Question, Arc<Seen>>,
}

impl Views {
    pub(crate) fn new(default: IntentionAction) -> Self {
        Self { default, newest: Mutex::default() }
    }

    /// Looks a question up.
    pub(crate) fn look(&self, question: &Question, state: &State) -> Arc<Seen> {
        let index = state.index();
        {
            let mut newest = self.newest.lock();
            if newest.index < index {
                *newest = OfState { index, answers: BTreeMap::new() };
            }
            if newest.index == index
                && let Some(seen) = newest.answers.get(question)
            {
                return seen.clone();
            }
        }
        // Outside the lock: two who come at once may both make it, and make the same.
        let seen = Arc::new(look(question, state, self.default));
        let mut newest = self.newest.lock();
        if newest.index == index {
            newest.answers.insert(question.clone(), seen.clone());
        }
        seen
    }
}

fn look(question: &Question, state: &State, default: IntentionAction) -> Seen {
    match question {
        Question::Chain(name) => look_at_chain(name, state),
        Question::Connect(name) => {
            seen(envelope::encode(&state.connect_instances(name).1), [Topic::connect(name)])
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
            seen(envelope::encode(&state.service_instances(name).1), [Topic::service(name)])
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
            let kinds = EntryKind::OF_CHAINS.into_iter().map(Topic::EntryKind);
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

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::ca::{JoinTokenRecord, MemberRole};
    use weft_core::state::Command;
    use weft_core::time::Timestamp;

    #[test]
    fn one_answer_is_made_for_all_who_ask_of_one_state() {
        let views = Views::new(IntentionAction::Deny);
        let question = Question::Service("web".parse().expect("a name"));
        let old = State::default();
        let first = views.look(&question, &old);
        assert!(Arc::ptr_eq(&first, &views.look(&question, &old)));
        let mut new = old.clone();
        let token = JoinTokenRecord {
            secret_sha256: "ab".to_owned(),
            role: MemberRole::Agent,
            expires: Timestamp(9),
            uses_left: None,
            create_index: Index::default(),
            modify_index: Index::default(),
        };
        new.apply(Index(5), Timestamp(1), Command::CreateJoinToken(token));
        let second = views.look(&question, &new);
        assert!(!Arc::ptr_eq(&first, &second));
        // One who is late gets the answer of the state that it has, and spoils nothing.
        assert!(!Arc::ptr_eq(&second, &views.look(&question, &old)));
        assert!(Arc::ptr_eq(&second, &views.look(&question, &new)));
    }
}
