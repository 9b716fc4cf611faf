//! The roots that a member trusts.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use weft_core::ca::{RevocationSet, TrustBundle};
use weft_core::name::TrustDomain;

use super::TlsError;
use super::pem::certificates_from_pem;

/// A trust bundle, parsed: chains must end in one of its roots and identities be of its domain.
#[derive(Clone)]
pub struct Trust {
    domain: TrustDomain,
    certificates: Vec<CertificateDer<'static>>,
    store: Arc<RootCertStore>,
    revoked: Arc<RevocationSet>,
}

impl Trust {
    /// Parses a bundle.
    ///
    /// # Errors
    /// [`TlsError`] when it has no root, or one is damaged: a bundle is taken whole or not.
    pub fn from_bundle(bundle: &TrustBundle) -> Result<Self, TlsError> {
        let mut certificates = Vec::with_capacity(bundle.roots_pem.len());
        for pem in &bundle.roots_pem {
            certificates.extend(certificates_from_pem("a root", pem)?);
        }
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate { what: "the trust bundle" });
        }
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store.add(certificate.clone()).map_err(TlsError::Root)?;
        }
        let revoked = Arc::new(RevocationSet::new(&bundle.revoked));
        let (domain, store) = (bundle.trust_domain.clone(), Arc::new(store));
        Ok(Self { domain, certificates, store, revoked })
    }

    /// Returns the domain whose identities are accepted.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Returns the roots; the active one first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(super) fn revoked(&self) -> &Arc<RevocationSet> {
        &self.revoked
    }

    pub(super) fn store(&self) -> &Arc<RootCertStore> {
        &self.store
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("domain", &self.domain)
            .field("roots", &self.certificates.len())
            .finish_non_exhaustive()
    }
}
