//! From a peer's certificate to its identity, by the rules of X.509-SVIDs.
//!
//! The chain is not verified here (`verify` does that, before); what is parsed here is the very
//! certificate that was verified.

use rustls_pki_types::CertificateDer;
use weft_core::ca::SerialNumber;
use weft_core::identity::{InvalidSpiffeId, SpiffeId};
use weft_core::time::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer;

/// What a peer's certificate says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Who the holder is.
    pub id: SpiffeId,
    /// The certificate's number.
    pub serial: SerialNumber,
    /// Since when the certificate is valid.
    pub valid_after: Timestamp,
    /// Until when the certificate is valid; a resumed session must end then.
    pub valid_before: Timestamp,
}

/// States which rule a certificate breaks.
///
/// **Source**: Spec: X.509-SVID §2 to §5.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerIdentityError {
    /// No certificate was presented.
    #[error("the peer presented no certificate")]
    Absent,
    /// It is the certificate of an authority.
    #[error("the certificate is one of an authority, not of a member")]
    Authority,
    /// The extended key usage allows only one side of a connection.
    #[error("the extended key usage lacks serverAuth or clientAuth")]
    ExtendedKeyUsage,
    /// The key usage is absent, not critical, or not that of a member.
    #[error("the key usage is not critical with digitalSignature, without certificate signing")]
    KeyUsage,
    /// The bytes are not a certificate, or have an extension twice.
    #[error("the certificate is malformed")]
    Malformed,
    /// The only name of the holder is in an extension that may be ignored.
    #[error("the subject is empty and the alternative name is not critical")]
    NameNotCritical,
    /// The URI is not an identity of a mesh.
    #[error("the certificate's URI is not an identity of a mesh")]
    SpiffeId(#[source] InvalidSpiffeId),
    /// There is not exactly one URI.
    #[error("the certificate has {0} URI names, but must have exactly one")]
    UriCount(usize),
}

/// Returns who the holder of the first certificate is.
///
/// # Errors
/// [`PeerIdentityError`] naming the rule that it breaks.
pub fn peer_identity(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, PeerIdentityError> {
    peer_certificate(chain).map(|certificate| certificate.id)
}

/// Returns what the first certificate says of its holder.
///
/// # Errors
/// [`PeerIdentityError`] naming the rule that it breaks.
pub fn peer_certificate(
    chain: &[CertificateDer<'_>],
) -> Result<PeerCertificate, PeerIdentityError> {
    let der = chain.first().ok_or(PeerIdentityError::Absent)?;
    let malformed = |_| PeerIdentityError::Malformed;
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| malformed(()))?;
    if !rest.is_empty() {
        return Err(PeerIdentityError::Malformed);
    }
    check_usage(&certificate)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| PeerIdentityError::Malformed)?
        .ok_or(PeerIdentityError::UriCount(0))?;
    let has_empty_subject = certificate.subject().iter_rdn().next().is_none();
    if has_empty_subject && !names.critical {
        return Err(PeerIdentityError::NameNotCritical);
    }
    let uris: Vec<&str> = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let [uri] = uris[..] else {
        return Err(PeerIdentityError::UriCount(uris.len()));
    };
    let moment = |seconds: i64| Timestamp(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
    let validity = certificate.validity();
    Ok(PeerCertificate {
        id: SpiffeId::parse(uri).map_err(PeerIdentityError::SpiffeId)?,
        serial: SerialNumber::from_bytes(certificate.raw_serial()),
        valid_after: moment(validity.not_before.timestamp()),
        valid_before: moment(validity.not_after.timestamp()),
    })
}

/// Names in a certificate that are no identity of the mesh.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PeerNames {
    /// The subject as RFC 4514 writes it, the most precise part first; may be empty.
    pub subject: String,
    /// The DNS names, in their order.
    pub dns: Vec<String>,
}

/// Returns the other names of the holder of the first certificate; none of one that cannot be read.
pub fn peer_names(chain: &[CertificateDer<'_>]) -> PeerNames {
    let parsed = chain.first().and_then(|der| X509Certificate::from_der(der).ok());
    let Some((_, certificate)) = parsed else { return PeerNames::default() };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let dns = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    PeerNames { subject: subject(&certificate), dns: dns.collect() }
}

/// **Source**: Spec: RFC 4514 §2.
fn subject(certificate: &X509Certificate<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in certificate.subject().iter_rdn() {
        let attributes = part.iter().filter_map(|attribute| {
            let kind = attribute.attr_type();
            let name = oid2abbrev(kind, oid_registry())
                .map_or_else(|_| kind.to_id_string(), str::to_owned);
            Some(format!("{name}={}", escaped(attribute.as_str().ok()?)))
        });
        parts.push(attributes.collect::<Vec<_>>().join("+"));
    }
    parts.reverse();
    parts.join(",")
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, c) in value.char_indices() {
        let is_edge = at == 0 || at + c.len_utf8() == value.len();
        if "\",+;<>\\".contains(c) || is_edge && c == ' ' || at == 0 && c == '#' {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// Whether a certificate may stand above others by its key usage, where it has one.
///
/// **Source**: Spec: RFC 5280 §6.1.4 (n).
pub(super) fn may_sign_certificates(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
}

fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), PeerIdentityError> {
    let constraints = certificate.basic_constraints().map_err(|_| PeerIdentityError::Malformed)?;
    if constraints.is_some_and(|found| found.value.ca) {
        return Err(PeerIdentityError::Authority);
    }
    let usage = certificate
        .key_usage()
        .map_err(|_| PeerIdentityError::Malformed)?
        .filter(|usage| usage.critical)
        .ok_or(PeerIdentityError::KeyUsage)?
        .value;
    if !usage.digital_signature() || usage.key_cert_sign() || usage.crl_sign() {
        return Err(PeerIdentityError::KeyUsage);
    }
    let extended = certificate.extended_key_usage().map_err(|_| PeerIdentityError::Malformed)?;
    if extended.is_some_and(|found| !(found.value.server_auth && found.value.client_auth)) {
        return Err(PeerIdentityError::ExtendedKeyUsage);
    }
    Ok(())
}
