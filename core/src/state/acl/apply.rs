//! Writing policies and roles; tokens are next door.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{AclCommand, AclRefusal, RoleDraft, Writing};
use crate::acl::{Policy, PolicyId, Role, RoleId};
use crate::index::Index;
use crate::limits;
use crate::state::{Change, Refusal, State};
use crate::time::Timestamp;

impl State {
    /// Carries out a write to ACLs; says whether anything is different from before.
    pub(in crate::state) fn apply_acl(
        &mut self,
        index: Index,
        now: Timestamp,
        command: AclCommand,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        match command {
            AclCommand::Bootstrap { accessor, secret, reset } => {
                self.bootstrap_acl(index, now, (accessor, secret), reset, changes)
            }
            AclCommand::DeleteAuthMethod { name } => {
                self.delete_auth_method(index, &name, changes);
                Ok(())
            }
            AclCommand::DeleteBindingRule { id } => {
                self.delete_binding_rule(index, &id, changes);
                Ok(())
            }
            AclCommand::DeletePolicy { id } => self.delete_policy(index, &id, changes),
            AclCommand::DeleteRole { id } => {
                self.delete_role(index, &id, changes);
                Ok(())
            }
            AclCommand::DeleteToken { accessor } => self.delete_token(index, &accessor, changes),
            AclCommand::InitialManagement { accessor, secret } => {
                self.initial_management(index, now, (accessor, secret), changes)
            }
            AclCommand::ReapTokens => {
                self.reap_tokens(index, now, changes);
                Ok(())
            }
            AclCommand::WriteAuthMethod { method, writing } => {
                self.write_auth_method(index, method, writing, changes)
            }
            AclCommand::WriteBindingRule { rule, writing } => {
                self.write_binding_rule(index, rule, writing, changes)
            }
            AclCommand::WritePolicy { policy, writing } => {
                self.write_policy(index, policy, writing, changes)
            }
            AclCommand::WriteRole { role, writing } => {
                self.write_role(index, role, writing, changes)
            }
            AclCommand::WriteToken { token, writing } => {
                self.write_token(index, now, token, writing, changes)
            }
        }
    }

    fn write_policy(
        &mut self,
        index: Index,
        mut policy: Policy,
        writing: Writing,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        let shown = policy.id.as_str().to_owned();
        if let Some(builtin) =
            super::builtin().iter().find(|it| it.id == policy.id || it.name == policy.name)
        {
            return Err(AclRefusal::BuiltinPolicy { name: builtin.name.to_string() }.into());
        }
        if let Some(rule) = policy.rules.0.iter().find(|rule| !rule.is_well_formed()) {
            return Err(AclRefusal::Rule { resource: rule.resource.to_string() }.into());
        }
        let present = self.acl.policies.get(&policy.id).cloned();
        match (writing, &present) {
            // Tried again, as nobody knew whether it was carried out.
            (Writing::Create, Some(present)) if present.says_the_same(&policy) => return Ok(()),
            (Writing::Create, Some(_)) => return Err(AclRefusal::taken("ID", &shown).into()),
            (Writing::Update, None) => {
                return Err(AclRefusal::unknown("ID", "policy", shown).into());
            }
            (Writing::Create, None) => {
                bounded("policies", self.acl.policies.len(), limits::ACL_POLICIES_MAX)?;
            }
            (Writing::Update, Some(_)) => {}
        }
        if self.acl.policy_names.get(&policy.name).is_some_and(|id| *id != policy.id) {
            return Err(AclRefusal::taken("Name", policy.name.as_str()).into());
        }
        (policy.create_index, policy.modify_index) = (index, index);
        if let Some(present) = &present {
            policy.create_index = present.create_index;
            policy.modify_index = present.modify_index;
            if present.says_the_same(&policy) {
                return Ok(());
            }
            policy.modify_index = index;
            self.acl.policy_names.remove(&present.name);
        }
        changes.insert(Change::AclPolicy(policy.id.clone()));
        self.acl.rows.policies = index;
        self.acl.policy_names.insert(policy.name.clone(), policy.id.clone());
        self.acl.policies.insert(policy.id.clone(), Arc::new(policy));
        Ok(())
    }

    fn delete_policy(
        &mut self,
        index: Index,
        id: &PolicyId,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        if let Some(builtin) = super::builtin().iter().find(|it| it.id == *id) {
            return Err(AclRefusal::BuiltinPolicy { name: builtin.name.to_string() }.into());
        }
        if let Some(policy) = self.acl.policies.remove(id) {
            self.acl.policy_names.remove(&policy.name);
            self.acl.rows.policies = index;
            changes.insert(Change::AclPolicy(id.clone()));
        }
        Ok(())
    }

    fn write_role(
        &mut self,
        index: Index,
        draft: RoleDraft,
        writing: Writing,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        let RoleDraft { id, name, description, grants } = draft;
        if !grants.roles.is_empty() {
            return Err(AclRefusal::RoleInRole.into());
        }
        let present = self.acl.roles.get(&id).cloned();
        match (writing, &present) {
            // Tried again, as nobody knew whether it was carried out.
            (Writing::Create, Some(present)) if present.name == name => return Ok(()),
            (Writing::Create, Some(_)) => return Err(AclRefusal::taken("ID", id.as_str()).into()),
            (Writing::Update, None) => {
                return Err(AclRefusal::unknown("ID", "role", id.as_str()).into());
            }
            (Writing::Create, None) => {
                bounded("roles", self.acl.roles.len(), limits::ACL_ROLES_MAX)?;
            }
            (Writing::Update, Some(_)) => {}
        }
        if self.acl.role_names.get(&name).is_some_and(|holder| *holder != id) {
            return Err(AclRefusal::taken("Name", name.as_str()).into());
        }
        let granted = self.acl.resolve(grants)?;
        let mut role =
            Role { id, name, description, granted, create_index: index, modify_index: index };
        if let Some(present) = &present {
            role.create_index = present.create_index;
            role.modify_index = present.modify_index;
            if **present == role {
                return Ok(());
            }
            role.modify_index = index;
            self.acl.role_names.remove(&present.name);
        }
        changes.insert(Change::AclRole(role.id.clone()));
        self.acl.rows.roles = index;
        self.acl.role_names.insert(role.name.clone(), role.id.clone());
        self.acl.roles.insert(role.id.clone(), Arc::new(role));
        Ok(())
    }

    fn delete_role(&mut self, index: Index, id: &RoleId, changes: &mut BTreeSet<Change>) {
        if let Some(role) = self.acl.roles.remove(id) {
            self.acl.role_names.remove(&role.name);
            self.acl.rows.roles = index;
            changes.insert(Change::AclRole(id.clone()));
        }
    }
}

/// There is room for one more.
pub(super) fn bounded(field: &str, present: usize, limit: usize) -> Result<(), Refusal> {
    if present < limit {
        return Ok(());
    }
    Err(Refusal::Limit { field: field.to_owned(), length: present + 1, limit })
}
