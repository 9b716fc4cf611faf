//! Makes roots, intermediates and leaves with our own keys. What may be signed is decided by
//! `core::ca::csr`.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::CertificateSigningRequestDer;
use weft_core::ca::{
    CaRoot, CaTerms, KeyKind, Leaf, RootSource, SerialNumber as CertificateNumber, csr,
};
use weft_core::identity::{SpiffeId, Workload};
use weft_core::index::Index;
use weft_core::limits;
use weft_core::name::TrustDomain;
use weft_core::time::Timestamp;
use weft_runtime::{entropy, tls};

use super::certificate::{check_requested_key, generate};
use super::seal::{Purpose, SealError, SealKey};
use super::vault::VaultError;

/// How long a list of revoked certificates may be kept by its readers: what is revoked since is
/// not in it.
const CRL_LIFETIME: Duration = Duration::from_secs(3600);

/// States why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The request is not one, or its signature is not its key's.
    #[error("the certificate request is not a PKCS#10 request signed by its own key")]
    BadRequest,
    /// The request has a key of another kind.
    #[error(
        "the certificate request has a key of another kind than EC P-256 or P-384, Ed25519, or RSA with 2048 to 4096 bits"
    )]
    KeyKind,
    /// The library refused.
    #[error("a certificate could not be made")]
    Library(#[from] rcgen::Error),
    /// Policy refuses.
    #[error(transparent)]
    Refused(#[from] csr::CsrRefusal),
    /// The root's key cannot be opened.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// The root's key is not one.
    #[error("the CA's root key is damaged")]
    RootKey,
    /// A certificate of another kind is needed for this.
    #[error("root {name:?} cannot be used: {reason}")]
    Unfit {
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// Vault was of no help.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The work was cut short.
    #[error("the CA's work was interrupted: {0}")]
    Interrupted(String),
}

/// A signed certificate with those above it.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    /// PEM, leaf first, then intermediates.
    pub(crate) chain_pem: String,
    pub(crate) valid_after: Timestamp,
    pub(crate) valid_before: Timestamp,
}

/// Makes the first root of a mesh, its key sealed.
pub(crate) fn make_root(
    trust_domain: &TrustDomain,
    seal: &SealKey,
    now: Timestamp,
) -> Result<CaRoot, CaError> {
    make_root_of(KeyKind::default(), limits::ROOT_LIFETIME, trust_domain, (seal, now))
}

/// Makes a new root, its key sealed.
pub(super) fn make_root_of(
    key_kind: KeyKind,
    lifetime: Duration,
    trust_domain: &TrustDomain,
    (seal, now): (&SealKey, Timestamp),
) -> Result<CaRoot, CaError> {
    let key = generate(key_kind)?;
    // A name of its own for each: some look for the issuer by name alone.
    let mut mark = [0u8; 4];
    entropy::fill(&mut mark);
    let mark: String = mark.iter().map(|byte| format!("{byte:02x}")).collect();
    let name: String = format!("Weft root {mark} of {trust_domain}").chars().take(64).collect();
    let (valid_after, valid_before) =
        (now.saturating_sub(csr::BACKDATED), now.saturating_add(lifetime));
    // Unbounded depth: below a root stand intermediates, and another root that it certifies.
    let params = authority_params(&name, trust_domain, None, valid_after, valid_before)?;
    let certificate = params.self_signed(&key)?;
    Ok(CaRoot {
        fingerprint: tls::fingerprint(certificate.der()),
        name,
        certificate_pem: certificate.pem(),
        sealed_key: seal.seal(Purpose::RootKey, key.serialize_pem().as_bytes()),
        valid_after,
        valid_before,
        active: true,
        source: RootSource::BuiltIn,
        key_kind,
        cross_signed: Vec::new(),
        rotated_out_at: None,
        trusted_until: None,
        create_index: Index::default(),
        modify_index: Index::default(),
    })
}

/// Opens the key of a root, or of the intermediate that was given in its place.
pub(super) fn open_key(root: &CaRoot, seal: &SealKey) -> Result<KeyPair, CaError> {
    let purpose = match &root.source {
        RootSource::BuiltIn | RootSource::Given => Purpose::RootKey,
        RootSource::Intermediate { .. } => Purpose::IntermediateKey,
        RootSource::Vault(_) => Purpose::VaultSecret,
    };
    let pem = String::from_utf8(seal.open(purpose, &root.sealed_key)?);
    pem.map_err(|_| CaError::RootKey)
        .and_then(|pem| KeyPair::from_pem(&pem).map_err(|_| CaError::RootKey))
}

/// Makes a certificate request with a key that is then forgotten: a joining server proves with
/// it that it can ask, and signs its own certificate once it knows the root.
pub(crate) fn request_for_new_key() -> Result<Vec<u8>, CaError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(CertificateParams::default().serialize_request(&key)?.der().to_vec())
}

/// A server's signing certificate. Its key is made anew at each start and never leaves memory,
/// but for one that Vault signed or an operator gave.
#[derive(Clone)]
pub(crate) struct Intermediate {
    issuer: Arc<Issuer<'static, KeyPair>>,
    /// The intermediate and what stands between it and the root.
    chain_pem: String,
    /// What stands below it in every chain: its own, then the root certified by roots before it.
    above_pem: String,
    /// The fingerprint of the root above.
    pub(crate) root: String,
    pub(crate) valid_after: Timestamp,
    pub(crate) valid_before: Timestamp,
}

impl Intermediate {
    /// Makes one under a root whose key we have. That key is in memory only meanwhile.
    pub(crate) fn make(
        root: &CaRoot,
        id: &SpiffeId,
        terms: &CaTerms,
        seal: &SealKey,
        now: Timestamp,
    ) -> Result<Self, CaError> {
        let above = Issuer::from_ca_cert_pem(&root.certificate_pem, open_key(root, seal)?)?;
        let (valid_after, valid_before) =
            csr::validity(now, terms.intermediate, root.valid_before)?;
        let params = intermediate_params(id, valid_after, valid_before)?;
        let key = generate(root.key_kind)?;
        let chain_pem = params.signed_by(&key, &above)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self::with(issuer, chain_pem, root, (valid_after, valid_before)))
    }

    /// Takes up one that was made elsewhere: its chain as PEM, with its key.
    pub(super) fn take_up(
        chain_pem: String,
        key: KeyPair,
        root: &CaRoot,
        dates: (Timestamp, Timestamp),
    ) -> Result<Self, CaError> {
        let issuer = Issuer::from_ca_cert_pem(&chain_pem, key)?;
        Ok(Self::with(issuer, chain_pem, root, dates))
    }

    fn with(
        issuer: Issuer<'static, KeyPair>,
        chain_pem: String,
        root: &CaRoot,
        (valid_after, valid_before): (Timestamp, Timestamp),
    ) -> Self {
        let (issuer, above_pem) = (Arc::new(issuer), String::new());
        let fingerprint = root.fingerprint.clone();
        let made =
            Self { issuer, chain_pem, above_pem, root: fingerprint, valid_after, valid_before };
        made.under(root)
    }

    /// The same with the cross certificates that its root has now.
    pub(super) fn under(&self, root: &CaRoot) -> Self {
        let mut above_pem = self.chain_pem.clone();
        root.cross_signed.iter().for_each(|cross| above_pem.push_str(&cross.certificate_pem));
        Self { above_pem, ..self.clone() }
    }

    /// Signs a certificate for an identity. Of the request only the key is used.
    pub(crate) fn sign(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Signed, CaError> {
        check_requested_key(csr_der)?;
        let request = CertificateSigningRequestDer::from(csr_der);
        let request =
            CertificateSigningRequestParams::from_der(&request).map_err(|_| CaError::BadRequest)?;
        self.certify(&request.public_key, id, lifetime, now)
    }

    /// Makes a key with a certificate for an identity of this server itself.
    pub(crate) fn make_leaf(
        &self,
        id: &SpiffeId,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Leaf, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let signed = self.certify(&key, id, lifetime, now)?;
        Ok(Leaf {
            certificate_pem: signed.chain_pem,
            private_key_pem: key.serialize_pem(),
            valid_after: signed.valid_after,
            valid_before: signed.valid_before,
        })
    }

    /// Signs the list of revoked certificates, as PEM. It speaks for what this intermediate has
    /// signed; numbers of others do no harm in it, as no two are alike.
    pub(crate) fn crl(
        &self,
        revoked: &[(CertificateNumber, Timestamp)],
        number: u64,
        now: Timestamp,
    ) -> Result<String, CaError> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let moment = |of: Timestamp| epoch + Duration::from_secs(of.unix_seconds());
        let revoked_certs = revoked.iter().map(|(serial, since)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial.to_bytes()),
            revocation_time: moment(*since),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: moment(now),
            next_update: moment(now.saturating_add(CRL_LIFETIME)),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&*self.issuer)?.pem()?)
    }

    fn certify(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Signed, CaError> {
        let (valid_after, valid_before) = csr::validity(now, lifetime, self.valid_before)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&subject(id));
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        finish(&mut params, valid_after, valid_before);
        let leaf = params.signed_by(key, &*self.issuer)?;
        let chain_pem = format!("{}{}", leaf.pem(), self.above_pem);
        Ok(Signed { chain_pem, valid_after, valid_before })
    }
}

impl std::fmt::Debug for Intermediate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intermediate").field("root", &self.root).finish_non_exhaustive()
    }
}

/// A name for people; verification goes by the SPIFFE ID alone.
fn subject(id: &SpiffeId) -> String {
    let name = match &id.workload {
        Workload::Agent(name) | Workload::Server(name) => name.as_str(),
        Workload::Service(name) => name.as_str(),
    };
    // A common name has at most 64 characters (RFC 5280, appendix A.1: ub-common-name).
    name.chars().take(64).collect()
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    distinguished
}

/// What an intermediate of a server says, whoever signs it.
pub(super) fn intermediate_params(
    id: &SpiffeId,
    valid_after: Timestamp,
    valid_before: Timestamp,
) -> Result<CertificateParams, CaError> {
    let name = format!("Weft intermediate of {}", subject(id));
    authority_params(&name, &id.trust_domain, Some(0), valid_after, valid_before)
}

fn authority_params(
    name: &str,
    trust_domain: &TrustDomain,
    path_length: Option<u8>,
    valid_after: Timestamp,
    valid_before: Timestamp,
) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    // Spec: X509-SVID §4.1: a signing certificate's SPIFFE ID has no path.
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
    params.is_ca = IsCa::Ca(match path_length {
        Some(length) => BasicConstraints::Constrained(length),
        None => BasicConstraints::Unconstrained,
    });
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    finish(&mut params, valid_after, valid_before);
    Ok(params)
}

pub(super) fn finish(
    params: &mut CertificateParams,
    valid_after: Timestamp,
    valid_before: Timestamp,
) {
    params.serial_number = Some(serial());
    params.key_identifier_method = KeyIdMethod::Sha256;
    set_validity(params, valid_after, valid_before);
}

/// 128 random bits with the first one clear: unique without a counter in replicated state
/// (RFC 5280 §4.1.2.2: positive, at most 20 bytes).
fn serial() -> SerialNumber {
    let mut bytes = [0u8; 16];
    entropy::fill(&mut bytes);
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// The epoch comes from the library, as do its moments.
fn set_validity(params: &mut CertificateParams, valid_after: Timestamp, valid_before: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(valid_after.unix_seconds());
    params.not_after = epoch + Duration::from_secs(valid_before.unix_seconds());
}
