//! Who may stay: connections that were begun or are open when policy or roots change.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::support::pair::{App, LIMIT, Pair, Raw, Running, free, localhost};
use crate::support::{Mesh, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use weft_core::ca::Revoked;
use weft_core::config_entry::{IntentionAction, Protocol};
use weft_core::identity::SpiffeId;
use weft_runtime::net;
use weft_runtime::tls::{certificates_from_pem, fingerprint};

/// An application that greets first.
async fn greeter() -> SocketAddr {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(b"welcome\n").await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    address
}

/// An application that gives back what it gets.
async fn echo() -> SocketAddr {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

/// A stretch of wire on which the caller's second flight, the end of its handshake, waits.
struct Slow {
    address: SocketAddr,
    arrived: Arc<Notify>,
    release: Arc<Notify>,
}

impl Slow {
    async fn start(to: SocketAddr) -> Self {
        let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (arrived.clone(), release.clone());
        tokio::spawn(async move {
            let (caller, _) = listener.accept().await.expect("a caller");
            let service = net::connect_tcp(to, LIMIT).await.expect("a connection");
            let (mut from, mut back) = caller.into_split();
            let (mut answers, mut onward) = service.into_split();
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut answers, &mut back).await;
            });
            let mut hello = vec![0; 64 << 10];
            let count = from.read(&mut hello).await.expect("a hello");
            onward.write_all(&hello[..count]).await.expect("passed on");
            let count = from.read(&mut hello).await.expect("the end of the handshake");
            tell.notify_one();
            wait.notified().await;
            let _ = onward.write_all(&hello[..count]).await;
            let _ = tokio::io::copy(&mut from, &mut onward).await;
        });
        Self { address, arrived, release }
    }
}

#[tokio::test]
async fn a_policy_that_changes_during_a_handshake_binds_the_caller() {
    let pair = Pair::start(Protocol::Tcp, greeter().await).await;
    let door = pair.server.snapshots.borrow().inbound.bind;
    let slow = Slow::start(door).await;
    pair.client
        .change(|s| s.endpoints.values_mut().flatten().for_each(|e| e.address = slow.address))
        .await;
    let mut raw = Raw::connect(pair.call).await;
    tokio::time::timeout(LIMIT, slow.arrived.notified()).await.expect("a handshake");
    pair.server.default_action(IntentionAction::Deny).await;
    slow.release.notify_one();
    assert_eq!(raw.rest().await, "");
}

/// Two proxies whose leaves are of different roots, each trusting both.
async fn across_roots(protocol: Protocol, app: SocketAddr) -> (Running, Running, SocketAddr) {
    let (here, there) = (Mesh::new("test.mesh"), Mesh::new("test.mesh"));
    let (call, door) = (free().await, free().await);
    let mut server = here.snapshot("web", (door, app), protocol, &[]);
    let upstream = Upstream::of("web", (call, protocol), vec![door]);
    let mut client = there.snapshot("client", (free().await, app), protocol, &[upstream]);
    let both = [&server, &client].map(|s| s.trust_bundle.roots_pem[0].clone()).to_vec();
    server.trust_bundle.roots_pem = both.clone();
    client.trust_bundle.roots_pem = both;
    (Running::start("server", server).await, Running::start("client", client).await, call)
}

#[tokio::test]
async fn a_root_that_is_taken_away_ends_the_connections_it_vouched_for() {
    let (server, _client, call) = across_roots(Protocol::Tcp, greeter().await).await;
    let mut live = Raw::connect(call).await;
    live.until("welcome\n").await;
    // The first root is the server's own; the second vouches for the caller.
    server.change(|s| s.trust_bundle.roots_pem.swap(0, 1)).await;
    let mut second = Raw::connect(call).await;
    second.until("welcome\n").await;
    server.change(|s| drop(s.trust_bundle.roots_pem.remove(0))).await;
    assert_eq!(live.rest().await, "");
    assert_eq!(second.rest().await, "");
    assert_eq!(Raw::all(call).await, "");
}

#[tokio::test]
async fn a_root_that_vouched_for_no_caller_ends_nothing() {
    let (server, _client, call) = across_roots(Protocol::Tcp, greeter().await).await;
    let mut live = Raw::connect(call).await;
    live.until("welcome\n").await;
    server.change(|s| drop(s.trust_bundle.roots_pem.remove(0))).await;
    live.send("x").await;
    live.0.shutdown().await.expect("half-closed");
    assert_eq!(live.rest().await, "");
}

#[tokio::test]
async fn a_root_that_went_in_due_course_ends_nothing_and_opens_nothing() {
    let (server, _client, call) = across_roots(Protocol::Tcp, echo().await).await;
    let mut live = Raw::connect(call).await;
    live.send("before\n").await;
    live.until("before\n").await;
    server
        .change(|s| {
            let gone = s.trust_bundle.roots_pem.remove(1);
            let gone = certificates_from_pem("a root", &gone).expect("a certificate");
            s.trust_bundle.retired.push(fingerprint(&gone[0]));
        })
        .await;
    // A new connection is judged by what is trusted now, and comes after the change.
    assert_eq!(Raw::all(call).await, "");
    live.send("after\n").await;
    live.until("after\n").await;
    // That somebody else is revoked later is no reason either.
    let id = SpiffeId::parse("spiffe://test.mesh/ns/default/dc/dc1/svc/else").expect("an id");
    let revoked = Revoked::Identity { id, issued_before: None };
    server.change(|s| s.trust_bundle.revoked.push(revoked)).await;
    live.send("still\n").await;
    live.until("still\n").await;
}

#[tokio::test]
async fn an_idle_connection_of_a_lost_root_serves_no_further_request() {
    let app = App::start("web").await;
    let (server, _client, call) = across_roots(Protocol::Http, app.address).await;
    let mut raw = Raw::connect(call).await;
    raw.send("GET /1 HTTP/1.1\r\nHost: web\r\n\r\n").await;
    raw.until("}").await;
    server.change(|s| drop(s.trust_bundle.roots_pem.remove(1))).await;
    raw.send("POST /2 HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n").await;
    let answer = raw.until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 50"), "{answer}");
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn a_connection_that_is_cut_looks_whole_to_neither_end() {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let pair = Pair::start(Protocol::Tcp, address).await;
    let mut raw = Raw::connect(pair.call).await;
    let (mut app, _) = listener.accept().await.expect("the caller");
    raw.send("half of it").await;
    let mut read = vec![0; 10];
    app.read_exact(&mut read).await.expect("the half");
    pair.server.default_action(IntentionAction::Deny).await;
    for end in [&mut raw.0, &mut app] {
        let reading = tokio::time::timeout(LIMIT, end.read_to_end(&mut read));
        let error = reading.await.expect("in time").expect_err("a clean end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
