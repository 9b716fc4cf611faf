//! A server and a client over real loopback sockets, and callers that misbehave.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::net;
use crate::task::TaskTree;
use crate::tls::test_authority::TestAuthority;
use crate::tls::{ClientAuth, PeerCheck, ServerTlsCell, client_config, server_config};

const LIMIT: Duration = Duration::from_secs(10);

/// Answers with what it saw: caller, address, path, body.
async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let peer = request.extensions().get::<PeerIdentity>().cloned().expect("inserted");
    let remote = request.extensions().get::<Remote>().copied().expect("inserted");
    let peer = peer.0.map_or("nobody".to_owned(), |id| id.to_string());
    let path = request.uri().path().to_owned();
    let mut answer = Response::new(empty());
    match collect(request.into_body(), 1 << 20).await {
        Ok(body) => {
            let kind = if remote.is_local() { "local" } else { "remote" };
            let text = format!("{peer} {kind} {path} {}", body.len());
            *answer.body_mut() = full(text);
        }
        Err(error) => {
            *answer.status_mut() = match error {
                BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                BodyError::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
                BodyError::Broken(_) => StatusCode::BAD_REQUEST,
            };
        }
    }
    Ok(answer)
}

async fn start(tls: Option<ServerTlsCell>, options: ServeOptions) -> (SocketAddr, TaskTree) {
    let listener = net::bind_tcp("127.0.0.1:0".parse().expect("an address")).await.expect("free");
    let address = listener.local_addr().expect("bound");
    let tasks = TaskTree::root("server");
    let tree = tasks.clone();
    tasks.spawn("accept", async move {
        serve(listener, tls, tower::service_fn(echo), options, &tree).await;
    });
    (address, tasks)
}

fn client() -> HttpClient {
    HttpClient::new(LIMIT, 1 << 20)
}

#[tokio::test]
async fn plain_requests_are_served_and_the_server_ends_when_told() {
    let (address, tasks) = start(None, ServeOptions::default()).await;
    let url = format!("http://{address}/a?b");
    assert_eq!(client().get(&url).await.expect("served").text(), "nobody local /a 0");
    let answer = client().put(&url, vec![0; 100_000]).await.expect("served");
    assert_eq!(answer.text(), "nobody local /a 100000");
    // A connection at rest does not hold up the end.
    let mut idle = net::connect_tcp(address, LIMIT).await.expect("accepted");
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let mut head = [0; 15];
    idle.read_exact(&mut head).await.expect("answered");
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    tasks.cancel();
    tasks.join(LIMIT).await.expect("all ended");
    assert!(matches!(client().get(&url).await, Err(CallError::Connect { .. })));
}

#[tokio::test]
async fn a_unix_socket_serves_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api");
    let listener = net::bind_unix(&path, 0o600).expect("a socket");
    let tasks = TaskTree::root("server");
    let tree = tasks.clone();
    tasks.spawn("accept", async move {
        serve(listener, None, tower::service_fn(echo), ServeOptions::default(), &tree).await;
    });
    let answer = client().over_unix(&path).get("http://localhost/x").await.expect("served");
    assert_eq!(answer.text(), "nobody local /x 0");
    tasks.cancel();
    tasks.join(LIMIT).await.expect("all ended");
}

#[tokio::test]
async fn over_mtls_the_caller_is_known() {
    let authority = TestAuthority::new("a1.mesh");
    let trust = authority.trust();
    let server = authority.identity("agent/server/dc/dc1/id/s1");
    let agent = authority.identity("agent/client/dc/dc1/id/n1");
    let config = server_config(&server, &trust, ClientAuth::Required, &["h2", "http/1.1"]);
    let cell = ServerTlsCell::new(Arc::new(config.expect("a server")));
    let (address, tasks) = start(Some(cell), ServeOptions::default()).await;
    let config = client_config(&agent, &trust, PeerCheck::AnyServer, &["http/1.1"]);
    let caller = client().with_tls(Arc::new(config.expect("a client")));
    let answer = caller.get(&format!("https://{address}/")).await.expect("served");
    assert_eq!(answer.text(), "spiffe://a1.mesh/agent/client/dc/dc1/id/n1 local / 0");
    assert!(client().get(&format!("http://{address}/")).await.is_err(), "plain text");
    tasks.cancel();
    tasks.join(LIMIT).await.expect("all ended");
}

/// **Source**: CVE-2025-11374, CVE-2025-11375: limits count, whatever the headers say.
#[tokio::test]
async fn bodies_are_bounded_by_counting() {
    let options = ServeOptions { body_bytes_max: 1000, ..ServeOptions::default() };
    let (address, _tasks) = start(None, options).await;
    let url = format!("http://{address}/");
    let answer = client().put(&url, vec![0; 1000]).await.expect("served");
    assert_eq!(answer.status, StatusCode::OK);
    let answer = client().put(&url, vec![0; 1001]).await.expect("answered");
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let mut chunked = net::connect_tcp(address, LIMIT).await.expect("accepted");
    let head = "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = format!("400\r\n{}\r\n0\r\n\r\n", "x".repeat(0x400));
    chunked.write_all(format!("{head}{body}").as_bytes()).await.expect("written");
    let mut answer = [0; 12];
    chunked.read_exact(&mut answer).await.expect("answered");
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn slow_and_silent_callers_are_cut_off() {
    let options = ServeOptions {
        head_limit: Duration::from_millis(200),
        body_limit: Duration::from_millis(200),
        ..ServeOptions::default()
    };
    let (address, tasks) = start(None, options).await;
    for sent in ["", "P", "PRI * HTTP/2", "GET / HTTP/1.1\r\nHost: x\r\nA: b"] {
        let mut stream = net::connect_tcp(address, LIMIT).await.expect("accepted");
        stream.write_all(sent.as_bytes()).await.expect("written");
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "after {sent:?} the connection stayed open");
    }
    let mut stream = net::connect_tcp(address, LIMIT).await.expect("accepted");
    let head = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc";
    stream.write_all(head).await.expect("written");
    let mut answer = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("cut").expect("read");
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    tasks.cancel();
    tasks.join(LIMIT).await.expect("all ended");
}

#[tokio::test]
async fn a_full_server_takes_the_next_when_a_place_is_free() {
    let options = ServeOptions { connections_max: 1, ..ServeOptions::default() };
    let (address, _tasks) = start(None, options).await;
    let holder = net::connect_tcp(address, LIMIT).await.expect("accepted");
    let url = format!("http://{address}/");
    let impatient = HttpClient::new(Duration::from_millis(100), 1 << 20);
    assert!(matches!(impatient.get(&url).await, Err(CallError::Slow { .. })));
    drop(holder);
    client().get(&url).await.expect("served");
}

#[tokio::test]
async fn calls_that_cannot_succeed_say_why() {
    for (url, reason) in [
        ("nonsense", "must start with http:// or https://"),
        ("/v1/x", "it has no host"),
        ("ftp://127.0.0.1/", "must start with http:// or https://"),
        ("https://127.0.0.1:1/", "cannot connect to 127.0.0.1:1"),
        ("http://127.0.0.1:1/", "cannot connect to 127.0.0.1:1"),
    ] {
        let error = client().get(url).await.expect_err("no server there").to_string();
        assert!(error.contains(reason), "{error}");
    }
    let (address, _tasks) = start(None, ServeOptions::default()).await;
    let short = HttpClient::new(LIMIT, 3);
    let error = short.get(&format!("http://{address}/")).await.expect_err("too long");
    assert!(matches!(error, CallError::Body { source: BodyError::TooLarge { .. }, .. }));
}
