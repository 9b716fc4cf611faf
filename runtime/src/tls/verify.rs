//! The verifiers that rustls calls in a handshake: first the chain, then the identity.
//!
//! Host names play no part: a peer is known by its SPIFFE ID alone.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use weft_core::ca::{RevocationSet, SerialNumber};
use weft_core::identity::{SpiffeId, Workload};
use weft_core::name::TrustDomain;
use weft_core::time::Timestamp;

use super::config::ClientAuth;
use super::peer::{
    PeerCertificate, PeerIdentityError, may_sign_certificates, peer_certificate, peer_identity,
};
use super::pem::fingerprint;
use super::{Identity, TlsError, Trust, provider};

/// Whom a client accepts at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerCheck {
    /// Any agent, server or service of the trust domain.
    AnyMember,
    /// Any server of the trust domain.
    AnyServer,
    /// Exactly this identity.
    Exactly(SpiffeId),
    /// One of these identities.
    OneOf(Vec<SpiffeId>),
}

/// States why a certificate with a good chain is refused all the same.
#[derive(thiserror::Error)]
enum Refusal {
    #[error("the peer's certificate breaks a rule of mesh identities: {0}")]
    Identity(PeerIdentityError),
    #[error("the peer is {found}, but {expected} was expected")]
    Other { found: SpiffeId, expected: String },
    #[error("the certificate {serial} of {found} was revoked")]
    Revoked { found: SpiffeId, serial: SerialNumber },
    #[error("a certificate above the peer's is not one that may sign certificates")]
    Signer,
    #[error("the peer is {found}, which is not of the trust domain {expected}")]
    TrustDomain { found: SpiffeId, expected: TrustDomain },
    #[error(
        "the server is not of the cluster that the join token is for: it does not present the \
         root with the fingerprint {fingerprint}"
    )]
    Unpinned { fingerprint: String },
}

impl fmt::Debug for Refusal {
    /// The TLS library shows the reason only in its debug form; it should read as a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        CertificateError::Other(OtherError(Arc::new(refusal))).into()
    }
}

impl PeerCheck {
    fn check(&self, found: SpiffeId) -> Result<(), Refusal> {
        let (is_accepted, expected) = match self {
            Self::AnyMember => (true, String::new()),
            Self::AnyServer => {
                (matches!(found.workload, Workload::Server(_)), "a server".to_owned())
            }
            Self::Exactly(id) => (*id == found, id.to_string()),
            Self::OneOf(ids) => (ids.contains(&found), format!("one of {} identities", ids.len())),
        };
        if is_accepted { Ok(()) } else { Err(Refusal::Other { found, expected }) }
    }
}

/// Returns whose certificate it is, if it is one of the domain and was not revoked.
fn member(
    end_entity: &CertificateDer<'_>,
    (domain, revoked): (&TrustDomain, &RevocationSet),
) -> Result<SpiffeId, Refusal> {
    let certificate = peer_certificate(std::slice::from_ref(end_entity));
    let PeerCertificate { id, serial, valid_after, .. } = certificate.map_err(Refusal::Identity)?;
    if id.trust_domain != *domain {
        return Err(Refusal::TrustDomain { found: id, expected: domain.clone() });
    }
    if revoked.has(&id, &serial, valid_after) {
        return Err(Refusal::Revoked { found: id, serial });
    }
    Ok(id)
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

fn verify_chain(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(end_entity)?;
    verify_server_cert_signed_by_trust_anchor(
        &parsed,
        roots,
        intermediates,
        now,
        algorithms().all,
    )?;
    Ok(check_signers(intermediates)?)
}

/// Checks that everybody above the member may sign certificates, which the library leaves out.
fn check_signers(intermediates: &[CertificateDer<'_>]) -> Result<(), Refusal> {
    if intermediates.iter().all(may_sign_certificates) { Ok(()) } else { Err(Refusal::Signer) }
}

impl Trust {
    /// Checks an identity as others will: its chain must end in one of the roots, be valid at
    /// `now`, and speak for a member of the trust domain.
    ///
    /// # Errors
    /// [`TlsError::Chain`] with the reason.
    pub fn check(&self, identity: &Identity, now: Timestamp) -> Result<(), TlsError> {
        self.check_peer(identity.chain(), now).map(|_| ())
    }

    /// Checks the chain that a peer has shown, leaf first, as a handshake would at `now`, and
    /// returns who the peer is. For connections that were made under other roots.
    ///
    /// # Errors
    /// [`TlsError::Chain`] with the reason.
    pub fn check_peer(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<SpiffeId, TlsError> {
        let moment = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        let (end_entity, intermediates) =
            chain.split_first().ok_or(TlsError::Identity(PeerIdentityError::Absent))?;
        verify_chain(end_entity, intermediates, self.store(), moment).map_err(TlsError::Chain)?;
        self.member(end_entity).map_err(|refusal| TlsError::Chain(refusal.into()))
    }

    /// Checks that the holder of a chain, leaf first, belongs to the mesh and was not revoked;
    /// for connections that were made under the same roots, whatever has ended since.
    ///
    /// # Errors
    /// [`TlsError::Chain`] with the reason.
    pub fn check_holder(&self, chain: &[CertificateDer<'_>]) -> Result<SpiffeId, TlsError> {
        let end_entity = chain.first().ok_or(TlsError::Identity(PeerIdentityError::Absent))?;
        self.member(end_entity).map_err(|refusal| TlsError::Chain(refusal.into()))
    }

    fn member(&self, end_entity: &CertificateDer<'_>) -> Result<SpiffeId, Refusal> {
        member(end_entity, (self.trust_domain(), self.revoked()))
    }
}

/// Checks the server that is called.
#[derive(Debug)]
pub(super) enum ServerVerifier {
    /// By a member, which trusts the mesh's roots.
    Member { trust: Trust, check: PeerCheck },
    /// By a host that joins, which knows only a root's fingerprint.
    Pinned { root_fingerprint: String },
}

impl ServerVerifier {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        match self {
            Self::Member { trust, check } => {
                verify_chain(end_entity, intermediates, trust.store(), now)?;
                check.check(trust.member(end_entity)?)?;
            }
            Self::Pinned { root_fingerprint } => {
                let root = intermediates
                    .iter()
                    .find(|certificate| fingerprint(certificate) == *root_fingerprint)
                    .ok_or_else(|| Refusal::Unpinned { fingerprint: root_fingerprint.clone() })?;
                let mut roots = RootCertStore::empty();
                roots.add(root.clone().into_owned())?;
                verify_chain(end_entity, intermediates, &roots, now)?;
                let found =
                    peer_identity(std::slice::from_ref(end_entity)).map_err(Refusal::Identity)?;
                PeerCheck::AnyServer.check(found)?;
            }
        }
        Ok(())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Checks the client that calls a member.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust: Trust,
}

impl ClientVerifier {
    pub(super) fn new(trust: &Trust, auth: ClientAuth) -> Result<Self, TlsError> {
        let builder =
            WebPkiClientVerifier::builder_with_provider(trust.store().clone(), provider())
                .clear_root_hint_subjects();
        let builder = match auth {
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::Required => builder,
        };
        let chain = builder
            .build()
            .map_err(|error| TlsError::Library(Error::General(error.to_string())))?;
        Ok(Self { chain, trust: trust.clone() })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Members have one certificate; hints would only make the handshake longer.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        check_signers(intermediates)?;
        self.trust.member(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}
