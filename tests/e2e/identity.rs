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
use serde_json::json;
use weft_tests::cluster::{SPREAD_LIMIT, TestAgent, meshed};
use weft_tests::process::run_weft;
use weft_tests::{App, Cluster, eventually};
use x509_parser::pem::parse_x509_pem;
use x509_parser::public_key::PublicKey;

use crate::story::{Shop, called, speaks};

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

#[test]
fn keys_of_every_kind_carry_calls() {
    let ours = json!({ "leaf": { "key_type": "ec", "key_bits": 384 } });
    let cluster = Cluster::start_all_with(&json!({}), &ours);
    speaks(&cluster, "web", "http");
    cluster.agent.intend("*", "web", "allow");
    let token = cluster.server.join_token_file();
    let kinds = [("rsa", Some(2048)), ("ed25519", None), ("ec", None)];
    let hosts: Vec<_> = kinds
        .iter()
        .map(|(kind, bits)| {
            let settings = json!({ "leaf": { "key_type": kind, "key_bits": bits } });
            let agent = TestAgent::start_with(cluster.folder.path(), kind, &token, &settings);
            let app = App::start(kind);
            agent.register(&meshed("web", "web", app.port(), &[]));
            let proxy = agent.sidecar("web");
            (agent, proxy, app)
        })
        .collect();
    let shop = Shop::open(&cluster, &["web"]);

    let key_of = |agent: &TestAgent, service: &str| {
        eventually(SPREAD_LIMIT, "a certificate is signed", || {
            let path = format!("/v1/agent/connect/ca/leaf/{service}");
            let leaf = agent.api().get(&path)?.ok()?.json();
            let pem = leaf["CertPEM"].as_str().unwrap_or_default().to_owned();
            let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
            let certificate = block.parse_x509().map_err(|error| error.to_string())?;
            Ok(match certificate.public_key().parsed() {
                Ok(PublicKey::EC(point)) => format!("EC {}", point.key_size()),
                Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
                _ => certificate.public_key().algorithm.algorithm.to_id_string(),
            })
        })
    };
    assert_eq!(key_of(&cluster.agent, "shop"), "EC 384");
    let shown: Vec<String> = hosts.iter().map(|(agent, ..)| key_of(agent, "web")).collect();
    assert_eq!(shown, ["RSA 2048", "1.3.101.112", "EC 256"], "1.3.101.112 is Ed25519, RFC 8410");
    eventually(SPREAD_LIMIT, "each instance is called", || {
        shop.to("web").get("/")?.ok()?;
        let mut asked = hosts.iter().map(|(.., app)| app.requests_except("/status/200"));
        if asked.all(|count| count > 0) { Ok(()) } else { Err("one was not yet".to_owned()) }
    });

    let wrong = json!({ "leaf": { "key_type": "ec", "key_bits": 521 } });
    let folder = cluster.folder.path();
    let config = folder.join("wrong.json");
    std::fs::write(&config, wrong.to_string()).expect("a temporary folder can be written");
    let args = ["agent", "--config", &config.to_string_lossy()];
    let outcome = run_weft(&args, SPREAD_LIMIT);
    assert!(outcome.output.contains("leaf.key_bits"), "{outcome:?}");
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
