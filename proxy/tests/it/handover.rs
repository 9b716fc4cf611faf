//! One proxy takes over from another: what is passed on, and what is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::pair::{App, LIMIT, Pair, Raw, Running, eventually, free, get};
use crate::support::{Mesh, Upstream};
use weft_core::config_entry::Protocol;
use weft_core::proxycfg::ProxySnapshot;
use weft_proxy::StartError;
use weft_runtime::net::{self, Passage};

/// What a caller's proxy is told when a service is behind a door.
async fn client(mesh: &Mesh, door: std::net::SocketAddr, app: &App) -> ProxySnapshot {
    let upstream = Upstream::of("web", (free().await, Protocol::Http), vec![door]);
    mesh.snapshot("client", (free().await, app.address), Protocol::Http, &[upstream])
}

/// Asks on a new connection each time until told to stop; returns what went wrong.
async fn storm(
    address: std::net::SocketAddr,
    (stop, good): (Arc<AtomicBool>, Arc<AtomicUsize>),
) -> Option<String> {
    while !stop.load(Ordering::SeqCst) {
        let mut raw = match net::connect_tcp(address, LIMIT).await {
            Ok(stream) => Raw(stream),
            Err(error) => return Some(error.to_string()),
        };
        raw.send("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await;
        let answer = raw.rest().await;
        if !answer.starts_with("HTTP/1.1 200 ") {
            return Some(format!("{answer:?}"));
        }
        good.fetch_add(1, Ordering::SeqCst);
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_connections_find_a_proxy_whatever_its_number_of_workers() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("run").join("proxy.sock");
    let (mesh, app) = (Mesh::new("test.mesh"), App::start("web").await);
    let door = free().await;
    let web = mesh.snapshot("web", (door, app.address), Protocol::Http, &[]);
    let _web = Running::start("web", web).await;
    let snapshot = client(&mesh, door, &app).await;
    let bind = snapshot.upstreams[0].bind.tcp().expect("TCP");
    let mut running =
        Running::succeeding("first", &snapshot, (&socket, 1)).await.expect("nobody is there");
    let admin = running.handle.admin_addr();
    let told = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..4).map(|_| tokio::spawn(storm(bind, told.clone()))).collect();
    for (generation, workers) in [3, 2, 1, 2].into_iter().enumerate() {
        let next = Running::succeeding("next", &snapshot, (&socket, workers))
            .await
            .expect("it takes over");
        assert_eq!(next.handle.admin_addr(), admin, "the admin interface is passed on too");
        let info = format!("\"generation\": {}", generation + 1);
        eventually(|| async { next.admin("/server_info").await.contains(&info) }).await;
        assert!(next.admin("/ready").await.contains("ready"));
        // The one before ends by itself.
        tokio::time::timeout(LIMIT, running.tasks.cancelled()).await.expect("it ends");
        let before = told.1.load(Ordering::SeqCst);
        let is_on = || told.1.load(Ordering::SeqCst) > before + 20;
        eventually(|| async { is_on() || callers.iter().any(|c| c.is_finished()) }).await;
        running = next;
    }
    told.0.store(true, Ordering::SeqCst);
    for caller in callers {
        assert_eq!(caller.await.expect("a caller"), None);
    }
    assert!(socket.exists());
    running.tasks.cancel();
    eventually(|| async { !socket.exists() }).await;
}

#[tokio::test]
async fn a_new_proxy_that_fails_leaves_the_running_one_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("proxy.sock");
    let (mesh, app) = (Mesh::new("test.mesh"), App::start("web").await);
    let door = free().await;
    let web = mesh.snapshot("web", (door, app.address), Protocol::Http, &[]);
    let _web = Running::start("web", web).await;
    let mut snapshot = client(&mesh, door, &app).await;
    let bind = snapshot.upstreams[0].bind.tcp().expect("TCP");
    let running =
        Running::succeeding("first", &snapshot, (&socket, 1)).await.expect("nobody is there");
    // A further listener, where somebody else has one.
    let mut further = snapshot.upstreams[0].clone();
    further.bind = app.address.into();
    snapshot.upstreams.push(further);
    let failed = Running::succeeding("fails", &snapshot, (&socket, 2)).await;
    assert!(matches!(failed, Err(StartError::Listen { .. })), "{:?}", failed.err());
    for _ in 0..8 {
        assert!(get(&format!("http://{bind}/")).await.text().contains("\"web\""));
    }
    assert!(running.admin("/ready").await.contains("ready"));
    // The next one finds it as it was.
    snapshot.upstreams.pop();
    let next = Running::succeeding("next", &snapshot, (&socket, 1)).await.expect("it takes over");
    assert!(get(&format!("http://{bind}/")).await.text().contains("\"web\""));
    assert!(next.admin("/server_info").await.contains("\"generation\": 1"));
}

#[tokio::test]
async fn another_form_of_handing_over_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("proxy.sock");
    let (mesh, app) = (Mesh::new("test.mesh"), App::start("web").await);
    let web = mesh.snapshot("web", (free().await, app.address), Protocol::Http, &[]);
    let running = Running::succeeding("first", &web, (&socket, 1)).await.expect("nobody is there");
    for (said, reason) in [
        (r#"{"say":"hello","version":2,"program":"9.0.0"}"#, "weft 9.0.0 hands over in the form 2"),
        (r#"{"say":"ready"}"#, "it says Ready"),
    ] {
        let stream = net::connect_unix(&socket).await.expect("it listens");
        let mut passage = Passage::new(stream);
        passage.send(said.as_bytes(), &[]).await.expect("sent");
        let passed = passage.receive().await.expect("an answer").expect("before the end");
        let answer = String::from_utf8_lossy(&passed.bytes).into_owned();
        assert!(answer.contains("refused") && answer.contains(reason), "{answer}");
        assert!(passed.descriptors.is_empty());
    }
    for said in ["{\"say\":\"sing\"}", "", "GET / HTTP/1.1"] {
        let stream = net::connect_unix(&socket).await.expect("it listens");
        let mut passage = Passage::new(stream);
        passage.send(said.as_bytes(), &[]).await.expect("sent");
        // What cannot be understood gets no answer.
        assert!(!matches!(passage.receive().await, Ok(Some(_))), "{said}");
    }
    assert!(running.admin("/ready").await.contains("ready"));
}

#[tokio::test]
async fn a_connection_that_waits_for_its_next_request_is_not_closed_under_the_caller() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("proxy.sock");
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let snapshot = client(&pair.mesh, pair.server_door(), &app).await;
    let bind = snapshot.upstreams[0].bind.tcp().expect("TCP");
    let running =
        Running::succeeding("first", &snapshot, (&socket, 1)).await.expect("nobody is there");
    let ask = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
    let (mut silent, mut idle) = (Raw::connect(bind).await, Raw::connect(bind).await);
    idle.send(ask).await;
    assert!(!idle.until("\r\n\r\n{").await.contains("connection: close"));
    let _next = Running::succeeding("next", &snapshot, (&socket, 1)).await.expect("it takes over");
    assert!(!running.tasks.is_cancelled(), "it has connections");
    for raw in [&mut silent, &mut idle] {
        raw.send(ask).await;
        let answer = raw.rest().await;
        assert!(answer.contains("200 OK") && answer.contains("connection: close"), "{answer}");
    }
    tokio::time::timeout(LIMIT, running.tasks.cancelled()).await.expect("it ends");
}
