//! A private key and the request for a certificate over it. The only place in the agent that
//! makes keys.

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
};
use weft_core::ca::KeyKind;

/// A fresh key and what a server needs to certify it.
pub struct KeyRequest {
    /// The private key, PKCS#8 PEM. Never logged.
    pub private_key_pem: String,
    /// The PKCS#10 request, DER. Servers use nothing of it but the public key.
    pub csr_der: Vec<u8>,
}

/// Says that the library could not make a key or a request.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a key")]
pub struct KeyError(#[from] rcgen::Error);

/// Makes a fresh key. Takes a moment of computing, up to seconds for RSA: run it on a blocking
/// thread.
///
/// # Errors
/// [`KeyError`] when the library fails.
pub fn generate(kind: KeyKind) -> Result<KeyRequest, KeyError> {
    let key = match kind {
        KeyKind::EcP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyKind::EcP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        KeyKind::Ed25519 => KeyPair::generate_for(&PKCS_ED25519),
        KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyKind::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
    }?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key)?;
    Ok(KeyRequest { private_key_pem: key.serialize_pem(), csr_der: csr.der().to_vec() })
}

impl std::fmt::Debug for KeyRequest {
    /// Leaves the key out: it is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRequest").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::prelude::FromDer;

    fn made(kind: KeyKind) -> KeyRequest {
        generate(kind).expect("a key")
    }

    #[test]
    fn every_request_is_over_a_fresh_p256_key() {
        let (first, second) = (made(KeyKind::EcP256), made(KeyKind::EcP256));
        assert_ne!(first.private_key_pem, second.private_key_pem);
        let (_, request) = X509CertificationRequest::from_der(&first.csr_der).expect("a request");
        let key = &request.certification_request_info.subject_pki.subject_public_key;
        assert_eq!(key.data.len(), 65, "an uncompressed point on a 256-bit curve");
        assert!(format!("{first:?}").find("PRIVATE").is_none());
    }
}
