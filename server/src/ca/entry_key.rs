//! The key of a certificate in a config entry: checked against the certificate, then sealed.
//!
//! What is replicated, kept in snapshots and written to the log is the sealed form; who opens it is
//! the gateway that shows the certificate.

use rcgen::{KeyPair, PublicKeyData};
use weft_core::config_entry::{InlineCertificate, SecretText};

use super::seal::{Purpose, SealKey};

/// Seals the key of a certificate, unless there is none or it was the one before.
///
/// # Errors
/// In words, with the field: a certificate or key that cannot be read, or a key of another
/// certificate.
pub(crate) fn seal_entry_key(
    entry: &InlineCertificate,
    present: Option<&InlineCertificate>,
    seal: &SealKey,
) -> Result<SecretText, String> {
    let key = &entry.private_key;
    if key.is_empty() {
        return Ok(SecretText::default());
    }
    if key.as_sealed().is_some() {
        return Err("PrivateKey: must be the key itself as PEM".to_owned());
    }
    let pair = KeyPair::from_pem(key.reveal()).map_err(|_| {
        "PrivateKey: is no key that can be read; write PKCS#8 PEM, EC or RSA".to_owned()
    })?;
    if leaf_public_key(&entry.certificate)? != pair.der_bytes() {
        return Err("PrivateKey: is not the key of Certificate".to_owned());
    }
    // The same key sealed anew would look like a change.
    let before = present.map(|present| &present.private_key);
    let is_same = |before: &&SecretText| {
        seal.open_text(Purpose::EntryKey, before).as_deref() == Some(key.reveal())
    };
    if let Some(before) = before.filter(is_same) {
        return Ok(before.clone());
    }
    Ok(seal.seal_text(Purpose::EntryKey, key.reveal()))
}

/// Returns the key of the first certificate, as its bits stand there.
fn leaf_public_key(pem: &str) -> Result<Vec<u8>, String> {
    let unreadable = |_| "Certificate: is no X.509 certificate that can be read".to_owned();
    let (_, block) =
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| ()).map_err(unreadable)?;
    let certificate = block.parse_x509().map_err(|_| ()).map_err(unreadable)?;
    Ok(certificate.public_key().subject_public_key.data.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, PKCS_ECDSA_P256_SHA256};

    fn entry(pair: &KeyPair, key: &str) -> InlineCertificate {
        let certificate = CertificateParams::default().self_signed(pair).expect("a certificate");
        InlineCertificate {
            name: "edge".parse().expect("a name"),
            certificate: certificate.pem(),
            private_key: serde_json::from_value(key.into()).expect("a text"),
            meta: Default::default(),
            create_index: Default::default(),
            modify_index: Default::default(),
        }
    }

    fn pair() -> KeyPair {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
    }

    #[test]
    fn a_key_is_sealed_and_the_same_key_is_not_sealed_anew() {
        let (seal, key) = (SealKey::generate(), pair());
        let mut first = entry(&key, &key.serialize_pem());
        first.private_key = seal_entry_key(&first, None, &seal).expect("sealed");
        assert!(first.private_key.as_sealed().is_some());
        assert!(!first.private_key.reveal().contains("PRIVATE"));
        let again = entry(&key, &key.serialize_pem());
        let again = seal_entry_key(&again, Some(&first), &seal).expect("sealed before");
        assert_eq!(again, first.private_key);
        let copied = seal_entry_key(&first, None, &seal).expect_err("a sealed text");
        assert_eq!(copied, "PrivateKey: must be the key itself as PEM");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (seal, key) = (SealKey::generate(), pair());
        let other = seal_entry_key(&entry(&key, &pair().serialize_pem()), None, &seal);
        assert_eq!(other.expect_err("another key"), "PrivateKey: is not the key of Certificate");
        let mut broken = entry(&key, &key.serialize_pem());
        broken.certificate =
            "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n".into();
        let told = seal_entry_key(&broken, None, &seal).expect_err("no certificate");
        assert_eq!(told, "Certificate: is no X.509 certificate that can be read");
    }
}
