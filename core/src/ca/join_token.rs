//! Join tokens as replicated: what a host shows to become a member. The secret itself is never
//! kept, only its hash; the text form is `proto::join_token`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::index::Index;
use crate::name::NodeName;
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
    /// How often it could be redeemed when it was made; `None` means until it expires.
    #[serde(default)]
    pub uses: Option<u32>,
    /// The one host that may join with it; `None` for any.
    #[serde(default)]
    pub node: Option<NodeName>,
    /// What people noted about it; at most [`crate::limits::DESCRIPTION_BYTES_MAX`] bytes.
    #[serde(default)]
    pub description: String,
    /// Whether it was withdrawn. It is kept until long after its end, so that who comes with it
    /// is told.
    #[serde(default)]
    pub is_revoked: bool,
    /// Who joined with it last, oldest first; at most
    /// [`crate::limits::JOIN_REDEMPTIONS_KEPT`], and none for one that is good for any number
    /// of hosts.
    #[serde(default)]
    pub redeemed: Vec<Redemption>,
    /// When it was made.
    #[serde(default)]
    pub create_index: Index,
    /// When it was last redeemed or withdrawn.
    #[serde(default)]
    pub modify_index: Index,
}

/// One use of a join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redemption {
    /// The host.
    pub node: NodeName,
    /// The SHA-256 of its certificate request, in lower-case hex. The same request again is the
    /// same use: its answer was lost.
    pub request_sha256: String,
    /// When.
    pub at: Timestamp,
}

impl JoinTokenRecord {
    /// Makes a token that was not used yet.
    pub fn new(
        secret_sha256: String,
        role: MemberRole,
        uses: Option<u32>,
        expires: Timestamp,
    ) -> Self {
        Self {
            secret_sha256,
            role,
            expires,
            uses_left: uses,
            uses,
            node: None,
            description: String::new(),
            is_revoked: false,
            redeemed: Vec::new(),
            create_index: Index::default(),
            modify_index: Index::default(),
        }
    }

    /// Returns the name under which operators know the token: it tells nothing of the secret.
    ///
    /// **Shape**: 16 digits of lower-case hex.
    pub fn id(&self) -> &str {
        self.secret_sha256.get(..16).unwrap_or(&self.secret_sha256)
    }
}
