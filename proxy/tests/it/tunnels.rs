//! Bytes both ways after a request: CONNECT, WebSocket, and what does not become a tunnel.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::support::pair::{App, LIMIT, Pair, Raw, eventually, http2, localhost};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::ext::Protocol as Asked;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::config_entry::{IntentionAction, Protocol};
use weft_core::intention::IntentionSet;
use weft_runtime::digest::websocket_accept;
use weft_runtime::net;

/// An HTTP/1.1 service that answers each head with what `answer` says of it. An answer that opens a
/// tunnel is followed by what came, until that ends.
struct Service {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Service {
    async fn start(answer: fn(&str) -> String) -> Self {
        let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = heads.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, answer, log.clone()));
            }
        });
        Self { address, heads }
    }

    async fn serve(
        mut stream: net::TcpStream,
        answer: fn(&str) -> String,
        log: Arc<Mutex<Vec<String>>>,
    ) {
        let mut read = Vec::with_capacity(16 << 10);
        let end = loop {
            if let Some(at) = read.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let said = answer(&head);
        log.lock().expect("not poisoned").push(head);
        stream.write_all(said.as_bytes()).await.expect("answered");
        let opens = said.starts_with("HTTP/1.1 101") || said.starts_with("HTTP/1.1 2");
        if opens && !said.contains("Content-Length: 2") {
            stream.write_all(&read[end..]).await.expect("said back");
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("not poisoned").clone()
    }
}

fn field(head: &str, name: &str) -> String {
    let line = head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    });
    line.unwrap_or_default()
}

/// Answers as a WebSocket server does.
fn websocket(head: &str) -> String {
    let accept = websocket_accept(field(head, "sec-websocket-key").as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

async fn allow_connect(pair: &Pair) {
    pair.server.change(|snapshot| snapshot.inbound.allow_connect = true).await;
}

const CONNECT: &str = "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\r\n";

#[tokio::test]
async fn connect_is_refused_unless_the_service_allows_it() {
    let service = Service::start(|_| "HTTP/1.1 200 OK\r\n\r\n".to_owned()).await;
    let pair = Pair::start(Protocol::Http, service.address).await;
    let mut raw = Raw::connect(pair.call).await;
    raw.send(&format!("{CONNECT}GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n")).await;
    let answer = raw.rest().await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("x-weft-cause: connect-not-allowed"), "{answer}");
    assert!(answer.contains("AllowConnect"), "it says what to do: {answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "what follows is no request: {answer}");
    allow_connect(&pair).await;
    for (bad, why) in [
        ("CONNECT far.example:443 HTTP/1.1\r\nHost: other:443\r\n\r\n", "two names"),
        ("CONNECT far.example HTTP/1.1\r\nHost: far.example\r\n\r\n", "no port"),
        ("CONNECT / HTTP/1.1\r\nHost: /\r\n\r\n", "a path"),
        ("CONNECT http://a:1/ HTTP/1.1\r\nHost: a:1\r\n\r\n", "a URL"),
        ("CONNECT a:1 HTTP/1.0\r\n\r\n", "no host"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1\r\n\r\nx", "a body"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n", "chunks"),
    ] {
        let mut raw = Raw::connect(pair.call).await;
        raw.send(bad).await;
        let answer = raw.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{why}: {answer}");
    }
    assert_eq!(service.heads(), [""; 0]);
}

#[tokio::test]
async fn connect_carries_every_byte_and_each_end_by_itself() {
    let service = Service::start(|_| {
        // What delimits bodies elsewhere means nothing here.
        "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nX-Own: 1\r\n\r\n".to_owned()
    })
    .await;
    let pair = Pair::start(Protocol::Http, service.address).await;
    allow_connect(&pair).await;
    let mut raw = Raw::connect(pair.call).await;
    raw.send(&format!("{CONNECT}early")).await;
    let answer = raw.until("early").await;
    assert!(answer.starts_with("HTTP/1.1 200 Fine\r\n"), "{answer}");
    assert!(!answer.contains("transfer-encoding") && !answer.contains("Transfer"), "{answer}");
    assert!(answer.contains("X-Own: 1\r\n") && !answer.contains("onnection"), "{answer}");
    raw.send("GET / HTTP/1.1\r\n\r\n").await;
    raw.until("GET / HTTP/1.1\r\n\r\n").await;
    raw.0.shutdown().await.expect("half of it ends");
    assert_eq!(raw.rest().await, "", "then the other half");
    let head = &service.heads()[0];
    assert!(head.starts_with("CONNECT far.example:443 HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(head, "host"), "far.example:443");
    assert!(field(head, "x-forwarded-client-cert").contains("/svc/client"), "{head}");
    let counted = "requests_total{direction=\"inbound\",service=\"web\",code=\"2xx\"} 1";
    eventually(|| async { pair.server.admin("/metrics").await.contains(counted) }).await;
}

#[tokio::test]
async fn what_follows_a_connect_that_the_service_refuses_goes_nowhere() {
    let refused = |_: &str| "HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno".to_owned();
    let service = Service::start(refused).await;
    let pair = Pair::start(Protocol::Http, service.address).await;
    allow_connect(&pair).await;
    let mut raw = Raw::connect(pair.call).await;
    raw.send(&format!("{CONNECT}GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n")).await;
    let answer = raw.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 407 No\r\n") && answer.ends_with("\r\n\r\nno"),
        "{answer}"
    );
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(service.heads().len(), 1);
}

/// An HTTP/2 service that opens each tunnel that it is asked for, and says back what comes.
async fn service2(offers: bool) -> SocketAddr {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|mut request: Request<Incoming>| async move {
                let asked = request.extensions().get::<Asked>().map(|it| it.as_str().to_owned());
                let seen = format!("{} {} {asked:?}", request.method(), request.uri());
                tokio::spawn(async move {
                    let Ok(upgraded) = hyper::upgrade::on(&mut request).await else { return };
                    let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                    let _ = to.shutdown().await;
                });
                let answer = Response::builder().header("seen", seen).body(Empty::<Bytes>::new());
                Ok::<_, Infallible>(answer.expect("an answer"))
            });
            tokio::spawn(async move {
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                if offers {
                    builder.enable_connect_protocol();
                }
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// Asks for a tunnel over HTTP/2: for a protocol, or to the host.
async fn ask(pair: &Pair, target: &str, protocol: Option<&'static str>) -> Response<Incoming> {
    let mut sender = http2::<Full<Bytes>>(pair.call).await;
    let mut request = Request::builder().method(Method::CONNECT).uri(target);
    if let Some(protocol) = protocol {
        request = request
            .extension(Asked::from_static(protocol))
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", "chat");
    }
    let request = request.body(Full::default()).expect("a request");
    let answered = tokio::time::timeout(LIMIT, sender.send_request(request)).await;
    answered.expect("in time").expect("an answer")
}

/// Says much through a tunnel, hears it back and ends it half by half.
async fn echoes(upgraded: Upgraded) {
    let mut io = TokioIo::new(upgraded);
    let said: Vec<u8> = (0..3_000_000u32).map(|number| number as u8).collect();
    let (mut from, mut to) = tokio::io::split(&mut io);
    let saying = async {
        to.write_all(&said).await.expect("said");
        to.shutdown().await.expect("ended");
    };
    let mut heard = Vec::new();
    let both = async { tokio::join!(saying, from.read_to_end(&mut heard)) };
    tokio::time::timeout(LIMIT, both).await.expect("in time").1.expect("an end");
    assert!(heard == said, "{} bytes of {}", heard.len(), said.len());
}

#[tokio::test]
async fn a_websocket_over_http2_reaches_a_service_of_http1_as_an_upgrade() {
    let service = Service::start(websocket).await;
    let pair = Pair::start(Protocol::Http, service.address).await;
    let mut answer = ask(&pair, "http://web/chat?room=1", Some("websocket")).await;
    assert_eq!(answer.status(), 200);
    for gone in ["upgrade", "connection", "sec-websocket-accept", "content-length"] {
        assert_eq!(answer.headers().get(gone), None, "{gone}");
    }
    echoes(hyper::upgrade::on(&mut answer).await.expect("a tunnel")).await;
    let head = &service.heads()[0];
    assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{head}");
    for (name, want) in [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("host", "web"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
        ("content-length", ""),
        ("transfer-encoding", ""),
    ] {
        assert_eq!(field(head, name), want, "{name}: {head}");
    }
    assert_eq!(field(head, "sec-websocket-key").len(), 24, "{head}");
    for proxy in [&pair.client, &pair.server] {
        let counted = |text: &str| {
            text.lines().any(|line| line.contains("requests_total{") && line.contains("\"2xx\"} 1"))
        };
        eventually(|| async { counted(&proxy.admin("/metrics").await) }).await;
    }
}

#[tokio::test]
async fn an_answer_that_does_not_change_the_protocol_is_no_tunnel() {
    for (answer, status) in [
        (
            (|_| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno".to_owned()) as fn(&str) -> String,
            502,
        ),
        (|_| "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno".to_owned(), 403),
        (|_| "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_owned(), 502),
        (|head| websocket(head).replace("WebSocket\r\n", "other\r\n"), 502),
    ] {
        let service = Service::start(answer).await;
        let pair = Pair::start(Protocol::Http, service.address).await;
        let answer = ask(&pair, "http://web/", Some("websocket")).await;
        assert_eq!(answer.status(), status);
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        assert!(!body.is_empty());
    }
}

#[tokio::test]
async fn tunnels_reach_a_service_of_http2_that_offers_them() {
    let pair = Pair::start(Protocol::Http2, service2(true).await).await;
    let mut answer = ask(&pair, "http://web/chat", Some("websocket")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["seen"], "CONNECT http://web/chat Some(\"websocket\")");
    echoes(hyper::upgrade::on(&mut answer).await.expect("a tunnel")).await;
    for protocol in ["h2c", "HTTP/1.1", "TLS"] {
        let answer = ask(&pair, "http://web/chat", Some(protocol)).await;
        assert_eq!(answer.status(), 400, "{protocol} would not be judged");
    }
    let silent = Pair::start(Protocol::Http2, service2(false).await).await;
    let answer = ask(&silent, "http://web/chat", Some("websocket")).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.headers()["x-weft-cause"], "connect-not-offered");
}

#[tokio::test]
async fn connect_over_http2_reaches_services_of_both_kinds() {
    let service = Service::start(|_| "HTTP/1.1 299 Fine\r\n\r\n".to_owned()).await;
    let both = [(Protocol::Http, service.address), (Protocol::Http2, service2(true).await)];
    for (protocol, address) in both {
        let pair = Pair::start(protocol, address).await;
        let answer = ask(&pair, "far.example:443", None).await;
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.headers()["x-weft-cause"], "connect-not-allowed");
        allow_connect(&pair).await;
        assert_eq!(ask(&pair, "far.example", None).await.status(), 400, "no port");
        let mut answer = ask(&pair, "far.example:443", None).await;
        assert_eq!(answer.status(), StatusCode::OK, "{protocol:?}");
        echoes(hyper::upgrade::on(&mut answer).await.expect("a tunnel")).await;
    }
    assert!(service.heads()[0].starts_with("CONNECT far.example:443 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn tunnels_are_judged_as_what_the_service_gets() {
    let service = Service::start(websocket).await;
    // A service of HTTP/1.1 gets a GET, for which it may have an answer of its own.
    for (protocol, address, method) in [
        (Protocol::Http, service.address, "GET"),
        (Protocol::Http2, service2(true).await, "CONNECT"),
    ] {
        let pair = Pair::start(protocol, address).await;
        allow_connect(&pair).await;
        let permission = json!({ "Action": "allow",
            "HTTP": { "PathPrefix": "/chat", "Methods": [method] } });
        let source = json!({ "source": "client", "destination": "web", "action": "deny",
            "permissions": [permission], "precedence": 9 });
        let set = json!({ "intentions": [source], "default_action": "deny" });
        let set: IntentionSet = serde_json::from_value(set).expect("a set");
        pair.server.change(|snapshot| snapshot.inbound.intentions = set).await;
        for (target, asked, status) in [
            ("http://web/chat", Some("websocket"), 200),
            ("http://web/x/../chat", Some("websocket"), 200),
            ("http://web/admin", Some("websocket"), 403),
            ("http://web/chat/../admin", Some("websocket"), 403),
            ("chat:443", None, 403),
        ] {
            let answer = ask(&pair, target, asked).await;
            assert_eq!(answer.status(), status, "{protocol:?} {target}");
        }
    }
    assert!(service.heads().iter().all(|head| head.starts_with("GET /chat ")));
}

#[tokio::test]
async fn a_tunnel_is_cut_when_it_is_no_longer_allowed() {
    let service = Service::start(websocket).await;
    for (protocol, address) in
        [(Protocol::Http, service.address), (Protocol::Http2, service2(true).await)]
    {
        let pair = Pair::start(protocol, address).await;
        let mut answer = ask(&pair, "http://web/chat", Some("websocket")).await;
        assert_eq!(answer.status(), 200);
        let mut io = TokioIo::new(hyper::upgrade::on(&mut answer).await.expect("a tunnel"));
        io.write_all(b"x").await.expect("said");
        io.read_exact(&mut [0]).await.expect("heard");
        pair.server.default_action(IntentionAction::Deny).await;
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(LIMIT, io.read_to_end(&mut rest)).await;
        let _ = ended.expect("it ends");
        let answer = ask(&pair, "http://web/chat", Some("websocket")).await;
        assert_eq!(answer.status(), 403);
    }
}

#[tokio::test]
async fn connect_over_http1_needs_a_service_of_http1() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Grpc, app.address).await;
    let mut raw = Raw::connect(pair.call).await;
    raw.send(CONNECT).await;
    let answer = raw.until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}
