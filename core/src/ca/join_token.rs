//! Join tokens as replicated: what a host shows to become a member. The secret itself is never
//! kept, only its hash; the text form is `proto::join_token`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::index::Index;
use crate::time::Timestamp;

/// What a member of the mesh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// Registers services of its host and serves the local API.
    Agent,
    /// Takes part in consensus and signs certificates.
    Server,
}

impl MemberRole {
    /// Returns the word for people and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Server => "server",
        }
    }
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A join token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenRecord {
    /// The SHA-256 of the secret, in lower-case hex; what the token is found by.
    pub secret_sha256: String,
    /// What its holder may become.
    pub role: MemberRole,
    /// From when on it is worth nothing.
    pub expires: Timestamp,
    /// How often it may still be redeemed; `None` means until it expires.
    #[serde(default)]
    pub uses_left: Option<u32>,
    /// When it was made.
    #[serde(default)]
    pub create_index: Index,
    /// When it was last redeemed.
    #[serde(default)]
    pub modify_index: Index,
}
