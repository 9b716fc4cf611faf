//! The certificate authority as records and decisions: what may be signed, when to renew.
//!
//! Keys and signatures are made in `server::ca` and `agent::leaf`.

pub mod csr;
mod join_token;
pub mod renewal;
mod revocation;
mod root;
pub mod rotation;
mod settings;
mod vault;

use serde::{Deserialize, Serialize};

pub use join_token::{JoinTokenRecord, MemberRole, Redemption};
pub use revocation::{InvalidSerialNumber, Revocation, RevocationSet, Revoked, SerialNumber};
pub use root::{CaRoot, CrossCertificate, KeyKind, PublicRoot, RootSource};
pub use settings::{CaSettings, CaTerms, TermsFault, is_renewal_due};
pub use vault::{VaultAccess, VaultAuth};

use crate::name::TrustDomain;
use crate::time::Timestamp;

/// What every member of the mesh trusts; the public part of the roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustBundle {
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// The fingerprint of the active root.
    pub active_root: String,
    /// The trusted roots as PEM, one certificate each; the active one first.
    pub roots_pem: Vec<String>,
    /// What else is known of them; empty until a server has told.
    #[serde(default)]
    pub roots: Vec<PublicRoot>,
    /// Whom nobody trusts although a root vouches for them, ordered by [`Revoked::key`].
    #[serde(default)]
    pub revoked: Vec<Revoked>,
    /// The fingerprints of roots that went when their time was over, the last ones: every
    /// certificate under them had been replaced. Connections that were made under one go on, where
    /// a root that goes otherwise takes its connections with it.
    ///
    /// **Shape**: at most [`crate::limits::CA_RETIRED_MAX`].
    #[serde(default)]
    pub retired: Vec<String>,
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

#[cfg(test)]
mod tests;
