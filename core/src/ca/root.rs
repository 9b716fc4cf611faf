//! Roots as replicated: the certificate, who signs under it, and how long it is still trusted.

use serde::{Deserialize, Serialize};

use super::vault::VaultAccess;
use crate::index::Index;
use crate::time::Timestamp;

/// A root certificate of the mesh.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRoot {
    /// The SHA-256 of the certificate's DER, in lower-case hex; what join tokens pin.
    pub fingerprint: String,
    /// A name for people; the certificate's common name.
    pub name: String,
    /// The certificate.
    pub certificate_pem: String,
    /// What signs under the root, sealed with the cluster's seal key: the root's private key, that
    /// of a given intermediate, or the secret for Vault. Never leaves the servers.
    pub sealed_key: Vec<u8>,
    /// Since when it is valid.
    pub valid_after: Timestamp,
    /// Until when it is valid.
    pub valid_before: Timestamp,
    /// Whether new certificates are signed under it; exactly one root is active.
    pub active: bool,
    /// Who signs under it.
    #[serde(default)]
    pub source: RootSource,
    /// The kind of its key.
    #[serde(default)]
    pub key_kind: KeyKind,
    /// Certificates of its key by the roots before it, for who does not know it yet.
    ///
    /// **Shape**: one for each root that is trusted and could sign it, at most
    /// [`crate::limits::CA_ROOTS_MAX`].
    #[serde(default)]
    pub cross_signed: Vec<CrossCertificate>,
    /// When another root took its place, by the leader's clock.
    #[serde(default)]
    pub rotated_out_at: Option<Timestamp>,
    /// Until when it is trusted after that; `None` means until it is removed by hand.
    #[serde(default)]
    pub trusted_until: Option<Timestamp>,
    /// When the root was created.
    #[serde(default)]
    pub create_index: Index,
    /// When the root last changed.
    #[serde(default)]
    pub modify_index: Index,
}

/// What everyone may know of a root, beside its certificate: the key stays with the servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicRoot {
    /// [`CaRoot::fingerprint`].
    pub fingerprint: String,
    /// [`CaRoot::name`].
    pub name: String,
    /// [`CaRoot::valid_after`].
    pub valid_after: Timestamp,
    /// [`CaRoot::valid_before`].
    pub valid_before: Timestamp,
    /// What stands between leaves and other roots that may be trusted, as PEM: the root certified
    /// by each of those, and an intermediate that was given.
    pub intermediates_pem: Vec<String>,
    /// [`CaRoot::key_kind`].
    pub key_kind: KeyKind,
    /// [`CaRoot::rotated_out_at`].
    pub rotated_out_at: Option<Timestamp>,
    /// [`CaRoot::trusted_until`].
    pub trusted_until: Option<Timestamp>,
    /// [`CaRoot::create_index`].
    pub create_index: Index,
    /// [`CaRoot::modify_index`].
    pub modify_index: Index,
}

/// Who signs under a root.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootSource {
    /// We made it and hold its key.
    #[default]
    BuiltIn,
    /// An operator gave it with its key.
    Given,
    /// An operator gave an intermediate with its key; the root's key is elsewhere.
    Intermediate {
        /// The intermediate and what stands between it and the root, as PEM.
        chain_pem: String,
    },
    /// HashiCorp Vault has its key.
    Vault(VaultAccess),
}

impl CaRoot {
    /// Returns what everyone may know of it.
    pub fn public(&self) -> PublicRoot {
        let crossed = self.cross_signed.iter().map(|cross| cross.certificate_pem.clone());
        let mut intermediates_pem: Vec<String> = crossed.collect();
        match &self.source {
            RootSource::Intermediate { chain_pem } => intermediates_pem.push(chain_pem.clone()),
            RootSource::BuiltIn | RootSource::Given | RootSource::Vault(_) => {}
        }
        PublicRoot {
            fingerprint: self.fingerprint.clone(),
            name: self.name.clone(),
            valid_after: self.valid_after,
            valid_before: self.valid_before,
            intermediates_pem,
            key_kind: self.key_kind,
            rotated_out_at: self.rotated_out_at,
            trusted_until: self.trusted_until,
            create_index: self.create_index,
            modify_index: self.modify_index,
        }
    }
}

impl RootSource {
    /// Returns the provider's name as clients of Consul know it.
    pub fn provider(&self) -> &'static str {
        match self {
            Self::BuiltIn | Self::Given | Self::Intermediate { .. } => "consul",
            Self::Vault(_) => "vault",
        }
    }
}

/// A certificate of a root's key by another root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrossCertificate {
    /// The fingerprint of the root that signed it.
    pub by: String,
    /// The certificate.
    pub certificate_pem: String,
}

/// The kind of a key of the CA.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum KeyKind {
    /// EC P-256: small, fast, understood everywhere.
    #[default]
    EcP256,
    /// EC P-384.
    EcP384,
    /// Ed25519: understood by our proxies, not by browsers and many a TLS library.
    Ed25519,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 4096 bits.
    Rsa4096,
}

impl KeyKind {
    /// Reads type and bits as clients of Consul write them; 0 bits stands for the type's default.
    pub fn parse(kind: &str, bits: u64) -> Option<Self> {
        match (kind, bits) {
            ("ec", 0 | 256) => Some(Self::EcP256),
            ("ec", 384) => Some(Self::EcP384),
            ("ed25519", 0 | 256) => Some(Self::Ed25519),
            ("rsa", 0 | 2048) => Some(Self::Rsa2048),
            ("rsa", 4096) => Some(Self::Rsa4096),
            _ => None,
        }
    }

    /// Returns type and bits as clients of Consul read them.
    pub fn parts(self) -> (&'static str, u32) {
        match self {
            Self::EcP256 => ("ec", 256),
            Self::EcP384 => ("ec", 384),
            Self::Ed25519 => ("ed25519", 256),
            Self::Rsa2048 => ("rsa", 2048),
            Self::Rsa4096 => ("rsa", 4096),
        }
    }
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
