//! What tokens, policies, roles and binding rules are found by: UUIDs, one type for each.

use serde::{Deserialize, Serialize};

use crate::text_type::text_type;

/// States that a text is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not a UUID, such as 8ec7d1a4-0c5b-4f0e-9a55-2f0d6c1e7b3a")]
pub struct InvalidAclId {
    kind: &'static str,
    text: String,
}

/// Characters of a wrong id that a message repeats.
const SHOWN_CHARS_MAX: usize = 64;

fn uuid(kind: &'static str, text: &str) -> Result<Box<str>, InvalidAclId> {
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if !is_uuid {
        return Err(InvalidAclId { kind, text: text.chars().take(SHOWN_CHARS_MAX).collect() });
    }
    Ok(text.to_ascii_lowercase().into())
}

macro_rules! acl_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Parses a UUID in its usual form; letters are folded to lower case.
            ///
            /// # Errors
            /// [`InvalidAclId`] when the text is none.
            pub fn parse(text: &str) -> Result<Self, InvalidAclId> {
                uuid($kind, text).map(Self)
            }
        }

        text_type!($name, InvalidAclId);
    };
}

acl_id!(
    /// The public name of a token; it opens nothing and may be logged.
    AccessorId, "AccessorID"
);
acl_id!(
    /// Identifies a binding rule.
    BindingRuleId, "binding rule ID"
);
acl_id!(
    /// Identifies a policy.
    PolicyId, "policy ID"
);
acl_id!(
    /// Identifies a role.
    RoleId, "role ID"
);

/// Returns one of the ids that every cluster has.
fn well_known(last: u8) -> Box<str> {
    format!("00000000-0000-0000-0000-{last:012}").into()
}

impl AccessorId {
    /// Returns the accessor of the token that stands for requests without one.
    ///
    /// **Source**: Consul: docs/security/acl/tokens#special-purpose-tokens.
    pub fn anonymous() -> Self {
        Self(well_known(2))
    }
}

impl PolicyId {
    /// Returns the id of `global-management`, which grants everything.
    ///
    /// **Source**: Consul: docs/security/acl/acl-policies#built-in-policies.
    pub fn global_management() -> Self {
        Self(well_known(1))
    }

    /// Returns the id of `builtin/global-read-only`.
    pub fn global_read_only() -> Self {
        Self(well_known(2))
    }

    /// Whether the policy is one that every cluster has, and that cannot be changed.
    pub fn is_builtin(&self) -> bool {
        *self == Self::global_management() || *self == Self::global_read_only()
    }
}
