//! What one caller may take of a proxy, and what it is told when that is too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::Upstream;
use crate::support::pair::{App, Pair, Raw, Running, free, http2};
use weft_core::config_entry::Protocol;
use weft_proxy::Limits;

/// A caller's proxy with other limits, beside the pair's own; returns where it takes requests.
async fn limited(pair: &Pair, limits: Limits) -> (Running, std::net::SocketAddr) {
    let upstream = Upstream::of("web", (free().await, Protocol::Http), vec![pair.server_door()]);
    let bind = upstream.bind;
    let unused = (free().await, free().await);
    let snapshot = pair.mesh.snapshot("client", unused, Protocol::Http, &[upstream]);
    let launched = Running::launch_with("limited", snapshot, |config| config.limits = limits);
    let mut running = launched.await.expect("a proxy");
    running.handle.ready().await.expect("a proxy in service");
    (running, bind)
}

#[tokio::test]
async fn a_slow_head_an_idle_connection_and_a_stalled_body_end_at_their_limits() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let second = Duration::from_secs(1);
    let limits = Limits { head: second, idle: second, stall: second, ..Limits::default() };
    let (_proxy, bind) = limited(&pair, limits).await;
    let mut slow = Raw::connect(bind).await;
    slow.send("GET / HTTP/1.1\r\nhost: w").await;
    let (mut silent, mut idle) = (Raw::connect(bind).await, Raw::connect(bind).await);
    idle.send("GET / HTTP/1.1\r\nhost: web\r\n\r\n").await;
    let mut stalled = Raw::connect(bind).await;
    stalled.send("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 9\r\n\r\nabc").await;
    // Each ends by itself: `rest` returns at the end of the connection.
    assert!(slow.rest().await.starts_with("HTTP/1.1 408 "));
    assert_eq!(silent.rest().await, "");
    assert!(idle.rest().await.contains("200 OK"));
    assert!(stalled.rest().await.starts_with("HTTP/1.1 504 "));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_however_it_is_framed() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let (_proxy, bind) = limited(&pair, Limits { body_bytes: 100, ..Limits::default() }).await;
    let post = "POST / HTTP/1.1\r\nhost: web\r\n";
    let hundred = "x".repeat(100);
    for (request, status) in [
        (format!("{post}connection: close\r\ncontent-length: 100\r\n\r\n{hundred}"), 200),
        (format!("{post}content-length: 101\r\n\r\n{hundred}x"), 413),
        (format!("{post}transfer-encoding: chunked\r\n\r\n64\r\n{hundred}\r\n"), 413),
    ] {
        let before = app.count();
        let mut raw = Raw::connect(bind).await;
        raw.send(&request).await;
        let answer = raw.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(status == 200 || answer.contains("x-weft-cause: body-limit"), "{answer}");
        assert_eq!(app.count() - before, usize::from(status == 200));
    }
    // The rest comes after the beginning was let through.
    let mut raw = Raw::connect(bind).await;
    raw.send(&format!("{post}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")).await;
    raw.send(&format!("64\r\n{hundred}\r\n")).await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_body_over_http2_is_limited_too() {
    use bytes::Bytes;
    use http_body_util::Full;
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let (_proxy, bind) = limited(&pair, Limits { body_bytes: 100, ..Limits::default() }).await;
    let mut sender = http2(bind).await;
    for (length, status) in [(100, 200), (101, 413), (10, 200)] {
        let request = http::Request::post(format!("http://{bind}/"));
        let request = request.body(Full::new(Bytes::from(vec![b'x'; length]))).expect("valid");
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), status, "{length}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_at_once_and_when_to_come_again() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let (proxy, bind) = limited(&pair, Limits { connections: 2, ..Limits::default() }).await;
    let ask = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
    let (mut one, mut two) = (Raw::connect(bind).await, Raw::connect(bind).await);
    for raw in [&mut one, &mut two] {
        raw.send(ask).await;
        raw.until("\r\n\r\n{").await;
    }
    let mut three = Raw::connect(bind).await;
    let answer = three.rest().await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
    let metrics = proxy.admin("/metrics").await;
    assert!(metrics.contains("cause=\"connection-limit\"} 1"), "{metrics}");
    drop(one);
    crate::support::pair::eventually(|| async {
        let mut raw = Raw::connect(bind).await;
        // Refused, it may be closed before this is sent.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.0, ask.as_bytes()).await;
        let mut first = [0; 12];
        let read = tokio::io::AsyncReadExt::read_exact(&mut raw.0, &mut first).await;
        read.is_ok() && first == *b"HTTP/1.1 200"
    })
    .await;
}

/// Asks over one connection until told to stop; counts answers, and those that were refused.
async fn hammer(
    address: std::net::SocketAddr,
    (stop, good, refused): (Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    let mut raw = Raw::connect(address).await;
    while !stop.load(Ordering::SeqCst) {
        raw.send("GET / HTTP/1.1\r\nhost: web\r\n\r\n").await;
        let answer = raw.until("\n").await;
        if answer.starts_with("HTTP/1.1 200 ") {
            good.fetch_add(1, Ordering::SeqCst);
        } else {
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            refused.fetch_add(1, Ordering::SeqCst);
        }
        raw = Raw::connect(address).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_with_too_much_to_do_refuses_some_early_and_none_afterwards() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    // Every turn takes longer, on any machine.
    let limits = Limits { overload_delay: Duration::from_micros(1), ..Limits::default() };
    let (_proxy, bind) = limited(&pair, limits).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (good, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let told = (stop.clone(), good.clone(), refused.clone());
    let callers: Vec<_> = (0..256).map(|_| tokio::spawn(hammer(bind, told.clone()))).collect();
    crate::support::pair::eventually(|| async { refused.load(Ordering::SeqCst) > 0 }).await;
    let before = good.load(Ordering::SeqCst);
    crate::support::pair::eventually(|| async { good.load(Ordering::SeqCst) > before }).await;
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.expect("a caller");
    }
    // One at a time is no load.
    let mut raw = Raw::connect(bind).await;
    raw.send("GET / HTTP/1.1\r\nhost: web\r\n\r\n").await;
    assert!(raw.until("\r\n\r\n{").await.contains("200 OK"));
}
