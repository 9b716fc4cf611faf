//! Requests judged by their content at the service's own proxy: what is judged is what arrives,
//! and what was begun ends when it is no longer allowed.

use std::convert::Infallible;
use std::net::SocketAddr;

use crate::support::pair::{App, LIMIT, Pair, Raw, eventually, http2, localhost};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use weft_core::config_entry::Protocol;
use weft_core::intention::IntentionSet;
use weft_runtime::net;

/// Puts permissions of the client in force, beside a default that denies.
async fn permit(pair: &Pair, permissions: serde_json::Value) {
    let source = json!({ "source": "client", "destination": "web", "action": "deny",
        "permissions": permissions, "precedence": 9 });
    put(pair, source, "deny").await;
}

async fn put(pair: &Pair, intention: serde_json::Value, default: &str) {
    let set = json!({ "intentions": [intention], "default_action": default });
    let set: IntentionSet = serde_json::from_value(set).expect("a set");
    pair.server.change(|snapshot| snapshot.inbound.intentions = set).await;
}

#[tokio::test]
async fn the_path_that_is_judged_is_the_one_that_arrives() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    permit(
        &pair,
        json!([
            { "Action": "deny", "HTTP": { "PathPrefix": "/admin" } },
            { "Action": "allow", "HTTP": { "PathPrefix": "/", "Methods": ["GET"] } },
        ]),
    )
    .await;
    for (target, wanted) in [
        ("/a", Some("/a")),
        ("/a//b/../c?x=//y", Some("/a/c?x=//y")),
        ("/%61%3Ab", Some("/a:b")),
        ("/x/..", Some("/")),
        ("/admin", None),
        ("//admin", None),
        ("/./admin", None),
        ("/x/%2e%2e/admin", None),
        ("/x%2f..%2fadmin", None),
        ("/%2561dmin", None),
        ("/x/..;/admin", None),
        ("/\\admin", None),
    ] {
        let before = app.count();
        let mut raw = Raw::connect(pair.call).await;
        raw.send(&format!("GET {target} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")).await;
        let answer = raw.rest().await;
        match wanted {
            Some(uri) => {
                assert!(answer.contains(&format!("\"uri\":\"{uri}\"")), "{target}: {answer}");
            }
            None => {
                assert!(answer.starts_with("HTTP/1.1 403 "), "{target}: {answer}");
                assert!(answer.contains("x-weft-cause: intention-denied"), "{answer}");
                assert_eq!(app.count(), before, "{target} arrived");
            }
        }
    }
    let mut raw = Raw::connect(pair.call).await;
    raw.send("PUT /a HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n").await;
    let answer = raw.until("permission").await;
    assert!(answer.contains("none of the 2 permissions of intention client → web"), "{answer}");
}

#[tokio::test]
async fn what_would_be_refused_in_a_dry_run_passes_and_is_counted() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let source = json!({ "source": "client", "destination": "web", "action": "deny",
        "dry_run": true, "precedence": 9 });
    put(&pair, source, "deny").await;
    assert_eq!(pair.get("/a").await.status, 200);
    let count = "weft_proxy_dry_run_denied_total{direction=\"inbound\",service=\"web\"} 1";
    eventually(|| async { pair.server.admin("/metrics").await.contains(count) }).await;
}

/// An application whose answers never end.
async fn endless() -> SocketAddr {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|_: Request<Incoming>| async move {
                let first = Ok::<_, Infallible>(Frame::data(Bytes::from("first")));
                let pieces = futures::stream::iter([first]).chain(futures::stream::pending());
                Ok::<_, Infallible>(Response::new(StreamBody::new(pieces)))
            });
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

const BOTH: &str = r#"[{ "Action": "allow", "HTTP": { "PathPrefix": "/a" } },
    { "Action": "allow", "HTTP": { "PathPrefix": "/b" } }]"#;
const ONE: &str = r#"[{ "Action": "allow", "HTTP": { "PathPrefix": "/a" } }]"#;

fn permissions(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

#[tokio::test]
async fn an_answer_that_is_no_longer_allowed_ends_and_others_go_on() {
    let pair = Pair::start(Protocol::Http, endless().await).await;
    permit(&pair, permissions(BOTH)).await;
    let mut raws = Vec::new();
    for path in ["/a", "/b"] {
        let mut raw = Raw::connect(pair.call).await;
        raw.send(&format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n")).await;
        raw.until("first").await;
        raws.push(raw);
    }
    permit(&pair, permissions(ONE)).await;
    let (mut a, mut b) = (raws.remove(0), raws.remove(0));
    b.rest().await;
    let mut buffer = [0; 1];
    let more = tokio::io::AsyncReadExt::read(&mut a.0, &mut buffer);
    assert!(tokio::time::timeout(LIMIT / 20, more).await.is_err(), "/a was cut as well");
}

#[tokio::test]
async fn one_stream_of_a_connection_ends_alone() {
    let pair = Pair::start(Protocol::Http2, endless().await).await;
    permit(&pair, permissions(BOTH)).await;
    let mut sender = http2::<Full<Bytes>>(pair.call).await;
    let mut bodies = Vec::new();
    for path in ["/a", "/b"] {
        let request = Request::get(format!("http://{}{path}", pair.call));
        let request = request.body(Full::default()).expect("a request");
        let mut body = sender.send_request(request).await.expect("an answer").into_body();
        body.frame().await.expect("a frame").expect("the first piece");
        bodies.push(body);
    }
    permit(&pair, permissions(ONE)).await;
    let ended = tokio::time::timeout(LIMIT, bodies[1].frame()).await.expect("in time");
    assert!(!matches!(ended, Some(Ok(_))), "/b goes on");
    assert!(tokio::time::timeout(LIMIT / 20, bodies[0].frame()).await.is_err(), "/a was cut");
    // A caller that is refused altogether keeps nothing.
    put(
        &pair,
        json!({ "source": "client", "destination": "web", "action": "deny",
        "precedence": 9 }),
        "allow",
    )
    .await;
    let ended = tokio::time::timeout(LIMIT, bodies[0].frame()).await.expect("in time");
    assert!(!matches!(ended, Some(Ok(_))), "/a goes on");
}

#[tokio::test]
async fn a_grpc_caller_is_told_in_its_own_terms() {
    let pair = Pair::start(Protocol::Grpc, endless().await).await;
    let get = json!([{ "Action": "allow", "HTTP": { "PathExact": "/shop.Cart/Get" } }]);
    permit(&pair, get).await;
    let mut sender = http2(pair.call).await;
    for (path, status) in [("/shop.Cart/Get", None), ("/shop.Cart/Empty", Some("7"))] {
        let (_door, pieces) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
        let request = Request::post(format!("http://{}{path}", pair.call))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(StreamBody::new(ReceiverStream::new(pieces)))
            .expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        let told = answer.headers().get("grpc-status").map(|status| status.to_str().expect("text"));
        assert_eq!(told, status, "{path}");
    }
}

#[tokio::test]
async fn bytes_are_judged_by_address_and_not_by_requests() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Tcp, app.address).await;
    let ask = || async {
        // Who is refused may be so before the first byte.
        let Ok(stream) = net::connect_tcp(pair.call, LIMIT).await else { return false };
        let mut raw = Raw(stream);
        let request = b"GET /a HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
        raw.0.write_all(request).await.is_ok() && raw.rest().await.starts_with("HTTP/1.1 200")
    };
    permit(&pair, json!([{ "Action": "allow", "SourceCIDRs": ["127.0.0.0/8"] }])).await;
    assert!(ask().await);
    permit(&pair, json!([{ "Action": "allow", "SourceCIDRs": ["10.0.0.0/8"] }])).await;
    assert!(!ask().await);
    let port = json!([{ "Action": "allow", "DestinationPorts": [app.address.port()] }]);
    permit(&pair, port).await;
    assert!(ask().await);
    permit(&pair, json!([{ "Action": "allow", "HTTP": { "PathPrefix": "/" } }])).await;
    assert!(!ask().await);
}
