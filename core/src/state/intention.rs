//! Single intentions by their ids, as older clients write them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Change, Refusal, State};
use crate::config_entry::{EntryKind, IntentionSource, ServiceIntentions, SourceName};
use crate::index::Index;

/// A write of a single intention as such.
///
/// Differs: Consul keeps ids in the source's `LegacyID` only for intentions that were written so;
/// so does this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum IntentionCommand {
    /// Adds an intention; its source carries the new id.
    Create {
        /// The service called, or `*`.
        destination: SourceName,
        /// The caller with what it may do.
        source: IntentionSource,
    },
    /// Removes the intention that has the id; to remove none succeeds.
    Delete {
        /// Its id.
        id: String,
    },
    /// Replaces the intention that has the source's id.
    Update {
        /// The service called, which stays as it is.
        destination: SourceName,
        /// The caller, which stays as it is, with what it may do.
        source: IntentionSource,
    },
}

impl State {
    pub(super) fn apply_intention(
        &mut self,
        index: Index,
        command: IntentionCommand,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        match command {
            IntentionCommand::Create { destination, source } => {
                let entry = self.intentions_entry(&destination);
                let present = entry.iter().flat_map(|entry| &entry.sources);
                // The same command once more finds done what it asks for.
                if let Some(present) = { present }.find(|present| {
                    present.name == source.name && present.legacy_id != source.legacy_id
                }) {
                    return Err(Refusal::DuplicateIntention {
                        from: source.name.to_string(),
                        to: destination.to_string(),
                        id: present.legacy_id.clone(),
                    });
                }
                self.upsert_intention(index, destination, source, changes)
            }
            IntentionCommand::Delete { id } => {
                let Some((entry, source)) = self.intention(&id) else { return Ok(()) };
                let (destination, source) = (entry.name.clone(), source.name.clone());
                self.delete_intention(index, &destination, &source, changes)
            }
            IntentionCommand::Update { destination, mut source } => {
                let Some((entry, present)) = self.intention(&source.legacy_id) else {
                    return Err(Refusal::UnknownIntention { id: source.legacy_id });
                };
                if entry.name != destination || present.name != source.name {
                    let reason = "cannot change SourceName or DestinationName of an intention; \
                                  delete it and create another";
                    return Err(Refusal::InvalidEntry(reason.to_owned()));
                }
                source.legacy_create_time.clone_from(&present.legacy_create_time);
                self.upsert_intention(index, destination, source, changes)
            }
        }
    }

    /// Returns the intention that has an id, with the entry in which it stands.
    pub fn intention(&self, id: &str) -> Option<(&ServiceIntentions, &IntentionSource)> {
        let entries =
            self.entries.iter().filter(|(key, _)| key.kind == EntryKind::ServiceIntentions);
        entries
            .filter_map(|(_, entry)| entry.as_service_intentions())
            .flat_map(|entry| entry.sources.iter().map(move |source| (entry, source)))
            .find(|(_, source)| !id.is_empty() && source.legacy_id == id)
    }
}
