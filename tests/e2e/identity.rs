//! What a stranger meets at a sidecar's public door: an identity to verify, and no way in.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::{Cluster, eventually};

use crate::story::{called, speaks};

#[test]
fn a_sidecar_shows_its_identity_and_lets_no_stranger_in() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let mut web = called(&cluster, "web-1", "web", "v1");
    // Strangers at the door are worth a warning.
    web.proxy.process.expect_log("");
    cluster.agent.intend("*", "web", "allow");
    let door = public_door(&cluster, "web");

    let shown = eventually(SPREAD_LIMIT, "the sidecar shows a certificate", || {
        knock(door, None).map_err(|error| error.to_string()).and_then(|seen| {
            seen.certificates.first().cloned().ok_or_else(|| "it shows none".to_owned())
        })
    });
    let id = spiffe_id(&shown);
    assert!(id.starts_with("spiffe://"), "{id}");
    assert!(id.ends_with("/ns/default/dc/dc1/svc/web"), "{id}");

    let bare = knock(door, None).expect("a connection");
    assert_eq!(bare.answer, "", "without a certificate there is no answer");
    let forged = knock(door, Some(&id.replace("/svc/web", "/svc/shop"))).expect("a connection");
    assert_eq!(forged.answer, "", "a certificate of one's own making opens nothing");
    assert_eq!(web.app.requests_except("/status/200"), 0);
}

/// Where the sidecar of a service listens for its peers.
pub(crate) fn public_door(cluster: &Cluster, service: &str) -> SocketAddr {
    let path = format!("/v1/health/connect/{service}?passing");
    eventually(SPREAD_LIMIT, "the sidecar stands in the catalog", || {
        let answer = cluster.agent.api().get(&path)?.ok()?;
        let port = answer.json()[0]["Service"]["Port"].as_u64();
        let port = port.and_then(|port| u16::try_from(port).ok()).ok_or(answer.body)?;
        Ok(SocketAddr::from(([127, 0, 0, 1], port)))
    })
}

/// The SPIFFE ID inside a certificate. A URI stands there as plain text, after its length.
pub(crate) fn spiffe_id(certificate: &[u8]) -> String {
    let mark = b"spiffe://";
    let start = certificate.windows(mark.len()).position(|window| window == mark).unwrap_or(0);
    let length = start.checked_sub(1).map_or(0, |at| usize::from(certificate[at]));
    String::from_utf8_lossy(&certificate[start..start + length]).into_owned()
}

struct Seen {
    certificates: Vec<Vec<u8>>,
    answer: String,
}

/// Asks over TLS as somebody from outside: with no certificate, or with one that only says so.
fn knock(door: SocketAddr, claimed: Option<&str>) -> Result<Seen, Box<dyn std::error::Error>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Looking));
    let config = match claimed {
        None => builder.with_no_client_auth(),
        Some(id) => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
            let certificate = params.self_signed(&key)?;
            let key = PrivateKeyDer::try_from(key.serialize_der())?;
            builder.with_client_auth_cert(vec![certificate.der().clone()], key)?
        }
    };
    let stream = TcpStream::connect_timeout(&door, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("web")?)?;
    let mut stream = StreamOwned::new(connection, stream);
    // Being refused shows as an error of the write or of the read, whichever meets it first.
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    if asked.is_ok() {
        let _ = stream.read_to_end(&mut answer);
    }
    let certificates = stream.conn.peer_certificates().unwrap_or_default();
    Ok(Seen {
        certificates: certificates.iter().map(|one| one.to_vec()).collect(),
        answer: String::from_utf8_lossy(&answer).into_owned(),
    })
}

/// Looks at whatever certificate is shown: this client has no trust to verify it by.
#[derive(Debug)]
pub(crate) struct Looking;

impl ServerCertVerifier for Looking {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider: CryptoProvider = aws_lc_rs::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider: CryptoProvider = aws_lc_rs::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
