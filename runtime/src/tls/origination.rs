//! TLS with services outside the mesh, as the entry that says where they are wants it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::outside::{roots_of, system_roots};
use super::pem::key_from_pem;
use super::{TlsError, certificates_from_pem};

/// What is wanted of a server outside the mesh, and what is shown to it.
#[derive(Debug, Clone, Copy)]
pub struct Origination<'a> {
    /// PEM of the authorities that may vouch for it; `None` for those of the system.
    pub authorities: Option<&'a str>,
    /// Names of which its certificate must have one: host names, addresses, URIs.
    pub names: &'a [String],
    /// A PEM chain, leaf first, and its PEM key, shown when asked for.
    pub identity: Option<(&'a str, &'a str)>,
    /// Whether TLS 1.2 is spoken no more.
    pub needs_tls13: bool,
}

static FROM_12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];

impl Origination<'_> {
    /// Makes the configuration of a client. Reads the system's authorities, which blocks.
    ///
    /// # Errors
    /// [`TlsError`] when there is no authority, a text is not PEM, or the key does not fit.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        // The world outside does not speak what members speak.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = match self.authorities {
            Some(text) => roots_of(text.as_bytes())?,
            None => system_roots()?,
        };
        let verifier =
            NamesVerifier { roots, names: self.names.to_vec(), provider: provider.clone() };
        let versions: &[_] = if self.needs_tls13 { &ONLY_13 } else { &FROM_12 };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(TlsError::Library)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let Some((chain, key)) = self.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates_from_pem("CertFile", chain)?;
        builder.with_client_auth_cert(chain, key_from_pem(key)?).map_err(TlsError::Key)
    }
}

/// Accepts the certificates that the authorities vouch for and that have one of the names.
#[derive(Debug)]
struct NamesVerifier {
    roots: RootCertStore,
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
}

/// States why a server's certificate is refused.
#[derive(thiserror::Error)]
#[error("the server is not the one expected, {expected}: {why}")]
struct NotExpected {
    expected: String,
    why: String,
}

impl fmt::Debug for NotExpected {
    /// The TLS library shows the reason only in its debug form; it should read as a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl NamesVerifier {
    fn refusal(&self, why: String) -> Error {
        let refused = NotExpected { expected: self.names.join(" or "), why };
        CertificateError::Other(OtherError(Arc::new(refused))).into()
    }

    fn has_name(&self, parsed: &ParsedCertificate<'_>, uris: &[String]) -> bool {
        self.names.iter().any(|name| match name.contains("://") {
            true => uris.contains(name),
            false => ServerName::try_from(name.as_str())
                .is_ok_and(|name| verify_server_name(parsed, &name).is_ok()),
        })
    }
}

impl ServerCertVerifier for NamesVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let all = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, all)
            .map_err(|error| match error {
                // An authority of the same name with another key is another one.
                Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                ) => self.refusal("none of the authorities vouches for its certificate".to_owned()),
                Error::InvalidCertificate(why) => self.refusal(format!("its certificate: {why}")),
                other => other,
            })?;
        let shown = names_of(end_entity);
        match self.has_name(&parsed, &shown) {
            true => Ok(ServerCertVerified::assertion()),
            false => {
                let shown = if shown.is_empty() { "nobody".to_owned() } else { shown.join(", ") };
                Err(self.refusal(format!("its certificate is for {shown}")))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Names of one certificate that are looked at and told of: more are of no use to anyone.
const NAMES_MAX: usize = 64;

/// Returns the names that a certificate says it is for.
fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let shown = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    };
    names.value.general_names.iter().filter_map(shown).take(NAMES_MAX).collect()
}
