//! The certificate authority as records and decisions: what may be signed, when to renew.
//!
//! Keys and signatures are made in `server::ca` and `agent::leaf`.

pub mod csr;
mod join_token;
pub mod renewal;
mod revocation;

use serde::{Deserialize, Serialize};

pub use join_token::{JoinTokenRecord, MemberRole, Redemption};
pub use revocation::{InvalidSerialNumber, Revocation, RevocationSet, Revoked, SerialNumber};

use crate::index::Index;
use crate::name::TrustDomain;
use crate::time::{Span, Timestamp};

/// A root certificate of the mesh.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRoot {
    /// The SHA-256 of the certificate's DER, in lower-case hex; what join tokens pin.
    pub fingerprint: String,
    /// A name for people; the certificate's common name.
    pub name: String,
    /// The certificate.
    pub certificate_pem: String,
    /// The root's private key, sealed with the cluster's seal key; never leaves the servers.
    pub sealed_key: Vec<u8>,
    /// Since when it is valid.
    pub valid_after: Timestamp,
    /// Until when it is valid.
    pub valid_before: Timestamp,
    /// Whether new certificates are signed under it; exactly one root is active.
    pub active: bool,
    /// When the root was created.
    #[serde(default)]
    pub create_index: Index,
    /// When the root last changed.
    #[serde(default)]
    pub modify_index: Index,
}

impl std::fmt::Debug for CaRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaRoot")
            .field("fingerprint", &self.fingerprint)
            .field("active", &self.active)
            .field("valid_before", &self.valid_before)
            .finish_non_exhaustive()
    }
}

/// How the CA signs, as operators say; what is not said is as servers are configured.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaSettings {
    /// How long leaf certificates are valid.
    #[serde(default)]
    pub leaf_lifetime: Option<Span>,
    /// When the settings were first written.
    #[serde(default)]
    pub create_index: Index,
    /// When they last changed.
    #[serde(default)]
    pub modify_index: Index,
}

/// What every member of the mesh trusts; the public part of the roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustBundle {
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// The fingerprint of the active root.
    pub active_root: String,
    /// The trusted roots as PEM, one certificate each; the active one first.
    pub roots_pem: Vec<String>,
    /// Whom nobody trusts although a root vouches for them, ordered by [`Revoked::key`].
    #[serde(default)]
    pub revoked: Vec<Revoked>,
}

/// A certificate with its private key, as its holder keeps it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// The certificate and the intermediates above it, as PEM, leaf first.
    pub certificate_pem: String,
    /// The private key, PKCS#8 PEM. Never logged.
    pub private_key_pem: String,
    /// Since when it is valid.
    pub valid_after: Timestamp,
    /// Until when it is valid.
    pub valid_before: Timestamp,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf")
            .field("valid_after", &self.valid_after)
            .field("valid_before", &self.valid_before)
            .finish_non_exhaustive()
    }
}
