//! Cross certificates: one root's key certified by another, so that who trusts only the other
//! accepts what is signed under the first.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, SanType, SubjectPublicKeyInfo,
};
use weft_core::ca::{CaRoot, CrossCertificate, csr};
use weft_core::time::Timestamp;
use weft_runtime::tls;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::builtin::{CaError, finish};

/// Certifies the key of one root by another, whose key is in memory only meanwhile. Name and key
/// identifier stay those of the first, so that what it signed leads to this certificate too.
pub(super) fn cross_sign(
    new: &CaRoot,
    old: &CaRoot,
    old_key: KeyPair,
    now: Timestamp,
) -> Result<CrossCertificate, CaError> {
    let unfit = |reason: &str| CaError::Unfit { name: new.name.clone(), reason: reason.to_owned() };
    let chain = tls::certificates_from_pem("a root", &new.certificate_pem)
        .map_err(|_| unfit("it cannot be read"))?;
    let der = chain.first().ok_or_else(|| unfit("it cannot be read"))?;
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| unfit("it cannot be read"))?;
    let key = SubjectPublicKeyInfo::from_der(certificate.public_key().raw)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name_of(&certificate)
        .ok_or_else(|| unfit("its subject has an attribute twice, or a text in a rare encoding"))?;
    params.is_ca = IsCa::Ca(constraints_of(&certificate));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = uris_of(&certificate);
    params.use_authority_key_identifier_extension = true;
    let ends = new.valid_before.min(old.valid_before);
    finish(&mut params, now.saturating_sub(csr::BACKDATED), ends);
    if let Some(identifier) = key_identifier_of(&certificate) {
        params.key_identifier_method = KeyIdMethod::PreSpecified(identifier);
    }
    let issuer = Issuer::from_ca_cert_pem(&old.certificate_pem, old_key)?;
    let signed = params.signed_by(&key, &issuer)?;
    let (_, made) =
        X509Certificate::from_der(signed.der()).map_err(|_| unfit("what was made is damaged"))?;
    // Names are compared byte by byte when chains are built.
    if made.subject().as_raw() != certificate.subject().as_raw() {
        return Err(unfit("its subject cannot be written as it stands there"));
    }
    Ok(CrossCertificate { by: old.fingerprint.clone(), certificate_pem: signed.pem() })
}

/// Copies the subject with the encoding of each text.
fn name_of(certificate: &X509Certificate<'_>) -> Option<DistinguishedName> {
    let mut name = DistinguishedName::new();
    for attribute in certificate.subject().iter_attributes() {
        let oid: Vec<u64> = attribute.attr_type().iter()?.collect();
        let text = attribute.as_str().ok()?;
        let value = match attribute.attr_value().tag().0 {
            12 => DnValue::Utf8String(text.to_owned()),
            19 => DnValue::PrintableString(text.try_into().ok()?),
            22 => DnValue::Ia5String(text.try_into().ok()?),
            _ => return None,
        };
        let kind = DnType::from_oid(&oid);
        if name.get(&kind).is_some() {
            return None;
        }
        name.push(kind, value);
    }
    Some(name)
}

fn constraints_of(certificate: &X509Certificate<'_>) -> BasicConstraints {
    let constraints = certificate.basic_constraints().ok().flatten();
    let length = constraints.and_then(|found| found.value.path_len_constraint);
    match length.and_then(|length| u8::try_from(length).ok()) {
        Some(length) => BasicConstraints::Constrained(length),
        None => BasicConstraints::Unconstrained,
    }
}

fn uris_of(certificate: &X509Certificate<'_>) -> Vec<SanType> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|found| found.value.general_names.as_slice()).unwrap_or_default();
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => (*uri).try_into().ok().map(SanType::URI),
        _ => None,
    };
    names.iter().filter_map(uri).collect()
}

fn key_identifier_of(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
        _ => None,
    })
}
