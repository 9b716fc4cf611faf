//! Requests of HTTP/2 on streams beside others: many share a connection, over TCP and over QUIC, and who
//! has no such streams is called over HTTP/2.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use weft_core::config_entry::{MeshTransport, Protocol};
use weft_proxy::config::Sharing;

use crate::support::pair::{App, LIMIT, Running, eventually, free, http2};
use crate::support::{Mesh, Upstream};

/// A pair whose called side has streams or not; returns where it is called.
async fn pair(
    app: SocketAddr,
    (transport, theirs): (MeshTransport, Sharing),
) -> (SocketAddr, Running, Running) {
    let (mesh, call, door) = (Mesh::new("test.mesh"), free().await, free().await);
    let server = mesh.snapshot("web", (door, app), Protocol::Http2, &[]);
    let server = Running::launch_with("server", server, |config| config.mux = theirs);
    let mut server = server.await.expect("a proxy");
    server.handle.ready().await.expect("a proxy in service");
    let upstream = Upstream::of("web", (call, Protocol::Http2), vec![door]);
    let mut client = mesh.snapshot("client", (free().await, app), Protocol::Http2, &[upstream]);
    for target in client.upstreams[0].chain.targets.values_mut() {
        target.transport.mesh_transport = transport;
    }
    (call, Running::start("client", client).await, server)
}

/// Sends requests at once, with bodies of several sizes, and checks the answers.
async fn ask(call: SocketAddr) {
    let sender = http2::<Full<Bytes>>(call).await;
    let requests = (0..40_usize).map(|number| {
        let mut sender = sender.clone();
        async move {
            let (method, length) = if number % 2 == 0 {
                (Method::GET, 0)
            } else {
                (Method::POST, number * number * 100)
            };
            let request = Request::builder().method(method.clone()).uri(format!("http://{call}/"));
            let request = request.body(Full::new(Bytes::from(vec![b'x'; length])));
            sender.ready().await.expect("a connection");
            let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
            assert_eq!(answer.status(), 200);
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            let seen: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(
                (&seen["method"], &seen["bytes"]),
                (&method.as_str().into(), &length.into())
            );
        }
    });
    let all = futures::future::join_all(requests);
    tokio::time::timeout(LIMIT, all).await.expect("answers in time");
}

async fn count(proxy: &Running, name: &str) -> u64 {
    let metrics = proxy.admin("/metrics").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn requests_share_a_connection_and_streams_are_used_again() {
    let app = App::start("web").await;
    let how = (MeshTransport::Tcp, Sharing::Auto);
    let (call, client, server) = pair(app.address, how).await;
    ask(call).await;
    ask(call).await;
    assert_eq!(app.count(), 80);
    let opened = "weft_proxy_mux_connections_opened_total{direction=\"inbound\"}";
    assert_eq!(count(&server, opened).await, 1);
    let streams = "weft_proxy_mux_streams_opened_total{direction=\"outbound\"}";
    eventually(|| async { (1..=40).contains(&count(&client, streams).await) }).await;
}

#[tokio::test]
async fn requests_go_over_quic_where_that_is_wanted() {
    let app = App::start("web").await;
    let how = (MeshTransport::Quic, Sharing::Auto);
    let (call, client, server) = pair(app.address, how).await;
    ask(call).await;
    assert_eq!(app.count(), 40);
    let streams = "weft_proxy_quic_streams_opened_total{direction=\"inbound\"}";
    assert!(count(&server, streams).await > 0);
    let connections = "weft_proxy_mux_connections_opened_total{direction=\"outbound\"}";
    assert_eq!(count(&client, connections).await, 0);
}

#[tokio::test]
async fn who_has_no_streams_is_called_over_http2() {
    let app = App::start("web").await;
    let how = (MeshTransport::Tcp, Sharing::Off);
    let (call, client, _server) = pair(app.address, how).await;
    ask(call).await;
    ask(call).await;
    assert_eq!(app.count(), 80);
    let connections = "weft_proxy_mux_connections_opened_total{direction=\"outbound\"}";
    assert_eq!(count(&client, connections).await, 0);
    let own = "weft_proxy_connections_opened_total{direction=\"outbound\"";
    let metrics = client.admin("/metrics").await;
    let own: u64 = metrics
        .lines()
        .filter(|line| line.starts_with(own))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(own, 1, "a storm of requests opens one");
}
