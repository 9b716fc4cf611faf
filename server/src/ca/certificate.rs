//! What stands in the certificate of an authority, and keys of every kind that the CA has.

use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    RsaKeySize,
};
use weft_core::ca::KeyKind;
use weft_core::time::Timestamp;
use weft_runtime::tls;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::builtin::CaError;

/// Bits of an RSA key of a leaf.
const RSA_BITS_MAX: usize = 4096;

/// What is to be known of the certificate of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) fingerprint: String,
    pub(super) name: String,
    pub(super) valid_after: Timestamp,
    pub(super) valid_before: Timestamp,
    pub(super) key_kind: KeyKind,
    /// The bits of its public key.
    pub(super) public_key: Vec<u8>,
    /// Whether subject and issuer are the same.
    pub(super) is_self_issued: bool,
}

impl Authority {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// In words: what is no certificate, or not that of an authority that may sign.
    pub(super) fn read(pem: &str) -> Result<Self, String> {
        let unreadable = || "is no X.509 certificate that can be read".to_owned();
        let chain = tls::certificates_from_pem("a certificate", pem).map_err(|_| unreadable())?;
        let der = chain.first().ok_or_else(unreadable)?;
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
        let usage = certificate.key_usage().map_err(|_| unreadable())?;
        if !certificate.is_ca() || usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err("is not the certificate of an authority that may sign others".to_owned());
        }
        let date = |at: x509_parser::time::ASN1Time| {
            Timestamp(u64::try_from(at.timestamp()).unwrap_or(0).saturating_mul(1000))
        };
        let common_name = certificate.subject().iter_common_name().next();
        let name = common_name.and_then(|name| name.as_str().ok()).unwrap_or_default();
        let key = certificate.public_key();
        Ok(Self {
            fingerprint: tls::fingerprint(der),
            name: name.chars().take(64).collect(),
            valid_after: date(certificate.validity().not_before),
            valid_before: date(certificate.validity().not_after),
            key_kind: kind_of(certificate.public_key())?,
            public_key: key.subject_public_key.data.to_vec(),
            is_self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        })
    }
}

/// Checks that the key of a request is of a kind that leaves may have. RSA keys are bounded: who
/// verifies with one pays for its size.
pub(super) fn check_requested_key(csr_der: &[u8]) -> Result<(), CaError> {
    let (_, request) =
        X509CertificationRequest::from_der(csr_der).map_err(|_| CaError::BadRequest)?;
    let key = &request.certification_request_info.subject_pki;
    match (kind_of(key), key.parsed()) {
        (Err(_), _) => Err(CaError::KeyKind),
        (_, Ok(PublicKey::RSA(rsa))) if rsa.key_size() > RSA_BITS_MAX => Err(CaError::KeyKind),
        _ => Ok(()),
    }
}

fn kind_of(key: &SubjectPublicKeyInfo<'_>) -> Result<KeyKind, String> {
    let other = "has a key of another kind than EC P-256 or P-384, Ed25519, or RSA with at least \
                 2048 bits";
    if key.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519 {
        return Ok(KeyKind::Ed25519);
    }
    match key.parsed() {
        Ok(PublicKey::EC(point)) if point.key_size() == 256 => Ok(KeyKind::EcP256),
        Ok(PublicKey::EC(point)) if point.key_size() == 384 => Ok(KeyKind::EcP384),
        Ok(PublicKey::RSA(rsa)) if rsa.key_size() >= 4096 => Ok(KeyKind::Rsa4096),
        Ok(PublicKey::RSA(rsa)) if rsa.key_size() >= 2048 => Ok(KeyKind::Rsa2048),
        Ok(_) | Err(_) => Err(other.to_owned()),
    }
}

/// Makes a key. Blocks its thread: RSA takes up to seconds.
pub(super) fn generate(kind: KeyKind) -> Result<KeyPair, rcgen::Error> {
    match kind {
        KeyKind::EcP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyKind::EcP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        KeyKind::Ed25519 => KeyPair::generate_for(&PKCS_ED25519),
        KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyKind::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
    }
}
