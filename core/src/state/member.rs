//! Roots: what members trust.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Change, Refusal, State};
use crate::ca::{CaRoot, CaSettings};
use crate::index::Index;

impl State {
    pub(super) fn set_root(
        &mut self,
        index: Index,
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
            self.retire_others(index, &root.fingerprint);
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

    pub(super) fn activate_root(
        &mut self,
        index: Index,
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
        let root = CaRoot { active: true, modify_index: index, ..CaRoot::clone(root) };
        self.retire_others(index, fingerprint);
        self.roots.insert(fingerprint.to_owned(), Arc::new(root));
        self.rows.roots = index;
        changes.insert(Change::Roots);
        Ok(())
    }

    fn retire_others(&mut self, index: Index, fingerprint: &str) {
        let others: Vec<Arc<CaRoot>> = self
            .roots
            .values()
            .filter(|root| root.active && root.fingerprint != fingerprint)
            .cloned()
            .collect();
        for root in others {
            let root = CaRoot { active: false, modify_index: index, ..CaRoot::clone(&root) };
            self.roots.insert(root.fingerprint.clone(), Arc::new(root));
        }
    }
}
