//! Config entries: written only when every chain that they touch still compiles.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rollout::with_progress;
use super::{Answer, Change, Refusal, State};
use crate::config_entry::{
    ConfigEntry, EntryKey, EntryKind, IntentionSource, Mesh, MutualTlsMode, ServiceIntentions,
    SourceName,
};
use crate::index::Index;
use crate::limits;

impl State {
    pub(super) fn upsert_entry(
        &mut self,
        index: Index,
        entry: ConfigEntry,
        cas: Option<Index>,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        let key = entry.key();
        let present = self.entries.get(&key);
        let entry = with_kept_key(entry, present.map(|entry| &**entry))?;
        let entry = with_progress(entry, present.map(|entry| &**entry));
        let (created, modified) = present.map_or_else(Default::default, |entry| entry.indexes());
        if cas.is_some_and(|cas| cas != modified) {
            return Ok(Answer::CasMismatch);
        }
        if present.is_some_and(|old| **old == entry.clone().with_indexes(created, modified)) {
            return Ok(Answer::Done { changed: false });
        }
        if entry.mutual_tls_mode() == MutualTlsMode::Permissive
            && present.is_none_or(|old| old.mutual_tls_mode() != MutualTlsMode::Permissive)
            && !self.allows_permissive()
        {
            let told = "MutualTLSMode: must not be \"permissive\" unless the mesh entry says \
                        AllowEnablingPermissiveMutualTLS";
            return Err(Refusal::InvalidEntry(told.to_owned()));
        }
        self.replace_entry(index, entry, changes)
    }

    /// Puts an entry in the place of the one that has its key.
    pub(super) fn replace_entry(
        &mut self,
        index: Index,
        entry: ConfigEntry,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        let key = entry.key();
        let created = self.entries.get(&key).map_or(index, |present| present.indexes().0);
        self.entries.insert(key.clone(), Arc::new(entry.with_indexes(created, index)));
        self.check_chains(&key)?;
        self.entry_changed(index, key, changes);
        Ok(Answer::Done { changed: true })
    }

    /// Whether the mesh entry lets others say that proxies take connections without mutual TLS.
    fn allows_permissive(&self) -> bool {
        let key = EntryKey::new(EntryKind::Mesh, Mesh::NAME);
        matches!(self.entries.get(&key).map(|entry| &**entry),
            Some(ConfigEntry::Mesh(mesh)) if mesh.allow_enabling_permissive_mutual_tls)
    }

    pub(super) fn delete_entry(
        &mut self,
        index: Index,
        key: &EntryKey,
        cas: Option<Index>,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        let Some(present) = self.entries.get(key) else {
            // As Consul: to delete what is not there succeeds, unless an index was asked for.
            return Ok(match cas {
                Some(_) => Answer::CasMismatch,
                None => Answer::Done { changed: false },
            });
        };
        if cas.is_some_and(|cas| cas != present.indexes().1) {
            return Ok(Answer::CasMismatch);
        }
        self.entries.remove(key);
        self.check_chains(key)?;
        self.entry_changed(index, key.clone(), changes);
        Ok(Answer::Done { changed: true })
    }

    pub(super) fn upsert_intention(
        &mut self,
        index: Index,
        destination: SourceName,
        source: IntentionSource,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        let mut entry = self.intentions_entry(&destination).unwrap_or(ServiceIntentions {
            name: destination,
            sources: Vec::new(),
            jwt: None,
            meta: Default::default(),
            create_index: Index::default(),
            modify_index: Index::default(),
        });
        match entry.sources.iter_mut().find(|present| present.name == source.name) {
            Some(present) => *present = source,
            None => entry.sources.push(source),
        }
        if entry.sources.len() > limits::INTENTION_SOURCES_MAX {
            return Err(Refusal::Limit {
                field: "Sources".to_owned(),
                length: entry.sources.len(),
                limit: limits::INTENTION_SOURCES_MAX,
            });
        }
        // Precedence and order are the entry's own affair, not the writer's.
        let entry = ConfigEntry::ServiceIntentions(entry).normalise().map_err(|invalid| {
            let told: Vec<String> = invalid.iter().map(ToString::to_string).collect();
            Refusal::InvalidEntry(told.join("; "))
        })?;
        self.upsert_entry(index, entry, None, changes).map(drop)
    }

    pub(super) fn delete_intention(
        &mut self,
        index: Index,
        destination: &SourceName,
        source: &SourceName,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        let Some(mut entry) = self.intentions_entry(destination) else { return Ok(()) };
        entry.sources.retain(|present| present.name != *source);
        let entry = ConfigEntry::ServiceIntentions(entry);
        let written = match &entry {
            ConfigEntry::ServiceIntentions(intentions) if intentions.sources.is_empty() => {
                self.delete_entry(index, &entry.key(), None, changes)
            }
            _ => self.upsert_entry(index, entry, None, changes),
        };
        written.map(drop)
    }

    pub(super) fn intentions_entry(&self, destination: &SourceName) -> Option<ServiceIntentions> {
        let key = EntryKey::new(EntryKind::ServiceIntentions, destination.as_str());
        self.entries.get(&key)?.as_service_intentions().cloned()
    }

    fn entry_changed(&mut self, index: Index, key: EntryKey, changes: &mut BTreeSet<Change>) {
        self.rows.entries.insert(key.kind, index);
        changes.insert(Change::Entry(key));
    }
}

/// A certificate written without its key keeps the key that is there, as answers show none.
fn with_kept_key(
    entry: ConfigEntry,
    present: Option<&ConfigEntry>,
) -> Result<ConfigEntry, Refusal> {
    let ConfigEntry::InlineCertificate(mut entry) = entry else { return Ok(entry) };
    if entry.private_key.is_empty() {
        let present = present.and_then(ConfigEntry::as_inline_certificate);
        match present.filter(|present| present.certificate == entry.certificate) {
            Some(present) => entry.private_key = present.private_key.clone(),
            None => {
                let reason = "PrivateKey: is missing; it can be left out only where the same \
                              Certificate is written again";
                return Err(Refusal::InvalidEntry(reason.to_owned()));
            }
        }
    }
    Ok(ConfigEntry::InlineCertificate(entry))
}
