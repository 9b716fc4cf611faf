//! What can be asked of ACLs, and why it is refused.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::acl::{
    AccessorId, AuthMethod, AuthMethodName, BindingRule, BindingRuleId, Grants, Policy, PolicyId,
    RoleId, RoleName, SecretHash,
};
use crate::index::Index;
use crate::time::{Span, Timestamp};

/// One write to ACLs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AclCommand {
    /// Makes the first management token; once, unless a reset is asked for.
    Bootstrap {
        /// Its accessor.
        accessor: AccessorId,
        /// The digest of its secret.
        secret: SecretHash,
        /// The index of the bootstrap that is to be done over.
        reset: Option<Index>,
    },
    /// Removes an auth method with its binding rules, and every token that was made by it.
    DeleteAuthMethod {
        /// The method.
        name: AuthMethodName,
    },
    /// Removes a binding rule. Tokens that were made under it stay as they are.
    DeleteBindingRule {
        /// The rule.
        id: BindingRuleId,
    },
    /// Removes a policy; what named it grants it no more.
    DeletePolicy {
        /// The policy.
        id: PolicyId,
    },
    /// Removes a role; what named it grants it no more.
    DeleteRole {
        /// The role.
        id: RoleId,
    },
    /// Removes a token.
    DeleteToken {
        /// The token.
        accessor: AccessorId,
    },
    /// Sees to it that the secret of the configuration is that of a management token.
    InitialManagement {
        /// The accessor, if a token must be made.
        accessor: AccessorId,
        /// The digest of the secret.
        secret: SecretHash,
    },
    /// Removes tokens whose time is over, at most
    /// [`ACL_TOKENS_PER_REAP_MAX`](crate::limits::ACL_TOKENS_PER_REAP_MAX).
    ReapTokens,
    /// Creates or changes an auth method.
    WriteAuthMethod {
        /// The method; its indexes are ignored.
        method: AuthMethod,
        /// Whether it must be there.
        writing: Writing,
    },
    /// Creates or changes a binding rule.
    WriteBindingRule {
        /// The rule; its indexes are ignored.
        rule: BindingRule,
        /// Whether it must be there.
        writing: Writing,
    },
    /// Creates or changes a policy.
    WritePolicy {
        /// The policy; its indexes are ignored.
        policy: Policy,
        /// Whether it must be there.
        writing: Writing,
    },
    /// Creates or changes a role.
    WriteRole {
        /// The role.
        role: RoleDraft,
        /// Whether it must be there.
        writing: Writing,
    },
    /// Creates or changes a token.
    WriteToken {
        /// The token.
        token: TokenDraft,
        /// Whether it must be there.
        writing: Writing,
    },
}

/// Whether a record must be there before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writing {
    /// It must not.
    Create,
    /// It must.
    Update,
}

/// A role as it is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoleDraft {
    /// What it will be found by.
    pub id: RoleId,
    /// Its name.
    pub name: RoleName,
    /// A remark for people.
    #[serde(default)]
    pub description: String,
    /// What it grants; no roles.
    #[serde(default)]
    pub grants: Grants,
}

/// A token as it is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenDraft {
    /// What it will be found by.
    pub accessor: AccessorId,
    /// The digest of its secret. Needed for a new token; for one that is there `None`, or the
    /// same.
    #[serde(default)]
    pub secret: Option<SecretHash>,
    /// A remark for people.
    #[serde(default)]
    pub description: String,
    /// What it grants.
    #[serde(default)]
    pub grants: Grants,
    /// Whether it is for this datacenter alone. Cannot be changed; `None` leaves it.
    #[serde(default)]
    pub local: Option<bool>,
    /// The auth method that makes it; empty for an operator. Cannot be changed.
    #[serde(default)]
    pub auth_method: String,
    /// When it ends. Cannot be changed.
    #[serde(default)]
    pub expiry: Expiry,
}

/// When a token ends.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiry {
    /// So long after it is made.
    After(Duration),
    /// At that moment.
    At(Timestamp),
    /// Never; for a token that is there: when it did before.
    #[default]
    Unsaid,
}

/// Why a write to ACLs was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AclRefusal {
    /// The anonymous token stays.
    #[error("Delete operation not permitted on the anonymous token")]
    AnonymousToken,
    /// A binding rule does not suit its auth method.
    #[error("{0}")]
    BindingRule(String),
    /// There has been a bootstrap before.
    #[error("ACL bootstrap no longer allowed (reset index: {reset})")]
    BootstrapDone {
        /// The number that a reset must name.
        reset: Index,
    },
    /// A policy that every cluster has stays as it is.
    #[error("the policy {name:?} is built in and cannot be changed or removed")]
    BuiltinPolicy {
        /// Its name.
        name: String,
    },
    /// A field of a token that is there has another value.
    #[error("{field}: cannot be changed once the token exists; make a new token")]
    Fixed {
        /// The field.
        field: String,
    },
    /// The time at which a token ends is too near or too far.
    #[error(
        "Expiration: the token would live {given}; it must be between {least} and {most}",
        given = Span(*.given), least = Span(*.least), most = Span(*.most)
    )]
    Lifetime {
        /// What was asked.
        given: Duration,
        /// The least.
        least: Duration,
        /// The most.
        most: Duration,
    },
    /// What is to be created is there.
    #[error("{field}: {value:?} is already in use; choose another one")]
    Taken {
        /// The field.
        field: String,
        /// Its value; empty for a secret.
        value: String,
    },
    /// Roles do not grant roles.
    #[error("Roles: a role cannot grant roles")]
    RoleInRole,
    /// Something that was named is not there.
    #[error("{field}: there is no {kind} {value:?}")]
    Unknown {
        /// The field that names it.
        field: String,
        /// What it would be.
        kind: String,
        /// The name or id.
        value: String,
    },
    /// A rule of a policy cannot be.
    #[error("Rules: a rule on {resource} cannot have this shape")]
    Rule {
        /// What it is about.
        resource: String,
    },
}

impl AclRefusal {
    pub(super) fn taken(field: &str, value: &str) -> Self {
        Self::Taken { field: field.to_owned(), value: value.to_owned() }
    }

    pub(super) fn unknown(field: &str, kind: &str, value: impl Into<String>) -> Self {
        Self::Unknown { field: field.to_owned(), kind: kind.to_owned(), value: value.into() }
    }
}
