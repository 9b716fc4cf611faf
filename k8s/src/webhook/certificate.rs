//! The webhook's own authorities: when a new one is due, which one signs, and the making of
//! certificates. An authority vouches for the webhook towards the API server and for nothing else.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use serde::{Deserialize, Serialize};
use weft_core::time::Timestamp;

/// How long an authority is good: it is replaced long before, and one that nobody replaced, as
/// the cluster stood still, is good for a quarter yet.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// The age at which the next one is made.
const AUTHORITY_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long the API servers are given to learn of a new authority before it signs.
const SPREAD: Duration = Duration::from_secs(120);
/// Authorities that are kept: the newest, and the one before it, whose certificates are in use.
const AUTHORITIES_MAX: usize = 2;
/// How long a certificate of the webhook is good.
pub(super) const LEAF_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The age at which it is made anew.
pub(super) const LEAF_AGE: Duration = Duration::from_secs(8 * 3600);
/// Clocks of a cluster may be apart.
const BACKDATED: Duration = Duration::from_secs(300);

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate for the webhook")]
pub struct CertificateError(#[from] rcgen::Error);

/// An authority with its key; kept in a Secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Authority {
    pub(super) certificate_pem: String,
    private_key_pem: String,
    /// When it was made, in milliseconds since 1970.
    made_ms: u64,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("made_ms", &self.made_ms).finish_non_exhaustive()
    }
}

/// The authorities in force, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Authorities(pub(super) Vec<Authority>);

impl Authorities {
    /// Returns them with a new one, if one is due.
    pub(super) fn renewed(&self, now: Timestamp) -> Result<Option<Self>, CertificateError> {
        if self.0.first().is_some_and(|newest| newest.age(now) < AUTHORITY_AGE) {
            return Ok(None);
        }
        let kept = self.0.iter().filter(|it| it.age(now) < AUTHORITY_LIFETIME).cloned();
        let renewed = std::iter::once(Authority::make(now)?).chain(kept);
        Ok(Some(Self(renewed.take(AUTHORITIES_MAX).collect())))
    }

    /// Returns the authority that signs now: the newest that everybody has heard of.
    pub(super) fn signer(&self, now: Timestamp) -> Option<&Authority> {
        self.0.iter().find(|authority| authority.age(now) >= SPREAD).or(self.0.last())
    }

    /// Returns the certificates that the API server has to trust, as PEM.
    pub(super) fn bundle(&self) -> String {
        self.0.iter().map(|authority| authority.certificate_pem.as_str()).collect()
    }
}

impl Authority {
    fn make(now: Timestamp) -> Result<Self, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(now, AUTHORITY_LIFETIME, "weft webhook authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { certificate_pem, private_key_pem: key.serialize_pem(), made_ms: now.0 })
    }

    fn age(&self, now: Timestamp) -> Duration {
        now.since(Timestamp(self.made_ms))
    }

    /// Makes a certificate for the webhook under its names; returns chain and key as PEM.
    pub(super) fn issue(
        &self,
        names: &[String],
        now: Timestamp,
    ) -> Result<(String, String), CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(now, LEAF_LIFETIME, "weft webhook");
        params.subject_alt_names = CertificateParams::new(names.to_vec())?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let issuer = Issuer::from_ca_cert_pem(
            &self.certificate_pem,
            KeyPair::from_pem(&self.private_key_pem)?,
        )?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn params(now: Timestamp, lifetime: Duration, name: &str) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let moment = |of: Timestamp| epoch + Duration::from_secs(of.unix_seconds());
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = moment(now.saturating_sub(BACKDATED));
    params.not_after = moment(now.saturating_add(lifetime));
    params
}
