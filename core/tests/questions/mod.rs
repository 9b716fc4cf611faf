//! What clients can ask of the replicated state: an answer with its index, and what wakes those who
//! wait for another one.

use std::collections::BTreeSet;
use std::fmt::Debug;

use weft_core::config_entry::EntryKind;
use weft_core::index::Index;
use weft_core::kv::KvKey;
use weft_core::name::ServiceName;
use weft_core::state::{Change, State};
use weft_core::time::Timestamp;
use weft_core::watch::{Prefixes, Topic, touched};

/// An answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Shown {
    question: String,
    index: Index,
    answer: String,
    /// Whoever is woken by one of these asks again.
    topics: Vec<Topic>,
    prefix: Option<KvKey>,
}

struct Asked(Vec<Shown>);

impl Asked {
    fn put(&mut self, question: &str, topic: Topic, (index, answer): (Index, impl Debug)) {
        self.0.push(Shown {
            question: question.to_owned(),
            index,
            answer: format!("{answer:?}"),
            topics: vec![topic],
            prefix: None,
        });
    }
}

/// Asks everything.
pub(crate) fn ask(state: &State) -> Vec<Shown> {
    let mut asked = Asked(Vec::new());
    asked.put("nodes", Topic::Nodes, state.nodes());
    asked.put("services", Topic::ServiceList, state.services());
    asked.put("checks", Topic::Checks, state.checks_in_state(None));
    for name in ["web", "db", "web-p"] {
        let name = ServiceName::parse(name).expect("a name");
        let service = state.service_instances(&name);
        asked.put(&format!("service {name}"), Topic::service(&name), service);
        let checks = state.checks_of_service(&name);
        asked.put(&format!("checks of {name}"), Topic::service(&name), checks);
        let connect = state.connect_instances(&name);
        asked.put(&format!("doors of {name}"), Topic::connect(&name), connect);
    }
    let kinds = [
        EntryKind::ExportedServices,
        EntryKind::Mesh,
        EntryKind::ProxyDefaults,
        EntryKind::ServiceDefaults,
        EntryKind::ServiceIntentions,
        EntryKind::ServiceResolver,
        EntryKind::ServiceRouter,
        EntryKind::ServiceSplitter,
    ];
    for kind in kinds {
        asked.put(kind.as_str(), Topic::EntryKind(kind), state.entries(Some(kind)));
    }
    for key in ["a", "a/", "a/b", "ab", "é"] {
        let (index, entry) = state.kv().get(key);
        let topic = Topic::Key(KvKey::parse(key).expect("a key"));
        asked.put(&format!("key {key}"), topic, (index, entry));
    }
    let (index, entries) = state.kv().list("");
    asked.0.push(Shown {
        question: "all keys".to_owned(),
        index,
        answer: format!("{entries:?}"),
        topics: Vec::new(),
        prefix: KvKey::parse("").ok(),
    });
    let sessions: Vec<_> = state.sessions().list().collect();
    asked.put("sessions", Topic::Sessions, (state.sessions().index(), sessions));
    let coordinates: Vec<_> = state.coordinates().list().collect();
    let index = state.coordinates().index();
    asked.put("coordinates", Topic::Coordinates, (index, coordinates));
    asked.put("queries", Topic::Queries, state.prepared_queries());
    asked.put("roots", Topic::Roots, state.roots());
    ask_acl(state, &mut asked);
    asked.0
}

fn ask_acl(state: &State, asked: &mut Asked) {
    let acl = state.acl();
    asked.put("policies", Topic::AclPolicies, (acl.policies_index(), acl.policies()));
    asked.put("roles", Topic::AclRoles, (acl.roles_index(), acl.roles()));
    // At the beginning of time no token is over.
    asked.put("tokens", Topic::AclTokens, (acl.tokens_index(), acl.tokens(Timestamp(0))));
    let methods = (acl.auth_methods_index(), acl.auth_methods());
    asked.put("auth methods", Topic::AclLogins, methods);
    let rules = (acl.binding_rules_index(), acl.binding_rules(None));
    asked.put("binding rules", Topic::AclLogins, rules);
}

/// Compares the answers before and after a command that made changes.
///
/// # Errors
/// An index fell; an answer is another one with the same index, or nobody who waits for it is told.
pub(crate) fn compare(before: &[Shown], after: &[Shown], changes: &[Change]) -> Result<(), String> {
    let told: BTreeSet<Topic> = changes.iter().flat_map(touched).collect();
    for (old, new) in before.iter().zip(after) {
        let question = &new.question;
        if new.index < old.index {
            return Err(format!("{question}: the index fell from {} to {}", old.index, new.index));
        }
        if new.answer == old.answer {
            continue;
        }
        if new.index == old.index {
            return Err(format!(
                "{question}: at {} there was {}, now there is {}",
                new.index, old.answer, new.answer
            ));
        }
        let is_told = new.topics.iter().any(|topic| told.contains(topic) || is_cut(topic, changes))
            || new.prefix.as_ref().is_some_and(|prefix| is_touched(prefix, changes));
        if !is_told {
            return Err(format!("{question}: who waits for it is not told: {changes:?}"));
        }
    }
    Ok(())
}

/// Whether a key went with the tree in which it was.
fn is_cut(topic: &Topic, changes: &[Change]) -> bool {
    let Topic::Key(key) = topic else { return false };
    let is_under = |change: &Change| match change {
        Change::KeyTree(tree) => key.as_str().starts_with(tree.as_str()),
        _ => false,
    };
    changes.iter().any(is_under)
}

fn is_touched(prefix: &KvKey, changes: &[Change]) -> bool {
    let mut prefixes = Prefixes::default();
    prefixes.add(prefix, ());
    changes.iter().any(|change| prefixes.touched(change).count() > 0)
}
