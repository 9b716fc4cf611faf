//! Roots and join tokens: who may be a member, and what members trust.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Change, Refusal, State};
use crate::ca::{CaRoot, CaSettings, JoinTokenRecord, MemberRole};
use crate::index::Index;
use crate::time::Timestamp;

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

    /// Keeps a token; those whose time is over go, so that their number stays small.
    pub(super) fn create_join_token(
        &mut self,
        index: Index,
        now: Timestamp,
        mut token: JoinTokenRecord,
    ) {
        self.join_tokens = std::mem::take(&mut self.join_tokens)
            .into_iter()
            .filter(|(_, token)| token.expires > now)
            .collect();
        (token.create_index, token.modify_index) = (index, index);
        self.join_tokens.insert(token.secret_sha256.clone(), token);
    }

    /// Uses a token once. Two that redeem the last use at the same moment are told apart here,
    /// where the order of writes is final.
    pub(super) fn redeem_join_token(
        &mut self,
        index: Index,
        now: Timestamp,
        secret_sha256: &str,
        role: MemberRole,
    ) -> Result<(), Refusal> {
        let token = self.join_tokens.get_mut(secret_sha256).ok_or(Refusal::JoinTokenUnknown)?;
        if token.expires <= now {
            return Err(Refusal::JoinTokenExpired);
        }
        if token.role != role {
            return Err(Refusal::JoinTokenRole { granted: token.role, asked: role });
        }
        match &mut token.uses_left {
            None => return Ok(()),
            Some(0) => return Err(Refusal::JoinTokenSpent),
            Some(left) => *left -= 1,
        }
        token.modify_index = index;
        Ok(())
    }
}
