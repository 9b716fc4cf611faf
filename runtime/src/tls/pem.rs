//! PEM and fingerprints. Nothing is judged here.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;

/// Certificates read from one text: a chain has a handful, more is not one of ours.
const CERTIFICATES_MAX: usize = 64;

/// Reads the certificates of a PEM text, in their order.
///
/// # Errors
/// [`TlsError`] when there is none, too many, or one is damaged.
pub fn certificates_from_pem(
    what: &'static str,
    text: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
        .take(CERTIFICATES_MAX + 1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Pem { what, reason: error.to_string() })?;
    match certificates.len() {
        0 => Err(TlsError::NoCertificate { what }),
        1..=CERTIFICATES_MAX => Ok(certificates),
        _ => Err(TlsError::Pem {
            what,
            reason: format!("it has more than {CERTIFICATES_MAX} certificates"),
        }),
    }
}

/// Writes certificates as PEM, in their order.
pub fn certificates_to_pem(certificates: &[CertificateDer<'_>]) -> String {
    use base64::Engine;
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let body = base64::engine::general_purpose::STANDARD.encode(certificate);
        for line in body.as_bytes().chunks(64) {
            text.extend(line.iter().map(|&byte| char::from(byte)));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

pub(super) fn key_from_pem(text: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| TlsError::Pem { what: "the private key", reason: error.to_string() })
}

/// Reads a private key and returns it as PKCS#8 DER.
///
/// # Errors
/// [`TlsError`] when it is damaged or in another form.
pub fn private_key_der(text: &str) -> Result<Vec<u8>, TlsError> {
    match key_from_pem(text)? {
        PrivateKeyDer::Pkcs8(key) => Ok(key.secret_pkcs8_der().to_vec()),
        _ => {
            let reason = "it is not in the form of PKCS#8".to_owned();
            Err(TlsError::Pem { what: "the private key", reason })
        }
    }
}

/// Returns the number of the first certificate of a PEM text in hex, `None` if it cannot be read.
pub fn serial_number(pem: &str) -> Option<String> {
    let chain = certificates_from_pem("certificate", pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    Some(certificate.raw_serial_as_string())
}

/// Returns the SHA-256 of a certificate's DER in lower-case hex, as join tokens pin it.
pub fn fingerprint(certificate: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
