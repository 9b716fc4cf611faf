//! ACLs as plain records, for snapshots.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AclRows, AclState};
use crate::acl::{AuthMethod, BindingRule, Policy, Role, Token};
use crate::index::Index;
use crate::state::rebase::earlier;

/// [`AclState`] in the form in which it is written down. Secrets are in it as digests only.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct AclRecords {
    #[serde(default)]
    auth_methods: Vec<Arc<AuthMethod>>,
    #[serde(default)]
    binding_rules: Vec<Arc<BindingRule>>,
    #[serde(default)]
    policies: Vec<Arc<Policy>>,
    #[serde(default)]
    roles: Vec<Arc<Role>>,
    #[serde(default)]
    tokens: Vec<Arc<Token>>,
    #[serde(default)]
    rows: AclRows,
}

impl AclRecords {
    /// Makes no record later than `most`.
    pub(in crate::state) fn bring_before(&mut self, most: Index) {
        self.auth_methods.iter_mut().for_each(|method| earlier!(method, most));
        self.binding_rules.iter_mut().for_each(|rule| earlier!(rule, most));
        self.policies.iter_mut().for_each(|policy| earlier!(policy, most));
        self.roles.iter_mut().for_each(|role| earlier!(role, most));
        self.tokens.iter_mut().for_each(|token| earlier!(token, most));
        let AclRows { auth_methods, binding_rules, bootstrap, policies, roles, tokens } =
            &mut self.rows;
        for index in [auth_methods, binding_rules, policies, roles, tokens] {
            *index = (*index).min(most);
        }
        *bootstrap = bootstrap.map(|index| index.min(most));
    }
}

impl AclState {
    pub(in crate::state) fn to_records(&self) -> AclRecords {
        AclRecords {
            auth_methods: self.auth_methods.values().cloned().collect(),
            binding_rules: self.binding_rules.values().cloned().collect(),
            policies: self.policies.values().cloned().collect(),
            roles: self.roles.values().cloned().collect(),
            tokens: self.tokens.values().cloned().collect(),
            rows: self.rows.clone(),
        }
    }

    pub(in crate::state) fn from_records(records: AclRecords) -> Self {
        let AclRecords { auth_methods, binding_rules, policies, roles, tokens, rows } = records;
        let mut acl = Self { rows, ..Self::default() };
        acl.auth_methods = auth_methods.into_iter().map(|it| (it.name.clone(), it)).collect();
        acl.binding_rules = binding_rules.into_iter().map(|it| (it.id.clone(), it)).collect();
        for policy in policies {
            acl.policy_names.insert(policy.name.clone(), policy.id.clone());
            acl.policies.insert(policy.id.clone(), policy);
        }
        for role in roles {
            acl.role_names.insert(role.name.clone(), role.id.clone());
            acl.roles.insert(role.id.clone(), role);
        }
        for token in tokens {
            acl.insert_token(token);
        }
        acl
    }
}
