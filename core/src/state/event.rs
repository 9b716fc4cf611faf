//! User events: the last ones fired, in order.
//!
//! **Source**: Consul: api-docs/event. Differs: Consul spreads events by gossip, and each agent
//! keeps those that reached it; here they are replicated, so that all see the same ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{Answer, Change, Refusal, State};
use crate::index::Index;
use crate::limits;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEvent {
    /// A UUID, drawn when it was fired.
    pub id: String,
    /// What it says.
    pub name: String,
    /// Whatever comes with it.
    #[serde(default)]
    pub payload: Bytes,
    /// The nodes that it is for, as a regular expression; empty for all.
    #[serde(default)]
    pub node_filter: String,
    /// The services that it is for, as a regular expression; empty for all.
    #[serde(default)]
    pub service_filter: String,
    /// The tags of services that it is for, as a regular expression; empty for all.
    #[serde(default)]
    pub tag_filter: String,
    /// Its place among all events, from 1; given when it is written.
    #[serde(default)]
    pub ltime: u64,
    /// When it was written.
    #[serde(default)]
    pub index: Index,
}

/// The last events.
#[derive(Debug, Default, Clone)]
pub struct EventTable {
    by_ltime: OrdMap<u64, Arc<UserEvent>>,
    last: u64,
}

impl EventTable {
    /// Returns the events that are kept, the oldest first.
    pub fn list(&self) -> impl Iterator<Item = &Arc<UserEvent>> {
        self.by_ltime.values()
    }

    pub(super) fn to_snapshot(&self) -> Vec<Arc<UserEvent>> {
        self.by_ltime.values().cloned().collect()
    }

    pub(super) fn from_snapshot(events: Vec<Arc<UserEvent>>) -> Self {
        let last = events.last().map_or(0, |event| event.ltime);
        Self { by_ltime: events.into_iter().map(|event| (event.ltime, event)).collect(), last }
    }
}

impl State {
    /// Returns the last events.
    pub fn events(&self) -> &EventTable {
        &self.events
    }

    pub(super) fn fire(
        &mut self,
        index: Index,
        mut event: UserEvent,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        if event.payload.len() > limits::EVENT_PAYLOAD_BYTES_MAX {
            let (field, length) = ("Payload".to_owned(), event.payload.len());
            let limit = limits::EVENT_PAYLOAD_BYTES_MAX;
            return Err(Refusal::Limit { field, length, limit });
        }
        // A write that is tried again finds done what it asks for.
        if self.events.list().any(|present| present.id == event.id) {
            return Ok(Answer::Done { changed: false });
        }
        self.events.last += 1;
        (event.ltime, event.index) = (self.events.last, index);
        self.events.by_ltime.insert(event.ltime, Arc::new(event));
        while self.events.by_ltime.len() > limits::EVENTS_KEPT_MAX {
            let Some((first, _)) = self.events.by_ltime.get_min() else { break };
            let first = *first;
            self.events.by_ltime.remove(&first);
        }
        changes.insert(Change::Events);
        Ok(Answer::Done { changed: true })
    }
}
