//! Roots: what members trust.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Answer, Change, Refusal, State};
use crate::ca::rotation::CaChange;
use crate::ca::{CaRoot, CaSettings};
use crate::index::Index;
use crate::limits;
use crate::time::{Span, Timestamp};

impl State {
    pub(super) fn set_root(
        &mut self,
        index: Index,
        now: Timestamp,
        mut root: CaRoot,
        changes: &mut BTreeSet<Change>,
    ) {
        (root.create_index, root.modify_index) = (index, index);
        if let Some(present) = self.roots.get(&root.fingerprint) {
            root.create_index = present.create_index;
            root.modify_index = present.modify_index;
            if **present == root {
                return;
            }
            root.modify_index = index;
        }
        if root.active {
            self.retire_others((index, now), &root.fingerprint, None);
        }
        self.roots.insert(root.fingerprint.clone(), Arc::new(root));
        self.rows.roots = index;
        changes.insert(Change::Roots);
    }

    pub(super) fn set_ca_settings(
        &mut self,
        index: Index,
        mut settings: CaSettings,
        changes: &mut BTreeSet<Change>,
    ) {
        (settings.create_index, settings.modify_index) = (index, index);
        if let Some(present) = &self.ca_settings {
            settings.create_index = present.create_index;
            settings.modify_index = present.modify_index;
            if *present == settings {
                return;
            }
            settings.modify_index = index;
        }
        self.ca_settings = Some(settings);
        changes.insert(Change::Roots);
    }

    /// Carries out a change of the CA unless something else has changed since it was decided.
    pub(super) fn change_ca(
        &mut self,
        index: Index,
        now: Timestamp,
        change: CaChange,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        let CaChange { seen, settings, root, overlap } = change;
        if seen != self.ca_index() {
            return Ok(Answer::CasMismatch);
        }
        self.set_ca_settings(index, settings, changes);
        if let Some(mut root) = root {
            if let Some(present) = self.roots.get(&root.fingerprint) {
                // Whoever signs under it, it is the same certificate with the same past.
                let before = present.cross_signed.iter();
                let before =
                    before.filter(|it| root.cross_signed.iter().all(|new| new.by != it.by));
                let before: Vec<_> = before.cloned().collect();
                root.cross_signed.extend(before);
            } else if self.roots.len() >= limits::CA_ROOTS_MAX {
                let (length, limit) = (self.roots.len() + 1, limits::CA_ROOTS_MAX);
                let field = "trusted roots; wait until those before are removed".to_owned();
                return Err(Refusal::Limit { field, length, limit });
            }
            root.active = true;
            (root.rotated_out_at, root.trusted_until) = (None, None);
            self.retire_others((index, now), &root.fingerprint, Some(overlap));
            self.set_root(index, now, root, changes);
        }
        Ok(Answer::Done { changed: !changes.is_empty() })
    }

    /// Removes the roots whose time is over, and what they signed for others.
    pub(super) fn prune_roots(
        &mut self,
        index: Index,
        now: Timestamp,
        changes: &mut BTreeSet<Change>,
    ) {
        let is_over =
            |root: &CaRoot| !root.active && root.trusted_until.is_some_and(|until| until <= now);
        let over: BTreeSet<String> = self
            .roots
            .values()
            .filter(|root| is_over(root))
            .map(|root| root.fingerprint.clone())
            .collect();
        if over.is_empty() {
            return;
        }
        let mut retired = Vec::clone(&self.roots_retired);
        for fingerprint in &over {
            self.roots.remove(fingerprint);
            retired.retain(|it| it != fingerprint);
            retired.push(fingerprint.clone());
        }
        retired.drain(..retired.len().saturating_sub(limits::CA_RETIRED_MAX));
        self.roots_retired = Arc::new(retired);
        let of_them = |root: &CaRoot| root.cross_signed.iter().any(|it| over.contains(&it.by));
        let signed: Vec<Arc<CaRoot>> =
            self.roots.values().filter(|root| of_them(root)).cloned().collect();
        for root in signed {
            let mut root = CaRoot { modify_index: index, ..CaRoot::clone(&root) };
            root.cross_signed.retain(|it| !over.contains(&it.by));
            self.roots.insert(root.fingerprint.clone(), Arc::new(root));
        }
        self.rows.roots = index;
        changes.insert(Change::Roots);
    }

    pub(super) fn activate_root(
        &mut self,
        (index, now): (Index, Timestamp),
        fingerprint: &str,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        let root = self
            .roots
            .get(fingerprint)
            .ok_or_else(|| Refusal::UnknownRoot(fingerprint.to_owned()))?;
        if root.active {
            return Ok(());
        }
        let root = CaRoot {
            active: true,
            rotated_out_at: None,
            trusted_until: None,
            modify_index: index,
            ..CaRoot::clone(root)
        };
        self.retire_others((index, now), fingerprint, None);
        self.roots.insert(fingerprint.to_owned(), Arc::new(root));
        self.rows.roots = index;
        changes.insert(Change::Roots);
        Ok(())
    }

    /// Makes every other root one that is trusted and signs no more; for how long, if not until
    /// it is removed by hand.
    fn retire_others(
        &mut self,
        (index, now): (Index, Timestamp),
        fingerprint: &str,
        overlap: Option<Span>,
    ) {
        let others: Vec<Arc<CaRoot>> = self
            .roots
            .values()
            .filter(|root| root.active && root.fingerprint != fingerprint)
            .cloned()
            .collect();
        for root in others {
            let root = CaRoot {
                active: false,
                rotated_out_at: Some(now),
                trusted_until: overlap.map(|overlap| now.saturating_add(overlap.0)),
                modify_index: index,
                ..CaRoot::clone(&root)
            };
            self.roots.insert(root.fingerprint.clone(), Arc::new(root));
        }
    }
}

#[cfg(test)]
mod tests;
