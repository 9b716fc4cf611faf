//! Tokens: whoever shows the secret of one may do what it grants.

use serde::{Deserialize, Serialize};

use super::{AccessorId, Granted, Policy, PolicyId, SecretHash};
use crate::index::Index;
use crate::time::Timestamp;

/// A token, as it is kept; the secret itself is known only to who was given it.
///
/// **Source**: Consul: docs/security/acl/tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What it is found by, and named in denials.
    pub accessor: AccessorId,
    /// The digest of its secret; `None` for the anonymous token, which nobody shows.
    #[serde(default)]
    pub secret: Option<SecretHash>,
    /// A remark for people.
    #[serde(default)]
    pub description: String,
    /// What it grants.
    #[serde(default)]
    pub granted: Granted,
    /// Whether it is for this datacenter alone.
    #[serde(default)]
    pub local: bool,
    /// The auth method that it was made by, empty when an operator made it.
    #[serde(default)]
    pub auth_method: String,
    /// When it was made.
    #[serde(default)]
    pub created: Timestamp,
    /// From when on it is worth nothing; `None` means it does not end.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// When it was made.
    #[serde(default)]
    pub create_index: Index,
    /// When it last changed.
    #[serde(default)]
    pub modify_index: Index,
}

impl Token {
    /// Returns the token that stands for requests without one, as every cluster has it: it grants
    /// nothing by itself.
    pub fn anonymous() -> Self {
        Self {
            accessor: AccessorId::anonymous(),
            secret: None,
            description: "Anonymous Token".to_owned(),
            granted: Granted::default(),
            local: false,
            auth_method: String::new(),
            created: Timestamp::default(),
            expires: None,
            create_index: Index::default(),
            modify_index: Index::default(),
        }
    }

    /// Returns the token with which ACLs begin: it may do everything.
    pub fn initial_management(accessor: AccessorId, secret: SecretHash) -> Self {
        let granted =
            Granted { policies: vec![PolicyId::global_management()], ..Granted::default() };
        Self {
            accessor,
            secret: Some(secret),
            description: "Bootstrap Token (Global Management)".to_owned(),
            granted,
            ..Self::anonymous()
        }
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    /// Whether it grants everything.
    pub fn is_management(&self) -> bool {
        self.granted.policies.contains(&Policy::global_management().id)
    }
}
