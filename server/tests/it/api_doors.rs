//! The server's own doors of the HTTP API: who is answered there.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::support::{LIMIT, TestServer, config};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_proto::text::HttpsSection;
use weft_runtime::http::{CallError, HttpClient, HttpResponse};
use weft_runtime::tls::rustls::{ClientConfig, RootCertStore};
use weft_runtime::tls::{certificates_from_pem, provider};
use weft_server::config::{FileConfig, HttpSection, LimitsSection};

async fn call(
    url: &str,
    method: Method,
    headers: &[(HeaderName, &str)],
    body: Value,
) -> HttpResponse {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value")))
        .collect();
    let body = Bytes::from(body.to_string());
    HttpClient::new(LIMIT, 1 << 20).request(method, url, headers, body).await.expect("answered")
}

async fn start(dir: &Path, more: FileConfig) -> TestServer {
    TestServer::start_with(FileConfig {
        http: HttpSection {
            addr: Some("127.0.0.1:0".to_owned()),
            allowed_hosts: vec!["Weft.Example".to_owned()],
        },
        ..FileConfig { https: more.https, limits: more.limits, ..config(dir, "s1") }
    })
    .await
}

fn http_addr(server: &TestServer) -> SocketAddr {
    server.handle.http_addr().expect("a door")
}

#[tokio::test]
async fn a_host_without_an_agent_is_registered_and_found_at_the_plain_door() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), FileConfig::default()).await;
    let url = format!("http://{}/v1", http_addr(&server));
    let registration = json!({ "Node": "db1", "Address": "10.0.0.9",
        "Service": { "Service": "db", "Port": 5432 } });
    let answer = call(&format!("{url}/catalog/register"), Method::PUT, &[], registration).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "true"));
    let found = call(&format!("{url}/health/service/db"), Method::GET, &[], Value::Null).await;
    let found: Value = found.json().expect("JSON");
    assert_eq!(found[0]["Node"]["Node"], "db1");
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_are_kept_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), FileConfig::default()).await;
    let url = format!("http://{}/v1/status/leader", http_addr(&server));
    for (headers, expected) in [
        (&[(header::HOST, "weft.example")][..], StatusCode::OK),
        (&[(header::HOST, "evil.example")], StatusCode::FORBIDDEN),
        (&[(header::ORIGIN, "http://evil.example")], StatusCode::FORBIDDEN),
    ] {
        let answer = call(&url, Method::GET, headers, Value::Null).await;
        assert_eq!(answer.status, expected, "{headers:?}: {}", answer.text());
    }
    server.stop().await;
}

#[tokio::test]
async fn one_client_has_so_many_connections_and_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let limits = LimitsSection { http_max_conns_per_client: Some(1), ..Default::default() };
    let server = start(dir.path(), FileConfig { limits, ..FileConfig::default() }).await;
    let door = http_addr(&server);
    let mut first = tokio::net::TcpStream::connect(door).await.expect("connected");
    let ask = b"GET /v1/status/leader HTTP/1.1\r\nhost: localhost\r\n\r\n";
    first.write_all(ask).await.expect("asked");
    let mut start_of_answer = [0; 12];
    first.read_exact(&mut start_of_answer).await.expect("answered");
    assert_eq!(&start_of_answer, b"HTTP/1.1 200");

    let mut second = tokio::net::TcpStream::connect(door).await.expect("connected");
    let mut all = String::new();
    second.read_to_string(&mut all).await.expect("told");
    assert!(all.starts_with("HTTP/1.1 429 "), "{all}");
    server.stop().await;
}

/// An authority of callers and doors, which is not that of the mesh.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    async fn call(
        &self,
        url: &str,
        own: Option<(String, String)>,
    ) -> Result<HttpResponse, CallError> {
        let mut roots = RootCertStore::empty();
        for root in certificates_from_pem("the root", &self.pem).expect("PEM") {
            roots.add(root).expect("a root");
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(
                    certificates_from_pem("the chain", &chain).expect("PEM"),
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"),
                )
                .expect("a certificate"),
        };
        HttpClient::new(LIMIT, 1 << 20).with_tls(Arc::new(config)).get(url).await
    }
}

#[tokio::test]
async fn the_door_with_tls_shows_the_operators_certificate_and_asks_for_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        Some(path)
    };
    let (chain, key) = authority.sign("localhost");
    let https = HttpsSection {
        addr: Some("127.0.0.1:0".to_owned()),
        cert_file: write("cert.pem", &chain),
        key_file: write("key.pem", &key),
        ca_file: write("ca.pem", &authority.pem),
    };
    let data = dir.path().join("data");
    let server = start(&data, FileConfig { https, ..FileConfig::default() }).await;
    let port = server.handle.https_addr().expect("a door").port();
    let url = format!("https://localhost:{port}/v1/status/peers");

    let answer = authority.call(&url, Some(authority.sign("operator"))).await.expect("answered");
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(authority.call(&url, None).await.is_err(), "a caller without a certificate came in");
    let stranger = Authority::new().sign("operator");
    assert!(authority.call(&url, Some(stranger)).await.is_err(), "a stranger came in");
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_keeps_the_server_from_starting() {
    let dir = tempfile::tempdir().expect("a directory");
    let https = HttpsSection {
        addr: Some("127.0.0.1:0".to_owned()),
        cert_file: Some(dir.path().join("none.pem")),
        key_file: Some(dir.path().join("none-key.pem")),
        ca_file: None,
    };
    let file = FileConfig { https, ..config(&dir.path().join("data"), "s1") };
    let config = weft_server::config::Config::resolve(file).expect("a configuration");
    let tasks = weft_runtime::task::TaskTree::root("test");
    let error = weft_server::Server::start(config, tasks).await.expect_err("refused").to_string();
    assert!(error.contains("cannot read") && error.contains("none.pem"), "{error}");
}
