//! A member's own certificate with its key.

use std::fmt;
use std::sync::Arc;

use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::CertificateDer;
use weft_core::ca::Leaf;
use weft_core::identity::SpiffeId;
use weft_core::time::Timestamp;

use super::peer::{PeerCertificate, peer_certificate};
use super::pem::{certificates_from_pem, key_from_pem};
use super::{TlsError, Trust, provider};

/// Who a process is towards others: chain and key, checked to belong together and to be an
/// identity that others can accept.
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    certificate: PeerCertificate,
}

impl Identity {
    /// Reads a chain (leaf first) and its key.
    ///
    /// # Errors
    /// [`TlsError`] when either is damaged, they do not belong together, or the leaf breaks the
    /// rules of an identity.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let chain = certificates_from_pem("the certificate chain", chain_pem)?;
        let certificate = peer_certificate(&chain).map_err(TlsError::Identity)?;
        let key = CertifiedKey::from_der(chain, key_from_pem(key_pem)?, &provider())
            .map_err(TlsError::Key)?;
        Ok(Self { key: Arc::new(key), certificate })
    }

    /// Reads a leaf as its holder keeps it.
    ///
    /// # Errors
    /// As [`Identity::from_pem`].
    pub fn from_leaf(leaf: &Leaf) -> Result<Self, TlsError> {
        Self::from_pem(&leaf.certificate_pem, &leaf.private_key_pem)
    }

    /// Returns the same identity with the roots sent along in the handshake, which a caller
    /// that pins a root by its fingerprint needs.
    #[must_use]
    pub fn presenting_roots(&self, trust: &Trust) -> Self {
        let mut key = (*self.key).clone();
        for root in trust.certificates() {
            if !key.cert.contains(root) {
                key.cert.push(root.clone());
            }
        }
        Self { key: Arc::new(key), certificate: self.certificate.clone() }
    }

    /// Returns who the holder is.
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.certificate.id
    }

    /// Returns until when the certificate is valid.
    pub fn valid_before(&self) -> Timestamp {
        self.certificate.valid_before
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(self.key.clone()))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", self.spiffe_id()).finish_non_exhaustive()
    }
}
