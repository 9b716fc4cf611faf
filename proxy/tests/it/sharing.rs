//! Requests and connections that share a connection between two proxies: each is served, judged and
//! cut as if it had one of its own.

use std::sync::Arc;

use crate::support::cut::one_of_two_is_cut;
use crate::support::pair::{App, LIMIT, Pair, Raw, Running, eventually, localhost};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::config_entry::{IntentionAction, Protocol};
use weft_proxy::config::Sharing;
use weft_runtime::net;
use weft_runtime::tls::tokio_rustls::TlsConnector;
use weft_runtime::tls::{Identity, PeerCheck, Trust, client_config, peer_name};

/// Waits until a count of a proxy is what it should be.
async fn counts(proxy: &Running, name: &str, want: u64) {
    let line = format!("weft_proxy_mux_{name} {want}\n");
    let holds = eventually(|| async { proxy.admin("/metrics").await.contains(&line) });
    if tokio::time::timeout(LIMIT / 2, holds).await.is_err() {
        let metrics = proxy.admin("/metrics").await;
        let found: Vec<&str> = metrics.lines().filter(|line| line.contains("_mux_")).collect();
        panic!("{line} is not among {found:#?}");
    }
}

#[tokio::test]
async fn a_storm_of_requests_opens_one_connection_and_idle_streams_are_used_again() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    for _ in 0..2 {
        let answers = futures::future::join_all((0..40).map(|_| pair.get("/"))).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
    }
    assert_eq!(app.count(), 80);
    counts(&pair.client, "connections_opened_total{direction=\"outbound\"}", 1).await;
    counts(&pair.server, "connections_opened_total{direction=\"inbound\"}", 1).await;
    let metrics = pair.server.admin("/metrics").await;
    let opened = metrics.lines().find(|line| line.starts_with("weft_proxy_mux_streams_opened"));
    let opened = opened.and_then(|line| line.rsplit(' ').next()).expect("a count");
    assert!(opened.parse::<u32>().expect("a number") <= 40, "{opened}");
    assert!(pair.client.admin("/config_dump").await.contains("\"mux\": \"auto\""));
}

#[tokio::test]
async fn a_change_of_policy_cuts_the_streams_that_it_concerns_and_no_others() {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let pair = Pair::start(Protocol::Http, listener.local_addr().expect("an address")).await;
    let _stays = one_of_two_is_cut(pair.call, &pair.server, &listener).await;
    counts(&pair.server, "streams_opened_total{direction=\"inbound\"}", 2).await;
    counts(&pair.server, "streams_closed_total{direction=\"inbound\"}", 1).await;
    counts(&pair.server, "connections_closed_total{direction=\"inbound\"}", 0).await;
}

#[tokio::test]
async fn a_reader_that_stands_still_stops_no_other() {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let app = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 8];
                stream.read_exact(&mut asked).await.expect("a number");
                let bytes = vec![1; usize::try_from(u64::from_be_bytes(asked)).expect("small")];
                let _ = stream.write_all(&bytes).await;
            });
        }
    });
    let pair = Pair::start(Protocol::Tcp, app).await;
    let mut slow = Raw::connect(pair.call).await;
    slow.0.write_all(&(64_u64 << 20).to_be_bytes()).await.expect("asked");
    for _ in 0..3 {
        let mut fast = Raw::connect(pair.call).await;
        fast.0.write_all(&(8_u64 << 20).to_be_bytes()).await.expect("asked");
        assert_eq!(fast.rest().await.len(), 8 << 20);
    }
    counts(&pair.client, "connections_opened_total{direction=\"outbound\"}", 1).await;
    assert_eq!(slow.rest().await.len(), 64 << 20, "and the slow one gets all of it");
}

#[tokio::test]
async fn who_has_it_off_is_called_as_before() {
    let app = App::start("web").await;
    let pair = Pair::start_with(Protocol::Http, app.address, [Sharing::Auto, Sharing::Off]).await;
    let answers = futures::future::join_all((0..10).map(|_| pair.get("/"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    counts(&pair.client, "connections_opened_total{direction=\"outbound\"}", 0).await;
    assert!(pair.server.admin("/config_dump").await.contains("\"mux\": \"off\""));
}

#[tokio::test]
async fn who_stops_finishes_what_is_under_way() {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let pair = Pair::start(Protocol::Http, listener.local_addr().expect("an address")).await;
    let mut raw = Raw::connect(pair.call).await;
    raw.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    let (mut app, _) = listener.accept().await.expect("the request");
    let mut head = vec![0; 4];
    app.read_exact(&mut head).await.expect("a head");
    pair.server.tasks.cancel();
    counts(&pair.client, "streams_opened_total{direction=\"outbound\"}", 1).await;
    app.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("answered");
    assert!(raw.until("ok").await.starts_with("HTTP/1.1 200"));
    pair.server.tasks.join(LIMIT).await.expect("it ends with the request");
}

#[tokio::test]
async fn who_breaks_the_rules_loses_the_connection_and_is_counted() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let (leaf, trust, door) = {
        let client = pair.client.snapshots.borrow();
        let door = pair.server.snapshots.borrow().inbound.bind;
        (client.leaf.clone(), client.trust_bundle.clone(), door)
    };
    let identity = Identity::from_leaf(&leaf).expect("a leaf");
    let trust = Trust::from_bundle(&trust).expect("a bundle");
    let alpn = &[weft_core::traffic::mux::ALPN];
    let config = client_config(&identity, &trust, PeerCheck::AnyMember, alpn).expect("a client");
    let connector = TlsConnector::from(Arc::new(config));
    let hello = [0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0];
    for (frames, code) in [
        (vec![0, 1, 1, 0, 0, 0, 0, 2, 2], 9),
        (vec![0, 0, 99, 0, 0, 0, 0, 1], 10),
        (vec![0, 1, 1, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1], 4),
    ] {
        let stream = net::connect_tcp(door, LIMIT).await.expect("a connection");
        let mut tls = connector.connect(peer_name(door), stream).await.expect("let in");
        tls.write_all(&[&hello[..], &frames].concat()).await.expect("sent");
        let mut read = Vec::new();
        let reading = tls.read_to_end(&mut read);
        tokio::time::timeout(LIMIT, reading).await.expect("in time").expect("a goodbye");
        assert_eq!(read[16..20], [0, 8, 4, 0], "a go-away after the hello: {read:?}");
        assert_eq!(read.last(), Some(&code));
    }
    counts(&pair.server, "violations_total{direction=\"inbound\"}", 3).await;
    assert_eq!(pair.get("/").await.status, 200);
    pair.server.default_action(IntentionAction::Deny).await;
    assert_eq!(pair.get("/").await.status, 403);
}
