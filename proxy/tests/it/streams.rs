//! HTTP/2 and gRPC through two proxies: streams, trailers, and what meets HTTP/1.1.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use crate::support::pair::{App, LIMIT, Pair, Raw, eventually, http2, localhost};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use weft_core::config_entry::{IntentionAction, Protocol};
use weft_runtime::net;

type Pieces = StreamBody<ReceiverStream<Result<Frame<Bytes>, Infallible>>>;

/// An HTTP/2 application that sends each piece back as it comes, then trailers.
async fn echo() -> SocketAddr {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                let identity = request.headers().get("x-forwarded-client-cert").cloned();
                let (door, pieces) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(8);
                tokio::spawn(async move {
                    let mut body = request.into_body().into_data_stream();
                    while let Some(Ok(piece)) = body.next().await {
                        let _ = door.send(Ok(Frame::data(piece))).await;
                    }
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().expect("a value"));
                    let _ = door.send(Ok(Frame::trailers(trailers))).await;
                });
                let mut response = Response::new(StreamBody::new(ReceiverStream::new(pieces)));
                response.headers_mut().extend(
                    identity.map(|value| (http::HeaderName::from_static("identity"), value)),
                );
                Ok::<_, Infallible>(response)
            });
            tokio::spawn(async move {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn pieces_and_trailers_flow_both_ways_while_the_request_is_open() {
    let pair = Pair::start(Protocol::Grpc, echo().await).await;
    let mut sender = http2::<Pieces>(pair.call).await;
    let (door, pieces) = mpsc::channel(8);
    let request = Request::post(format!("http://{}/a.B/C", pair.call))
        .header("te", "trailers")
        .header("x-forwarded-client-cert", "forged")
        .body(StreamBody::new(ReceiverStream::new(pieces)))
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let identity = response.headers()["identity"].to_str().expect("text").to_owned();
    assert!(
        identity.ends_with("URI=spiffe://test.mesh/ns/default/dc/dc1/svc/client"),
        "{identity}"
    );
    let mut body = response.into_body();
    for piece in ["one", "two", "three"] {
        door.send(Ok(Frame::data(Bytes::from(piece)))).await.expect("sent");
        let frame = tokio::time::timeout(LIMIT, body.frame()).await.expect("in time");
        let frame = frame.expect("a frame").expect("whole");
        assert_eq!(frame.into_data().ok(), Some(Bytes::from(piece)));
    }
    drop(door);
    let last = body.frame().await.expect("a frame").expect("whole");
    assert_eq!(last.into_trailers().expect("trailers")["grpc-status"], "0");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn many_requests_share_connections() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http2, app.address).await;
    let sender = http2::<Full<Bytes>>(pair.call).await;
    let requests = (0..200).map(|n| {
        let mut sender = sender.clone();
        let uri = format!("http://{}/{n}", pair.call);
        async move {
            let request = Request::put(uri).body(Full::new(Bytes::from(vec![1; n])));
            let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            let seen: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(seen["version"], "HTTP/2.0");
            assert_eq!(seen["bytes"], n);
        }
    });
    futures::future::join_all(requests).await;
    let metrics = pair.client.admin("/metrics").await;
    let opened =
        "connections_opened_total{direction=\"outbound\",upstream=\"web\",target=\"web\"} ";
    let at = metrics.find(opened).expect("the count") + opened.len();
    let count: u32 = metrics[at..].lines().next().expect("a line").parse().expect("a number");
    assert!((1..=3).contains(&count), "{count} connections");
}

#[tokio::test]
async fn callers_and_applications_may_speak_different_versions() {
    let app = App::start("web").await;
    let http = Pair::start(Protocol::Http, app.address).await;
    let mut sender = http2::<Full<Bytes>>(http.call).await;
    for _ in 0..3 {
        let request = Request::post(format!("http://{}/x?y", http.call));
        let request = request.body(Full::new(Bytes::from("abc"))).expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        let seen: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((&seen["version"], &seen["uri"]), (&"HTTP/1.1".into(), &"/x?y".into()));
        assert_eq!(seen["bytes"], 3);
    }
    let http2 = Pair::start(Protocol::Http2, app.address).await;
    let mut raw = Raw::connect(http2.call).await;
    for _ in 0..2 {
        raw.send("GET /z HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let answer = raw.until("}").await;
        assert!(answer.contains("HTTP/2.0") && answer.contains("http://web/z"), "{answer}");
    }
}

#[tokio::test]
async fn refusals_reach_grpc_callers_as_their_status() {
    let pair = Pair::start(Protocol::Grpc, echo().await).await;
    pair.server.default_action(IntentionAction::Deny).await;
    let mut sender = http2::<Full<Bytes>>(pair.call).await;
    let request = Request::post(format!("http://{}/a.B/C", pair.call))
        .header("content-type", "application/grpc")
        .body(Full::default())
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "7");
    assert!(answer.headers()["grpc-message"].to_str().expect("text").contains("must not call"));
    pair.client.change(|s| s.endpoints.values_mut().for_each(Vec::clear)).await;
    let request = Request::get(format!("http://{}/", pair.call)).body(Full::default());
    let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["x-weft-cause"], "no-endpoint");
}

#[tokio::test]
async fn live_streams_are_cut_when_the_caller_is_refused() {
    let pair = Pair::start(Protocol::Grpc, echo().await).await;
    let mut sender = http2::<Pieces>(pair.call).await;
    let (_door, pieces) = mpsc::channel(8);
    let request = Request::post(format!("http://{}/a.B/C", pair.call))
        .body(StreamBody::new(ReceiverStream::new(pieces)));
    let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
    pair.server.default_action(IntentionAction::Deny).await;
    let mut body = answer.into_body();
    let end = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.expect("in time");
    assert!(matches!(end, Some(Err(_))), "{end:?}");
}

#[tokio::test]
async fn heads_that_http1_would_refuse_are_refused_in_http2() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let mut sender = http2::<Full<Bytes>>(pair.call).await;
    let base = || Request::post(format!("http://{}/", pair.call));
    for (what, request) in [
        ("userinfo", Request::post("http://user@web/")),
        ("two lengths", base().header("content-length", "3").header("content-length", "4")),
        ("a path that is not ASCII", Request::post("http://web/\u{e9}")),
        ("an asterisk", Request::post("http://web").uri("*")),
        ("a disguised length", base().header("content_length", "0")),
        ("two hosts", base().header("host", "other")),
    ] {
        let request = request.body(Full::new(Bytes::from("abc"))).expect("a request");
        sender.ready().await.expect("a connection");
        match sender.send_request(request).await {
            Ok(answer) => assert_eq!(answer.status(), 400, "{what}"),
            // Refused already by the protocol.
            Err(_) => sender = http2::<Full<Bytes>>(pair.call).await,
        }
    }
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn an_http1_application_gets_cookies_in_one_line_and_bodies_whole() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let mut sender = http2::<Pieces>(pair.call).await;
    let (door, pieces) = mpsc::channel(8);
    let request = Request::get(format!("http://{}/search", pair.call))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(StreamBody::new(ReceiverStream::new(pieces)))
        .expect("a request");
    let answer = sender.send_request(request);
    door.send(Ok(Frame::data(Bytes::from("query")))).await.expect("sent");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-forwarded-client-cert", "URI=forged".parse().expect("a value"));
    door.send(Ok(Frame::trailers(trailers))).await.expect("sent");
    drop(door);
    let body = answer.await.expect("an answer").into_body();
    let body = body.collect().await.expect("a body").to_bytes();
    let seen: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((&seen["method"], &seen["bytes"]), (&"GET".into(), &5.into()));
    let headers = seen["headers"].to_string();
    assert!(headers.contains("a=1; b=2"), "{headers}");
}

#[tokio::test]
async fn a_request_that_waits_for_its_answer_is_cut_when_the_caller_is_refused() {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let pair = Pair::start(Protocol::Http, listener.local_addr().expect("an address")).await;
    let mut sender = http2::<Pieces>(pair.call).await;
    let (door, pieces) = mpsc::channel(8);
    let request = Request::post(format!("http://{}/", pair.call))
        .body(StreamBody::new(ReceiverStream::new(pieces)))
        .expect("a request");
    let answer = tokio::spawn(sender.send_request(request));
    door.send(Ok(Frame::data(Bytes::from("half")))).await.expect("sent");
    let (mut app, _) = listener.accept().await.expect("the request's connection");
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("half") {
        assert_ne!(app.read_buf(&mut read).await.expect("bytes"), 0);
    }
    pair.server.default_action(IntentionAction::Deny).await;
    let ended = tokio::time::timeout(LIMIT, app.read_to_end(&mut read)).await;
    assert!(ended.is_ok(), "the application is still asked");
    assert!(!String::from_utf8_lossy(&read).ends_with("0\r\n\r\n"), "half taken for whole");
    let answer = tokio::time::timeout(LIMIT, answer).await.expect("in time").expect("ended");
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 502));
}

#[tokio::test]
async fn requests_that_callers_give_up_are_counted_once_and_leave_nothing_behind() {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let pair = Pair::start(Protocol::Http, listener.local_addr().expect("an address")).await;
    let mut sender = http2::<Full<Bytes>>(pair.call).await;
    for _ in 0..10 {
        let request = Request::get(format!("http://{}/", pair.call)).body(Full::default());
        let answer = tokio::spawn(sender.send_request(request.expect("a request")));
        let (mut app, _) = listener.accept().await.expect("the request's connection");
        answer.abort();
        let ended = tokio::time::timeout(LIMIT, app.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "the application is still asked");
    }
    for proxy in [&pair.client, &pair.server] {
        eventually(|| async {
            let metrics = proxy.admin("/metrics").await;
            metrics.contains("code=\"none\"} 10\n")
                && metrics.contains("cause=\"client-gone\"} 10\n")
        })
        .await;
    }
}
