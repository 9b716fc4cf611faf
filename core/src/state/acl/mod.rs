//! ACLs in the replicated state: tokens, policies and roles, and what they come to.
//!
//! The policies that every cluster has, and the anonymous token until someone writes it, are
//! not stored; they are answered as if they were.

mod apply;
mod command;
mod links;
mod method;
mod reap;
mod records;
mod token;

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::State;
use crate::acl::{
    AccessorId, AuthMethod, AuthMethodName, Authorizer, BindingRule, BindingRuleId, DefaultPolicy,
    Granted, Policy, PolicyId, PolicyName, Role, RoleId, RoleName, Rules, SecretHash, SecretPrefix,
    Token,
};
use crate::index::Index;
use crate::name::Datacenter;
use crate::time::Timestamp;
use crate::watch::Topic;

pub use command::{AclCommand, AclRefusal, Expiry, RoleDraft, TokenDraft, Writing};
pub use records::AclRecords;

/// Tokens, policies and roles.
///
/// **Shape**: `secrets` and `expiring` are derived from `tokens`, and the names from the records
/// that bear them.
#[derive(Debug, Default, Clone)]
pub struct AclState {
    tokens: OrdMap<AccessorId, Arc<Token>>,
    secrets: OrdMap<Hidden, AccessorId>,
    expiring: OrdSet<(Timestamp, AccessorId)>,
    policies: OrdMap<PolicyId, Arc<Policy>>,
    policy_names: OrdMap<PolicyName, PolicyId>,
    roles: OrdMap<RoleId, Arc<Role>>,
    role_names: OrdMap<RoleName, RoleId>,
    auth_methods: OrdMap<AuthMethodName, Arc<AuthMethod>>,
    binding_rules: OrdMap<BindingRuleId, Arc<BindingRule>>,
    rows: AclRows,
}

/// When each part last changed.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AclRows {
    #[serde(default)]
    auth_methods: Index,
    #[serde(default)]
    binding_rules: Index,
    /// When the first management token was made; the number that a reset must name.
    #[serde(default)]
    bootstrap: Option<Index>,
    #[serde(default)]
    policies: Index,
    #[serde(default)]
    roles: Index,
    #[serde(default)]
    tokens: Index,
}

/// What a token is looked up by; kept out of every log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Hidden(SecretPrefix);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden(…)")
    }
}

impl State {
    /// Returns tokens, policies and roles.
    pub fn acl(&self) -> &AclState {
        &self.acl
    }
}

impl AclState {
    /// Returns a token, also when its time is over and it has not been removed yet.
    pub fn token(&self, accessor: &AccessorId) -> Option<Arc<Token>> {
        match self.tokens.get(accessor) {
            Some(token) => Some(token.clone()),
            None if *accessor == AccessorId::anonymous() => Some(Arc::new(Token::anonymous())),
            None => None,
        }
    }

    /// Returns the token of a secret. One whose time is over is none.
    pub fn token_of_secret(&self, secret: &SecretHash, now: Timestamp) -> Option<Arc<Token>> {
        let accessor = self.secrets.get(&Hidden(secret.prefix()))?;
        let token = self.tokens.get(accessor)?;
        let matches = token.secret.as_ref().is_some_and(|own| own.matches(secret));
        (matches && !token.is_expired(now)).then(|| token.clone())
    }

    /// Returns every token that has not ended, by accessor.
    pub fn tokens(&self, now: Timestamp) -> Vec<Arc<Token>> {
        let anonymous = AccessorId::anonymous();
        let implied = (!self.tokens.contains_key(&anonymous)).then(Token::anonymous).map(Arc::new);
        let stored = self.tokens.values().filter(|token| !token.is_expired(now)).cloned();
        implied.into_iter().chain(stored).collect()
    }

    /// Returns a policy.
    pub fn policy(&self, id: &PolicyId) -> Option<Arc<Policy>> {
        self.policies.get(id).cloned().or_else(|| builtin().into_iter().find(|it| it.id == *id))
    }

    /// Returns the policy of a name.
    pub fn policy_named(&self, name: &PolicyName) -> Option<Arc<Policy>> {
        match self.policy_names.get(name) {
            Some(id) => self.policy(id),
            None => builtin().into_iter().find(|it| it.name == *name),
        }
    }

    /// Returns every policy, those of every cluster first, then by id.
    pub fn policies(&self) -> Vec<Arc<Policy>> {
        builtin().into_iter().chain(self.policies.values().cloned()).collect()
    }

    /// Returns a role.
    pub fn role(&self, id: &RoleId) -> Option<Arc<Role>> {
        self.roles.get(id).cloned()
    }

    /// Returns the role of a name.
    pub fn role_named(&self, name: &RoleName) -> Option<Arc<Role>> {
        self.role(self.role_names.get(name)?)
    }

    /// Returns every role, by id.
    pub fn roles(&self) -> Vec<Arc<Role>> {
        self.roles.values().cloned().collect()
    }

    /// Returns when tokens last changed.
    pub fn tokens_index(&self) -> Index {
        self.rows.tokens
    }

    /// Returns when policies last changed.
    pub fn policies_index(&self) -> Index {
        self.rows.policies
    }

    /// Returns when roles last changed.
    pub fn roles_index(&self) -> Index {
        self.rows.roles
    }

    /// Returns when the first management token was made, `None` while it may still be made.
    pub fn bootstrapped(&self) -> Option<Index> {
        self.rows.bootstrap
    }

    /// Returns when the next token ends.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.expiring.get_min().map(|(end, _)| *end)
    }

    /// Puts the rules together that a token has in a datacenter.
    ///
    /// The result stays right until the token or any policy or role changes.
    pub fn authorizer(
        &self,
        token: &Token,
        datacenter: &Datacenter,
        default: DefaultPolicy,
    ) -> Authorizer {
        let roles: Vec<Arc<Role>> =
            token.granted.roles.iter().filter_map(|id| self.role(id)).collect();
        let granted =
            || std::iter::once(&token.granted).chain(roles.iter().map(|role| &role.granted));
        let policies: Vec<Arc<Policy>> = granted()
            .flat_map(|granted| &granted.policies)
            .filter_map(|id| self.policy(id))
            .filter(|policy| policy.holds_in(datacenter))
            .collect();
        let own: Vec<Rules> =
            granted().flat_map(|granted: &Granted| granted.own_rules(datacenter)).collect();
        Authorizer::new(default, policies.iter().map(|policy| &policy.rules).chain(&own))
    }

    /// Returns what must be watched by who relies on what a token may do.
    pub fn topics_of(&self, token: &Token) -> Vec<Topic> {
        let mut topics = vec![Topic::AclToken(token.accessor.clone())];
        let roles = token.granted.roles.iter();
        let granted_by_roles = roles.clone().filter_map(|id| self.roles.get(id));
        let policies = granted_by_roles
            .flat_map(|role| &role.granted.policies)
            .chain(&token.granted.policies)
            .filter(|id| !id.is_builtin());
        topics.extend(policies.map(|id| Topic::AclPolicy(id.clone())));
        topics.extend(roles.map(|id| Topic::AclRole(id.clone())));
        topics
    }
}

/// The policies that every cluster has.
fn builtin() -> [Arc<Policy>; 2] {
    [Arc::new(Policy::global_management()), Arc::new(Policy::global_read_only())]
}
