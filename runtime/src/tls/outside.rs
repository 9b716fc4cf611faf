//! TLS with those outside the mesh: an application's own HTTPS port that a health check probes,
//! and callers of our HTTPS API. Names and public authorities count there, not SPIFFE IDs.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::pem::key_from_pem;
use super::{TlsError, certificates_from_pem};

/// Where systems keep the authorities that they trust: Debian, Fedora, Alpine, openSUSE.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Whose certificates are accepted outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutsideTrust {
    /// Anyone's: the connection is encrypted, but may lead to somebody else.
    Anyone,
    /// Those that the authorities of a PEM file vouch for, under the name that was called.
    File(PathBuf),
    /// Those that the authorities of a PEM text vouch for, under the name that was called.
    Pem(String),
    /// Those that the system's authorities vouch for, under the name that was called.
    System,
}

/// Makes the configuration of a client that calls servers outside the mesh. Reads a file.
///
/// # Errors
/// [`TlsError::NoCertificate`] when the system has no list of authorities.
pub fn client_config_outside(trust: &OutsideTrust) -> Result<ClientConfig, TlsError> {
    client_config_outside_with(trust, None)
}

/// Makes such a configuration that shows a certificate of its own when asked for one: a PEM
/// chain, leaf first, and its PEM key. Reads files.
///
/// # Errors
/// [`TlsError::NoCertificate`] when there is no list of authorities or no certificate, and the
/// library's words when certificate and key do not belong together.
pub fn client_config_outside_with(
    trust: &OutsideTrust,
    identity: Option<(&str, &str)>,
) -> Result<ClientConfig, TlsError> {
    // The world outside does not speak TLS 1.3 everywhere.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Library)?;
    let config = match trust {
        OutsideTrust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyoneVerifier { provider })),
        OutsideTrust::File(path) => {
            builder.with_root_certificates(roots_of(&std::fs::read(path).unwrap_or_default())?)
        }
        OutsideTrust::Pem(text) => builder.with_root_certificates(roots_of(text.as_bytes())?),
        OutsideTrust::System => builder.with_root_certificates(system_roots()?),
    };
    let Some((chain, key)) = identity else { return Ok(config.with_no_client_auth()) };
    let chain = certificates_from_pem("client certificate", chain)?;
    config.with_client_auth_cert(chain, key_from_pem(key)?).map_err(TlsError::Key)
}

pub(super) fn roots_of(text: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(text).filter_map(Result::ok));
    if roots.is_empty() {
        return Err(TlsError::NoCertificate { what: "the PEM of authorities" });
    }
    Ok(roots)
}

/// Makes the configuration of a door for callers outside the mesh, from the operator's own
/// certificate.
///
/// With `callers_ca_pem`, callers must show a certificate of one of those authorities.
///
/// # Errors
/// [`TlsError`] when a text is not what it should be, or the key does not fit.
pub fn server_config_outside(
    chain_pem: &str,
    key_pem: &str,
    callers_ca_pem: Option<&str>,
    alpn: &[&str],
) -> Result<ServerConfig, TlsError> {
    let chain = certificates_from_pem("the certificate file", chain_pem)?;
    let key = key_from_pem(key_pem)?;
    // TLS 1.2 too: callers outside are of every age.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Library)?;
    let builder = match callers_ca_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates_from_pem("the authorities' file", pem)? {
                roots.add(certificate).map_err(TlsError::Root)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| TlsError::Library(Error::General(error.to_string())))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Key)?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}

pub(super) fn system_roots() -> Result<RootCertStore, TlsError> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let mut roots = RootCertStore::empty();
    for path in named.into_iter().chain(SYSTEM_ROOTS.map(PathBuf::from)) {
        let Ok(text) = std::fs::read(&path) else { continue };
        // A few of the many may be of a kind that the library does not know.
        let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
        roots.add_parsable_certificates(certificates);
        break;
    }
    if roots.is_empty() {
        return Err(TlsError::NoCertificate { what: "the system's list of authorities" });
    }
    Ok(roots)
}

/// Accepts any certificate whose key the peer has.
#[derive(Debug)]
struct AnyoneVerifier {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyoneVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::{HttpClient, ServeOptions, full, serve};
    use crate::net;
    use crate::task::TaskTree;
    use crate::tls::test_authority::TestAuthority;
    use crate::tls::{ClientAuth, ServerTlsCell, server_config};

    #[tokio::test]
    async fn an_unknown_authority_is_accepted_only_when_anyone_is() {
        let authority = TestAuthority::new("a1.mesh");
        let identity = authority.identity("ns/default/dc/dc1/svc/web");
        let config =
            server_config(&identity, &authority.trust(), ClientAuth::Optional, &["http/1.1"]);
        let tls = ServerTlsCell::new(Arc::new(config.expect("a server")));
        let listener = net::bind_tcp(([127, 0, 0, 1], 0).into()).await.expect("a port");
        let url = format!("https://{}/", listener.local_addr().expect("bound"));
        let tasks = TaskTree::root("test");
        let tree = tasks.clone();
        let service = tower::service_fn(async |_| {
            Ok::<_, std::convert::Infallible>(http::Response::new(full("fine")))
        });
        tasks.spawn("serve", async move {
            serve(listener, Some(tls), service, ServeOptions::default(), &tree).await;
        });
        for (trust, is_accepted) in [(OutsideTrust::Anyone, true), (OutsideTrust::System, false)] {
            let Ok(config) = client_config_outside(&trust) else {
                // A system without authorities accepts nobody.
                assert!(!is_accepted);
                continue;
            };
            let caller = HttpClient::new(Duration::from_secs(10), 1024).with_tls(Arc::new(config));
            assert_eq!(caller.get(&url).await.is_ok(), is_accepted, "{trust:?}");
        }
        tasks.cancel();
    }
}
