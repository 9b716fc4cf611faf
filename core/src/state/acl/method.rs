//! Auth methods and their binding rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::apply::bounded;
use super::{AclRefusal, AclState, Writing};
use crate::acl::{
    AccessorId, AuthMethod, AuthMethodName, BindingRule, BindingRuleId, Grants, Link,
};
use crate::index::Index;
use crate::limits;
use crate::login::{BindFault, Subject, bind, check_rule};
use crate::name::Datacenter;
use crate::state::{Change, Refusal, State};

impl AclState {
    /// Returns an auth method.
    pub fn auth_method(&self, name: &AuthMethodName) -> Option<Arc<AuthMethod>> {
        self.auth_methods.get(name).cloned()
    }

    /// Returns every auth method, by name.
    pub fn auth_methods(&self) -> Vec<Arc<AuthMethod>> {
        self.auth_methods.values().cloned().collect()
    }

    /// Returns a binding rule.
    pub fn binding_rule(&self, id: &BindingRuleId) -> Option<Arc<BindingRule>> {
        self.binding_rules.get(id).cloned()
    }

    /// Returns the binding rules, by id; with a method its own alone.
    pub fn binding_rules(&self, method: Option<&AuthMethodName>) -> Vec<Arc<BindingRule>> {
        let wanted = |rule: &&Arc<BindingRule>| method.is_none_or(|it| rule.auth_method == *it);
        self.binding_rules.values().filter(wanted).cloned().collect()
    }

    /// Returns when auth methods last changed.
    pub fn auth_methods_index(&self) -> Index {
        self.rows.auth_methods
    }

    /// Returns when binding rules last changed.
    pub fn binding_rules_index(&self) -> Index {
        self.rows.binding_rules
    }

    /// Puts together what a login grants. Nothing means that nobody may come in so.
    ///
    /// Roles and policies that do not exist are passed over.
    ///
    /// # Errors
    /// [`BindFault`] when a rule computes a text that is no name.
    pub fn login_grants(
        &self,
        method: &AuthMethod,
        subject: &Subject,
        datacenter: &Datacenter,
    ) -> Result<Grants, BindFault> {
        let rules = self.binding_rules(Some(&method.name));
        let rules = rules.iter().map(|rule| &**rule);
        let mut grants = bind(rules, &method.config, subject, datacenter)?;
        grants.policies.retain(|link| match link {
            Link::Id(id) => self.policy(id).is_some(),
            Link::Name(name) => self.policy_named(name).is_some(),
        });
        grants.roles.retain(|link| match link {
            Link::Id(id) => self.role(id).is_some(),
            Link::Name(name) => self.role_named(name).is_some(),
        });
        Ok(grants)
    }
}

impl State {
    pub(super) fn write_auth_method(
        &mut self,
        index: Index,
        mut method: AuthMethod,
        writing: Writing,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        let shown = method.name.as_str();
        let present = self.acl.auth_methods.get(&method.name).cloned();
        match (writing, &present) {
            (Writing::Create, Some(_)) => return Err(AclRefusal::taken("Name", shown).into()),
            (Writing::Update, None) => {
                return Err(AclRefusal::unknown("Name", "auth method", shown).into());
            }
            (Writing::Create, None) => {
                let count = self.acl.auth_methods.len();
                bounded("auth methods", count, limits::ACL_AUTH_METHODS_MAX)?;
            }
            (Writing::Update, Some(present)) if present.kind() != method.kind() => {
                return Err(AclRefusal::Fixed { field: "Type".to_owned() }.into());
            }
            (Writing::Update, Some(_)) => {}
        }
        // Rules name what the method says; they must still be able to.
        for rule in self.acl.binding_rules(Some(&method.name)) {
            check_rule(&rule, &method.config).map_err(|fault| {
                AclRefusal::BindingRule(format!("binding rule {}: {fault}", rule.id))
            })?;
        }
        (method.create_index, method.modify_index) = (index, index);
        if let Some(present) = present {
            method.create_index = present.create_index;
            method.modify_index = present.modify_index;
            if *present == method {
                return Ok(());
            }
            method.modify_index = index;
        }
        self.acl.rows.auth_methods = index;
        self.acl.auth_methods.insert(method.name.clone(), Arc::new(method));
        changes.insert(Change::AclLogins);
        Ok(())
    }

    /// Removes a method with all that came of it: who came in by it is out.
    pub(super) fn delete_auth_method(
        &mut self,
        index: Index,
        name: &AuthMethodName,
        changes: &mut BTreeSet<Change>,
    ) {
        if self.acl.auth_methods.remove(name).is_none() {
            return;
        }
        self.acl.rows.auth_methods = index;
        for rule in self.acl.binding_rules(Some(name)) {
            self.delete_binding_rule(index, &rule.id, changes);
        }
        let made: Vec<AccessorId> = self
            .acl
            .tokens
            .values()
            .filter(|token| token.auth_method == name.as_str())
            .map(|token| token.accessor.clone())
            .collect();
        for accessor in made {
            self.drop_token(index, &accessor, changes);
        }
        changes.insert(Change::AclLogins);
    }

    pub(super) fn write_binding_rule(
        &mut self,
        index: Index,
        mut rule: BindingRule,
        writing: Writing,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        let shown = rule.id.as_str();
        let present = self.acl.binding_rules.get(&rule.id).cloned();
        match (writing, &present) {
            (Writing::Create, Some(_)) => return Err(AclRefusal::taken("ID", shown).into()),
            (Writing::Update, None) => {
                return Err(AclRefusal::unknown("ID", "binding rule", shown).into());
            }
            (Writing::Create, None) => {
                let count = self.acl.binding_rules.len();
                bounded("binding rules", count, limits::ACL_BINDING_RULES_MAX)?;
            }
            (Writing::Update, Some(present)) if present.auth_method != rule.auth_method => {
                return Err(AclRefusal::Fixed { field: "AuthMethod".to_owned() }.into());
            }
            (Writing::Update, Some(_)) => {}
        }
        let method = self.acl.auth_methods.get(&rule.auth_method).ok_or_else(|| {
            AclRefusal::unknown("AuthMethod", "auth method", rule.auth_method.as_str())
        })?;
        check_rule(&rule, &method.config)
            .map_err(|fault| AclRefusal::BindingRule(fault.to_string()))?;
        (rule.create_index, rule.modify_index) = (index, index);
        if let Some(present) = present {
            rule.create_index = present.create_index;
            rule.modify_index = present.modify_index;
            if *present == rule {
                return Ok(());
            }
            rule.modify_index = index;
        }
        self.acl.rows.binding_rules = index;
        self.acl.binding_rules.insert(rule.id.clone(), Arc::new(rule));
        changes.insert(Change::AclLogins);
        Ok(())
    }

    pub(super) fn delete_binding_rule(
        &mut self,
        index: Index,
        id: &BindingRuleId,
        changes: &mut BTreeSet<Change>,
    ) {
        if self.acl.binding_rules.remove(id).is_some() {
            self.acl.rows.binding_rules = index;
            changes.insert(Change::AclLogins);
        }
    }
}
