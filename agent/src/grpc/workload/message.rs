//! What callers are told, made of what is known.

use std::sync::Arc;

use bytes::Bytes;
use tracing::error;
use weft_core::ca::{Leaf, TrustBundle};
use weft_core::identity::SpiffeId;
use weft_core::name::ServiceName;
use weft_proto::grpc::workload::{X509BundlesResponse, X509svid, X509svidResponse};
use weft_runtime::tls::{TlsError, certificates_from_pem, private_key_der};

use crate::servers::{Membership, reason};

/// What is known for one caller.
pub(super) struct Known {
    pub(super) membership: Arc<Membership>,
    /// For which it speaks, in the order of the entries.
    pub(super) services: Vec<ServiceName>,
    /// Those of them that are registered here.
    pub(super) leaves: Vec<(ServiceName, Option<Arc<Leaf>>)>,
    pub(super) bundle: Option<Arc<TrustBundle>>,
}

impl Known {
    /// Whether all its services are registered here and certified.
    pub(super) fn is_whole(&self) -> bool {
        self.leaves.len() == self.services.len()
            && self.leaves.iter().all(|(_, leaf)| leaf.is_some())
    }

    /// Who a service of this host is.
    pub(super) fn id(&self, service: &ServiceName) -> String {
        let Membership { trust_domain, datacenter, .. } = &*self.membership;
        let (domain, datacenter) = (trust_domain.clone(), datacenter.clone());
        SpiffeId::service(domain, datacenter, service.clone()).to_string()
    }

    /// Who vouches for all, as a SPIFFE ID.
    pub(super) fn domain_id(&self) -> String {
        format!("spiffe://{}", self.membership.trust_domain)
    }

    /// The certificates that there are.
    pub(super) fn present(&self) -> impl Iterator<Item = (&ServiceName, &Leaf)> {
        self.leaves.iter().filter_map(|(name, leaf)| Some((name, leaf.as_deref()?)))
    }
}

/// A message that holds all there is to tell by one call.
pub(super) trait Told: Clone + PartialEq + Send + Sync + Sized + 'static {
    /// The call, in logs and metrics.
    const CALL: &'static str;

    /// Makes the message; `None` as long as there is nothing to tell. One who `waits` is told
    /// only when everything is there.
    fn of(known: &Known, waits: bool) -> Option<Self>;
}

impl Told for X509svidResponse {
    const CALL: &'static str = "x509_svid";

    fn of(known: &Known, waits: bool) -> Option<Self> {
        let bundle = known.bundle.as_deref().and_then(roots)?;
        if waits && !known.is_whole() {
            return None;
        }
        let mut svids = Vec::new();
        for (service, leaf) in known.present() {
            match svid(known, (service, leaf), &bundle) {
                Ok(svid) => svids.push(svid),
                Err(invalid) => {
                    let reason = reason(&invalid);
                    error!(%service, reason, "a certificate cannot be given to its processes");
                }
            }
        }
        (!svids.is_empty()).then(|| Self { svids, ..Self::default() })
    }
}

impl Told for X509BundlesResponse {
    const CALL: &'static str = "x509_bundles";

    fn of(known: &Known, _: bool) -> Option<Self> {
        let bundle = known.bundle.as_deref().and_then(roots)?;
        let bundles = [(known.domain_id(), bundle)].into();
        Some(Self { bundles, ..Self::default() })
    }
}

fn svid(
    known: &Known,
    (service, leaf): (&ServiceName, &Leaf),
    bundle: &Bytes,
) -> Result<X509svid, TlsError> {
    Ok(X509svid {
        spiffe_id: known.id(service),
        x509_svid: ders("the certificate chain", &leaf.certificate_pem)?.into(),
        x509_svid_key: private_key_der(&leaf.private_key_pem)?.into(),
        bundle: bundle.clone(),
        hint: service.to_string(),
    })
}

/// The roots, one after another; `None` when one of them is damaged.
fn roots(trust: &TrustBundle) -> Option<Bytes> {
    let all = trust.roots_pem.iter().map(|pem| ders("a root", pem));
    match all.collect::<Result<Vec<Vec<u8>>, TlsError>>() {
        Ok(all) => Some(all.concat().into()),
        Err(invalid) => {
            error!(reason = reason(&invalid), "the roots cannot be given to processes");
            None
        }
    }
}

fn ders(what: &'static str, pem: &str) -> Result<Vec<u8>, TlsError> {
    let certificates = certificates_from_pem(what, pem)?;
    Ok(certificates.iter().flat_map(|certificate| certificate.iter().copied()).collect())
}
