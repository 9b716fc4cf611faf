//! Certificates over restarts of the agent: one file each, with its key.
//!
//! A certificate is on disk before it is used, so that a restart while no server signs goes on
//! with it. What has ended, or would be refused by peers, is not taken up again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::warn;
use weft_core::ca::{Leaf, RevocationSet, TrustBundle};
use weft_core::identity::SpiffeId;
use weft_core::name::ServiceName;
use weft_core::time::Timestamp;
use weft_proto::envelope;
use weft_runtime::clock;
use weft_runtime::task::{TaskFailure, TaskTree};
use weft_runtime::tls::{
    Identity, PeerCertificate, TlsError, Trust, certificates_from_pem, fingerprint,
    peer_certificate,
};

use crate::keep::{Durability, Keep, Verdict};
use crate::servers::Membership;

/// The certificates of an earlier run, and the folder where those of this one are kept.
#[derive(Debug, Default)]
pub struct KeptLeaves {
    pub(super) keep: Option<Arc<Keep>>,
    pub(super) leaves: BTreeMap<ServiceName, Leaf>,
}

impl KeptLeaves {
    /// Opens the folder and takes what is of this cluster and trusted by one of the bundles.
    ///
    /// # Errors
    /// [`TaskFailure`] when the process is shutting down.
    pub async fn open(
        folder: PathBuf,
        membership: Arc<Membership>,
        trusted: Vec<TrustBundle>,
        tasks: &TaskTree,
    ) -> Result<Self, TaskFailure> {
        tasks.blocking(move || Self::load(folder, &membership, &trusted, clock::wall())).await
    }

    pub(super) fn load(
        folder: PathBuf,
        membership: &Membership,
        trusted: &[TrustBundle],
        now: Timestamp,
    ) -> Self {
        let mut leaves = BTreeMap::new();
        let keep = Keep::open(folder, &membership.cluster_id, |key, content| {
            let service: ServiceName = match key.parse() {
                Ok(service) => service,
                Err(invalid) => return Verdict::Damaged(Box::new(invalid)),
            };
            let leaf: Leaf = match envelope::decode(content) {
                Ok(leaf) => leaf,
                Err(invalid) => return Verdict::Damaged(Box::new(invalid)),
            };
            if leaf.valid_before <= now {
                return Verdict::Dropped("the certificate has ended");
            }
            match check(&leaf, trusted, now) {
                Ok(found) if found == identity(membership, &service) => {
                    leaves.insert(service, leaf);
                    Verdict::Taken
                }
                Ok(_) => Verdict::Dropped("the certificate is for another identity"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(%service, error, "a kept certificate would be refused by peers");
                    Verdict::Dropped("the certificate would be refused by peers")
                }
            }
        });
        Self { keep: Some(Arc::new(keep)), leaves }
    }
}

/// Returns the identity that a certificate for a service of this host must have.
pub(super) fn identity(membership: &Membership, service: &ServiceName) -> SpiffeId {
    let Membership { trust_domain, datacenter, .. } = membership;
    SpiffeId::service(trust_domain.clone(), datacenter.clone(), service.clone())
}

/// Checks a certificate as peers will; one of the bundles must vouch for it.
pub(super) fn check(
    leaf: &Leaf,
    trusted: &[TrustBundle],
    now: Timestamp,
) -> Result<SpiffeId, TlsError> {
    let identity = Identity::from_leaf(leaf)?;
    let mut verdict = Err(TlsError::NoCertificate { what: "the trust bundle" });
    for bundle in trusted {
        verdict = Trust::from_bundle(bundle).and_then(|trust| trust.check(&identity, now));
        if verdict.is_ok() {
            break;
        }
    }
    verdict.map(|()| identity.spiffe_id().clone())
}

/// Whether the active root vouches for a certificate; others of the bundle may be on their way
/// out.
pub(super) fn is_of_active_root(leaf: &Leaf, bundle: &TrustBundle, now: Timestamp) -> bool {
    let is_active = |pem: &&String| {
        certificates_from_pem("a root", pem)
            .is_ok_and(|roots| roots.iter().any(|root| fingerprint(root) == bundle.active_root))
    };
    let roots_pem = bundle.roots_pem.iter().filter(is_active).cloned().collect();
    let active = TrustBundle { roots_pem, ..bundle.clone() };
    check(leaf, &[active], now).is_ok()
}

/// Whether others refuse a certificate because it, or its identity, was revoked.
pub(super) fn is_revoked(leaf: &Leaf, bundle: &TrustBundle) -> bool {
    let chain = certificates_from_pem("a certificate", &leaf.certificate_pem).unwrap_or_default();
    peer_certificate(&chain).is_ok_and(|found| {
        let PeerCertificate { id, serial, valid_after, .. } = found;
        RevocationSet::new(&bundle.revoked).has(&id, &serial, valid_after)
    })
}

/// Writes a certificate down; a failure is logged, as the certificate serves anyway.
pub(super) fn write(keep: &Keep, service: &ServiceName, leaf: &Leaf) {
    let kept = keep.put(service.as_str(), &envelope::encode(leaf), Durability::Synced);
    if let Err(failure) = kept {
        let error = &failure as &dyn std::error::Error;
        warn!(%service, error, "a certificate cannot be kept; a restart will need another one");
    }
}

/// Removes a certificate that nobody uses.
pub(super) fn remove(keep: &Keep, service: &ServiceName) {
    if let Err(failure) = keep.remove(service.as_str()) {
        let error = &failure as &dyn std::error::Error;
        warn!(%service, error, "a kept certificate cannot be removed");
    }
}
