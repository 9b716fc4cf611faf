//! Further attempts of requests that are values, and of bodies that come in pieces.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use weft_core::config_entry::{BalancePolicy, LoadBalancer, Protocol};
use weft_runtime::http::{Body, ServeOptions, collect, full, serve};
use weft_runtime::net;
use weft_runtime::task::TaskTree;

use crate::support::pair::{App, Raw, Running, free, http2, localhost};
use crate::support::{Mesh, Upstream};

/// An application that fails with a status of HTTP or gRPC once it has read the body.
async fn failing(status: u16, grpc: Option<&'static str>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            let names = request.headers().keys();
            assert!(names.into_iter().all(|name| !name.as_str().starts_with("x-weft")));
            let _ = collect(request.into_body(), 64 << 20).await;
            let mut answer = Response::new(full("no"));
            *answer.status_mut() = http::StatusCode::from_u16(status).expect("a status");
            if let Some(code) = grpc {
                let code = http::HeaderValue::from_static(code);
                answer.headers_mut().insert("grpc-status", code);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let tasks = TaskTree::root("failing");
    let inner = tasks.clone();
    tasks.spawn("serve", async move {
        serve(listener, None, service, ServeOptions::default(), &inner).await;
    });
    tokio::spawn(async move {
        let _tasks = tasks;
        std::future::pending::<()>().await;
    });
    (address, asked)
}

/// A caller's door to an instance that fails and one that does not.
struct Road {
    call: SocketAddr,
    client: Running,
    _servers: [Running; 2],
}

impl Road {
    async fn start(protocol: Protocol, apps: (SocketAddr, SocketAddr), on: Value) -> Self {
        Self::with(protocol, apps, json!({ "Retries": on })).await
    }

    async fn with(
        protocol: Protocol,
        (bad, good): (SocketAddr, SocketAddr),
        action: Value,
    ) -> Self {
        let mesh = Mesh::new("test.mesh");
        let (call, bad_door, good_door) = (free().await, free().await, free().await);
        let bad = mesh.snapshot("web", (bad_door, bad), protocol, &[]);
        let good = mesh.snapshot("web", (good_door, good), protocol, &[]);
        let servers = [Running::start("bad", bad).await, Running::start("good", good).await];
        let mut upstream = Upstream::of("web", (call, protocol), vec![bad_door, good_door]);
        upstream.start = json!({ "Type": "router", "Routes": [
            { "Match": {}, "Action": action, "NextNode": "web" } ] });
        let mut snapshot = mesh.snapshot("client", (free().await, call), protocol, &[upstream]);
        // In turn, as the default soon keeps away from the one that fails.
        let in_turn = LoadBalancer { policy: BalancePolicy::RoundRobin, ..Default::default() };
        for target in snapshot.upstreams.iter_mut().flat_map(|it| it.chain.targets.values_mut()) {
            target.load_balancer = Some(Box::new(in_turn.clone()));
        }
        let client = Running::start("client", snapshot).await;
        Self { call, client, _servers: servers }
    }
}

#[tokio::test]
async fn requests_that_are_values_are_tried_again_with_their_bodies() {
    let on = json!({ "NumRetries": 2, "RetryOn": ["5xx", "unavailable"] });
    for (protocol, status, grpc) in [
        (Protocol::Http2, 503, None),
        (Protocol::Http, 500, None),
        (Protocol::Grpc, 200, Some("14")),
    ] {
        let ((bad, asked), good) = (failing(status, grpc).await, App::start("web").await);
        let road = Road::start(protocol, (bad, good.address), on.clone()).await;
        let mut sender = http2(road.call).await;
        // Until the one that fails was chosen first a few times.
        let mut number = 0;
        while asked.load(Ordering::SeqCst) < 4 {
            number += 1;
            assert!(number < 200, "{protocol}: it is never chosen");
            let body = "b".repeat(number * 97 % 30_000);
            let request = Request::post(format!("http://{}/a", road.call))
                .body(Full::new(Bytes::from(body.clone())))
                .expect("a request");
            let answer = sender.send_request(request).await.expect("an answer");
            assert_eq!(answer.status(), 200, "{protocol}");
            let said = answer.into_body().collect().await.expect("a body").to_bytes();
            let seen: Value = serde_json::from_slice(&said).expect("of the good one");
            assert_eq!(seen["bytes"], body.len(), "{protocol}: {seen}");
        }
        let metrics = road.client.admin("/metrics").await;
        assert!(metrics.contains("result=\"retried\"} 4"), "{protocol}: {metrics}");
    }
}

#[tokio::test]
async fn a_body_that_comes_in_pieces_is_sent_again_whole() {
    let on = json!({ "NumRetries": 1, "RetryOn": ["gateway-error"] });
    let ((bad, asked), good) = (failing(502, None).await, App::start("web").await);
    let road = Road::start(Protocol::Http, (bad, good.address), on).await;
    for (framing, first, second) in [
        ("Content-Length: 6\r\n", "abc", "def"),
        ("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n", "3\r\ndef\r\n0\r\n\r\n"),
    ] {
        let before = asked.load(Ordering::SeqCst);
        let mut number = 0;
        while asked.load(Ordering::SeqCst) < before + 3 {
            number += 1;
            assert!(number < 200, "it is never chosen");
            let mut raw = Raw::connect(road.call).await;
            let head = "POST /a HTTP/1.1\r\nHost: web\r\nConnection: close\r\n";
            raw.send(&format!("{head}{framing}\r\n{first}")).await;
            tokio::task::yield_now().await;
            raw.send(second).await;
            let answer = raw.rest().await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{framing}: {answer}");
            assert!(answer.contains("\"bytes\":6"), "{framing}: {answer}");
        }
    }
}

#[tokio::test]
async fn without_a_policy_an_answer_is_passed_on_as_it_is() {
    let ((bad, asked), good) = (failing(503, None).await, App::start("web").await);
    let road = Road::start(Protocol::Http, (bad, good.address), json!({ "NumRetries": 3 })).await;
    let mut failed = 0;
    while asked.load(Ordering::SeqCst) < 3 {
        let mut raw = Raw::connect(road.call).await;
        raw.send("GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await;
        failed += usize::from(raw.rest().await.starts_with("HTTP/1.1 503"));
    }
    assert_eq!(failed, 3);
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_makes_room_for_another() {
    let silent = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = silent.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            kept.push(stream);
        }
    });
    let good = App::start("web").await;
    let road = |limits: Value| {
        let mut action = json!({ "PerTryTimeout": { "secs": 0, "nanos": 200_000_000 } });
        action.as_object_mut().expect("an object").insert("Retries".to_owned(), limits);
        Road::with(Protocol::Http, (address, good.address), action)
    };
    let one = road(json!({})).await;
    let many = road(json!({ "NumRetries": 2, "RetryOn": ["reset"] })).await;
    for (road, wanted) in [(&one, [200, 504]), (&many, [200, 200])] {
        let before = asked.load(Ordering::SeqCst);
        let mut sender = http2(road.call).await;
        let mut number = 0;
        while asked.load(Ordering::SeqCst) < before + 4 {
            number += 1;
            assert!(number < 200, "the silent one is never chosen");
            let mut raw = Raw::connect(road.call).await;
            raw.send("GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await;
            let status = raw.rest().await[9..12].parse::<u16>().expect("a status");
            assert!(wanted.contains(&status), "{status}");
            let request = Request::post(format!("http://{}/a", road.call));
            let request = request.body(Full::new(Bytes::from("body"))).expect("a request");
            let answer = sender.send_request(request).await.expect("an answer");
            assert!(wanted.contains(&answer.status().as_u16()), "{}", answer.status());
        }
    }
}
