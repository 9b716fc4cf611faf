//! The names of policies, roles and auth methods.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::text_type::text_type;

/// States why a text does not name a policy, role or auth method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAclName {
    /// A character is not allowed, or there is none.
    #[error("{kind} must be letters, digits, '-' and '_', at least one")]
    Characters {
        /// What was being named.
        kind: &'static str,
    },
    /// The name is too long.
    #[error("{kind} has {length} bytes, more than the {limit} allowed")]
    TooLong {
        /// What was being named.
        kind: &'static str,
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

fn check(kind: &'static str, text: &str, limit: usize) -> Result<Box<str>, InvalidAclName> {
    if text.len() > limit {
        return Err(InvalidAclName::TooLong { kind, length: text.len(), limit });
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if text.is_empty() || !text.bytes().all(allowed) {
        return Err(InvalidAclName::Characters { kind });
    }
    Ok(text.into())
}

macro_rules! acl_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        text_type!($name, InvalidAclName);
    };
}

acl_name!(
    /// Names an auth method; unique.
    ///
    /// **Shape**: 1 to 128 of `A-Z a-z 0-9 - _`.
    /// **Source**: Consul: api-docs/acl/auth-methods#name.
    AuthMethodName
);
acl_name!(
    /// Names a policy; unique.
    ///
    /// **Shape**: 1 to 128 of `A-Z a-z 0-9 - _`; those that every cluster has may start with
    /// `builtin/`.
    /// **Source**: Consul: docs/security/acl/acl-policies#policy-attributes.
    PolicyName
);
acl_name!(
    /// Names a role; unique.
    ///
    /// **Shape**: 1 to 256 of `A-Z a-z 0-9 - _`.
    /// **Source**: Consul: docs/security/acl/acl-roles#role-attributes.
    RoleName
);

impl AuthMethodName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidAclName`] when the text is none.
    pub fn parse(text: &str) -> Result<Self, InvalidAclName> {
        check("auth method name", text, limits::ACL_AUTH_METHOD_NAME_BYTES_MAX).map(Self)
    }
}

impl PolicyName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidAclName`] when the text is none.
    pub fn parse(text: &str) -> Result<Self, InvalidAclName> {
        // The one name that a rule on names would refuse, and that must be read back.
        if text == Self::GLOBAL_READ_ONLY {
            return Ok(Self(text.into()));
        }
        check("policy name", text, limits::ACL_POLICY_NAME_BYTES_MAX).map(Self)
    }

    pub(super) const GLOBAL_READ_ONLY: &'static str = "builtin/global-read-only";
    pub(super) const GLOBAL_MANAGEMENT: &'static str = "global-management";

    pub(super) fn builtin(text: &'static str) -> Self {
        Self(text.into())
    }
}

impl RoleName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidAclName`] when the text is none.
    pub fn parse(text: &str) -> Result<Self, InvalidAclName> {
        check("role name", text, limits::ACL_ROLE_NAME_BYTES_MAX).map(Self)
    }
}
