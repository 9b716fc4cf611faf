//! What watchers see, made of the state: instances, compiled chains, intentions, trust.

use std::collections::BTreeSet;

use bytes::Bytes;
use weft_core::config_entry::{EntryKey, EntryKind, IntentionAction, Mesh};
use weft_core::intention::IntentionSet;
use weft_core::name::ServiceName;
use weft_core::state::State;
use weft_core::watch::Topic;
use weft_proto::envelope;

use super::version::{Content, Records};

/// What one watch asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Question {
    CapturedUpstreams(ServiceName),
    Chain(ServiceName),
    Connect(ServiceName),
    Intentions(ServiceName),
    MeshTls,
    Nodes,
    Roots,
    Service(ServiceName),
    ServiceDefaults(ServiceName),
}

/// What it sees, and what that depends on.
pub(super) struct Seen {
    pub(super) content: Content,
    /// When one of these is touched, the value may be another.
    pub(super) topics: BTreeSet<Topic>,
}

impl Question {
    /// Returns what the value depends on, unless that depends on the state.
    pub(super) fn topics(&self) -> Option<BTreeSet<Topic>> {
        Some(match self {
            Self::CapturedUpstreams(_) => BTreeSet::from([
                Topic::EntryKind(EntryKind::ServiceIntentions),
                entry(EntryKind::Mesh, Mesh::NAME),
                Topic::ServiceList,
            ]),
            Self::Chain(_) => return None,
            Self::Connect(name) => BTreeSet::from([Topic::connect(name)]),
            Self::Intentions(name) => {
                let entries = IntentionSet::reads(name).into_iter().map(Topic::Entry);
                entries.chain([Topic::EntryKind(EntryKind::JwtProvider)]).collect()
            }
            Self::MeshTls => BTreeSet::from([entry(EntryKind::Mesh, Mesh::NAME)]),
            Self::Nodes => BTreeSet::from([Topic::Nodes]),
            Self::Roots => BTreeSet::from([Topic::Roots, Topic::Cluster]),
            Self::Service(name) => BTreeSet::from([Topic::service(name)]),
            Self::ServiceDefaults(name) => BTreeSet::from([
                entry(EntryKind::ServiceDefaults, name.as_str()),
                entry(EntryKind::ProxyDefaults, "global"),
                entry(EntryKind::Mesh, Mesh::NAME),
            ]),
        })
    }

    /// Looks at the state; a list shares with the one before what is the same.
    pub(super) fn look(
        &self,
        state: &State,
        before: Option<&Content>,
        default: IntentionAction,
    ) -> Seen {
        let instances = |found| match before {
            Some(Content::Instances(before)) => {
                Content::Instances(Records::after(Some(before), found))
            }
            Some(_) | None => Content::Instances(Records::after(None, found)),
        };
        let content = match self {
            Self::CapturedUpstreams(name) => {
                whole(envelope::encode(&state.captured_upstreams(name, default)))
            }
            Self::Chain(name) => return look_at_chain(name, state),
            Self::Connect(name) => instances(state.connect_instances(name).1),
            Self::Intentions(name) => whole(envelope::encode(&state.intentions(name, default))),
            Self::MeshTls => whole(envelope::encode(&state.mesh_tls())),
            Self::Nodes => {
                let before = match before {
                    Some(Content::Nodes(before)) => Some(before),
                    Some(_) | None => None,
                };
                Content::Nodes(Records::after(before, state.nodes().1))
            }
            Self::Roots => match state.trust_bundle() {
                Some(bundle) => whole(envelope::encode(&bundle)),
                None => Content::Problem("the cluster has no root yet".to_owned()),
            },
            Self::Service(name) => instances(state.service_instances(name).1),
            Self::ServiceDefaults(name) => whole(envelope::encode(&state.service_defaults(name))),
        };
        Seen { content, topics: self.topics().unwrap_or_default() }
    }
}

/// A chain depends on exactly the entries that its compilation read, also those that are
/// absent. One that does not compile depends on every entry that chains are made of.
fn look_at_chain(name: &ServiceName, state: &State) -> Seen {
    match state.compile_chain(name) {
        Ok(chain) => Seen {
            content: whole(envelope::encode(&chain)),
            topics: chain.reads.iter().cloned().map(Topic::Entry).collect(),
        },
        Err(problem) => {
            let kinds = EntryKind::OF_CHAINS.into_iter().map(Topic::EntryKind);
            let topics = kinds.chain([Topic::Cluster]).collect();
            Seen { content: Content::Problem(problem), topics }
        }
    }
}

fn whole(value: Bytes) -> Content {
    Content::Whole(value)
}

fn entry(kind: EntryKind, name: &str) -> Topic {
    Topic::Entry(EntryKey::new(kind, name))
}
