//! HTTP/1 at its edges: what is refused, what is passed on exactly, what ends a connection.
//!
//! The origin writes down what it received; a case fails when that could be read as something
//! else than what was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::support::pair::{App, LIMIT, Pair, Raw, localhost};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::config_entry::Protocol;
use weft_runtime::net;

/// An origin that answers each connection's bytes by a script: once it has seen `after`, it
/// sends `answer`, step by step.
struct Scripted {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(steps: &'static [(&'static str, &'static str)]) -> Self {
        let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let log = log.clone();
                tokio::spawn(async move {
                    // Roomy, as what is left unread at the end becomes a reset.
                    let mut read = Vec::with_capacity(16 << 10);
                    for (after, answer) in steps {
                        while !String::from_utf8_lossy(&read).contains(after) {
                            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                                return;
                            }
                        }
                        log.lock()
                            .expect("not poisoned")
                            .push(String::from_utf8_lossy(&read).into());
                        read.clear();
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn through(origin: &Scripted) -> (Pair, Raw) {
    let pair = Pair::start(Protocol::Http, origin.address).await;
    let raw = Raw::connect(pair.call).await;
    (pair, raw)
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_end_the_connection() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n";
    for fields in [
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: +0\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\n",
        "Host: other\r\n",
        "X: a\r\n folded\r\n",
    ] {
        let mut raw = Raw::connect(pair.call).await;
        raw.send(&format!("POST / HTTP/1.1\r\nHost: web\r\n{fields}\r\n0\r\n\r\n{smuggled}")).await;
        let answer = raw.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{fields:?}: {answer}");
        assert!(answer.contains("connection: close"), "{fields:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{fields:?}: {answer}");
    }
    let mut raw = Raw::connect(pair.call).await;
    raw.send("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5;\nx\r\n").await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 400 "));
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let mut raw = Raw::connect(pair.call).await;
    let put = "PUT /1 HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc";
    let chunked = "PUT /2 HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n\
                   4\r\nabcd\r\n1;x=y\r\ne\r\n0\r\nX-Sum: 1\r\n\r\n";
    let last = "GET /3 HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    raw.send(&format!("{put}{chunked}{last}")).await;
    let answers = raw.rest().await;
    let order: Vec<usize> = ["\"uri\":\"/1\"", "\"uri\":\"/2\"", "\"uri\":\"/3\""]
        .map(|uri| answers.find(uri).unwrap_or(0))
        .into();
    assert!(order[0] > 0 && order.is_sorted() && order[2] > order[1], "{answers}");
    assert!(answers.contains("\"bytes\":3") && answers.contains("\"bytes\":5"), "{answers}");
}

#[tokio::test]
async fn a_head_in_single_bytes_is_the_same_head() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let mut raw = Raw::connect(pair.call).await;
    for byte in "PUT /slow HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nab".chars() {
        raw.send(&byte.to_string()).await;
        tokio::task::yield_now().await;
    }
    let answer = raw.until("}").await;
    assert!(answer.contains("\"uri\":\"/slow\"") && answer.contains("\"bytes\":2"), "{answer}");
}

#[tokio::test]
async fn answers_without_body_and_answers_until_close_keep_the_hop_in_step() {
    let origin = Scripted::start(&[
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
        ("/204", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("/304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
        ("/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("/close", "HTTP/1.0 200 OK\r\n\r\nto the end"),
    ])
    .await;
    let (_pair, mut raw) = through(&origin).await;
    raw.send("HEAD / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    assert!(raw.until("\r\n\r\n").await.contains("Content-Length: 10"));
    raw.send("GET /204 HTTP/1.1\r\nHost: web\r\n\r\n").await;
    assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.1 204 No Content"));
    raw.send("GET /304 HTTP/1.1\r\nHost: web\r\n\r\n").await;
    assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.1 304 Not Modified"));
    raw.send("GET /chunked HTTP/1.1\r\nHost: web\r\n\r\n").await;
    assert!(raw.until("0\r\n\r\n").await.contains("\r\n\r\n2\r\nok\r\n0\r\n\r\n"));
    raw.send("GET /close HTTP/1.1\r\nHost: web\r\n\r\n").await;
    let answer = raw.until("0\r\n\r\n").await;
    assert!(answer.contains("transfer-encoding: chunked"), "{answer}");
    assert!(answer.contains("a\r\nto the end\r\n0\r\n\r\n"), "{answer}");
    assert_eq!(origin.seen().len(), 5);
}

#[tokio::test]
async fn the_client_is_told_to_go_on_by_the_application() {
    let origin =
        Scripted::start(&[("100-continue\r\n", "HTTP/1.1 100 Continue\r\n\r\n"), ("body!", OK)])
            .await;
    let (_pair, mut raw) = through(&origin).await;
    raw.send("PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(raw.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.send("body!").await;
    assert!(raw.until("ok").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn an_early_answer_ends_the_connection_and_nothing_is_reused() {
    let origin =
        Scripted::start(&[("\r\n\r\n", "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")])
            .await;
    let (pair, mut raw) = through(&origin).await;
    raw.send("PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 1000\r\n\r\nsome").await;
    let answer = raw.rest().await;
    assert!(answer.starts_with("HTTP/1.1 413 Too Large\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("no"), "{answer}");
    // The rest of that body must not be read as a request of the next caller.
    let mut next = Raw::connect(pair.call).await;
    next.send("GET /next HTTP/1.1\r\nHost: web\r\n\r\n").await;
    next.until("no").await;
    assert!(origin.seen()[1].starts_with("GET /next"), "{:?}", origin.seen());
}

#[tokio::test]
async fn only_101_opens_a_tunnel() {
    let ask =
        "GET /chat HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let origin = Scripted::start(&[
        ("upgrade\r\n", OK),
        ("upgrade\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello"),
        ("ping", "pong"),
    ])
    .await;
    let (_pair, mut raw) = through(&origin).await;
    raw.send(ask).await;
    raw.until("ok").await;
    raw.send(ask).await;
    let answer = raw.until("hello").await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(
        answer.contains("Upgrade: websocket\r\n") && answer.contains("connection: upgrade"),
        "{answer}"
    );
    raw.send("ping").await;
    assert_eq!(raw.until("pong").await, "pong");
    // Bytes sent along before the change are not taken for a second request's.
    let refuses = Scripted::start(&[("/x", OK), ("GET /y", OK)]).await;
    let (_pair, mut raw) = through(&refuses).await;
    raw.send("GET /x HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").await;
    raw.until("ok").await;
    assert!(!refuses.seen()[0].to_lowercase().contains("upgrade"), "{:?}", refuses.seen());
}

#[tokio::test]
async fn an_upgrade_nobody_asked_for_and_malformed_answers_are_502() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        "nonsense\r\n\r\n",
    ] {
        let steps = Box::leak(Box::new([("\r\n\r\n", answer)]));
        let origin = Scripted::start(steps).await;
        let (_pair, mut raw) = through(&origin).await;
        raw.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n").await;
        let got = raw.until("\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 502 "), "{answer:?}: {got}");
    }
}

#[tokio::test]
async fn a_broken_answer_is_never_taken_for_a_whole_one() {
    let origin = Scripted::start(&[(
        "\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    )])
    .await;
    let (pair, mut raw) = through(&origin).await;
    raw.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    let answer = raw.rest().await;
    assert!(answer.contains("hello") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    // HTTP/1.0 has no framing of its own to tell by.
    let mut raw = Raw::connect(pair.call).await;
    raw.send("GET / HTTP/1.0\r\nHost: web\r\n\r\n").await;
    let mut read = Vec::new();
    let reading = tokio::time::timeout(LIMIT, raw.0.read_to_end(&mut read));
    let error = reading.await.expect("in time").expect_err("a whole answer");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reused_connection_that_was_closed_costs_no_request() {
    let origin = Scripted::start(&[("\r\n\r\n", OK)]).await;
    let (pair, mut raw) = through(&origin).await;
    for _ in 0..20 {
        // The origin closes after each answer, sometimes just when the next request comes.
        raw.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let answer = raw.until("ok").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    drop(pair);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request_at_the_application() {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let pair = Pair::start(Protocol::Http, address).await;
    let mut raw = Raw::connect(pair.call).await;
    raw.send("GET /long-poll HTTP/1.1\r\nHost: web\r\n\r\n").await;
    let (mut app, _) = listener.accept().await.expect("the request's connection");
    let mut request = vec![0; 20];
    app.read_exact(&mut request).await.expect("a request");
    drop(raw);
    let ended = tokio::time::timeout(LIMIT, app.read_to_end(&mut request)).await;
    assert!(ended.is_ok(), "the application was left waiting");
}

#[tokio::test]
async fn large_bodies_go_both_ways_unchanged() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let mut raw = Raw::connect(pair.call).await;
    let body = "x".repeat(1_000_000);
    raw.send(&format!("PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: {}\r\n\r\n", body.len()))
        .await;
    raw.send(&body).await;
    assert!(raw.until("}").await.contains("\"bytes\":1000000"));
    let pieces: String = body
        .as_bytes()
        .chunks(70_000)
        .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)))
        .collect();
    raw.send("PUT / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    raw.send(&format!("{pieces}0\r\n\r\n")).await;
    assert!(raw.until("}").await.contains("\"bytes\":1000000"));
    assert_eq!(app.count(), 2);
}

#[tokio::test]
async fn an_application_that_hangs_up_on_a_large_body_is_a_502() {
    let origin = Scripted::start(&[("\r\n\r\n", "")]).await;
    let (_pair, mut raw) = through(&origin).await;
    let body = "x".repeat(3_000_000);
    raw.send(&format!("PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: {}\r\n\r\n", body.len()))
        .await;
    // The proxy may end the connection before all of it is sent.
    let _ = tokio::time::timeout(LIMIT, raw.0.write_all(body.as_bytes())).await.expect("in time");
    let answer = raw.until("answer").await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}
