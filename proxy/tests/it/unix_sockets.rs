//! The local instance behind a unix socket, and callers that come in by one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::pair::{App, LIMIT, Pair, Raw, Running, eventually, free};
use crate::support::{Mesh, Upstream};
use weft_core::config_entry::Protocol;
use weft_core::local_address::{LocalAddress, SocketPath};
use weft_core::proxycfg::ProxySnapshot;
use weft_proxy::StartError;
use weft_runtime::net;
use weft_runtime::task::TaskTree;

fn unix(path: &Path) -> LocalAddress {
    LocalAddress::Unix(SocketPath::parse(path.to_str().expect("text")).expect("a path"))
}

/// Carries what comes at a unix socket to an application.
fn relay(path: &Path, app: std::net::SocketAddr, tasks: &TaskTree) {
    let listener = net::bind_unix(path, 0o600).expect("a socket");
    tasks.spawn("relay", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut app = net::connect_tcp(app, LIMIT).await.expect("the application");
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut app).await;
            });
        }
    });
}

/// Asks at a unix socket once.
async fn ask(path: &Path) -> std::io::Result<String> {
    let mut raw = Raw(net::connect_local(&unix(path), LIMIT).await?);
    raw.send("POST /x HTTP/1.1\r\nhost: web\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc")
        .await;
    Ok(raw.rest().await)
}

#[tokio::test]
async fn requests_and_bytes_go_through_unix_sockets_at_both_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let (behind, call) = (folder.path().join("app.sock"), folder.path().join("call.sock"));
    let app = App::start("web").await;
    relay(&behind, app.address, &app.tasks);
    for protocol in [Protocol::Http, Protocol::Http2, Protocol::Tcp] {
        let pair = Pair::start(protocol, app.address).await;
        pair.server.change(|snapshot| snapshot.inbound.local_app = unix(&behind)).await;
        let to_unix = |snapshot: &mut ProxySnapshot| {
            snapshot.upstreams[0].bind = unix(&call);
            snapshot.upstreams[0].socket_mode = Some(0o640);
        };
        pair.client.change(to_unix).await;
        let mode = fs::metadata(&call).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let answer = ask(&call).await.expect("it listens");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"bytes\":3"), "{answer}");
        pair.client.change(|snapshot| snapshot.upstreams[0].socket_mode = Some(0o666)).await;
        let mode = fs::metadata(&call).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o666, "another mode needs no new socket");
        let bind = pair.call;
        pair.client.change(|snapshot| snapshot.upstreams[0].bind = bind.into()).await;
        eventually(|| async { !call.exists() }).await;
    }
}

/// A caller's proxy whose door is a unix socket.
async fn client(mesh: &Mesh, door: std::net::SocketAddr, call: &Path) -> ProxySnapshot {
    let upstream = Upstream::of("web", (free().await, Protocol::Http), vec![door]);
    let mut snapshot = mesh.snapshot("client", (free().await, door), Protocol::Http, &[upstream]);
    snapshot.upstreams[0].bind = unix(call);
    snapshot
}

#[tokio::test]
async fn a_unix_socket_is_passed_on_to_the_next_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let (door, call) = (free().await, folder.path().join("call.sock"));
    let (mesh, app) = (Mesh::new("test.mesh"), App::start("web").await);
    let web = mesh.snapshot("web", (door, app.address), Protocol::Http, &[]);
    let _web = Running::start("web", web).await;
    let snapshot = client(&mesh, door, &call).await;
    // What a process has left that ended badly.
    drop(net::bind_unix(&call, 0o600).expect("a socket"));
    let hand_over = folder.path().join("proxy.sock");
    let mut running =
        Running::succeeding("client", &snapshot, (&hand_over, 2)).await.expect("nobody is there");
    for workers in [1, 3, 2] {
        let mut waits = Raw(net::connect_local(&unix(&call), LIMIT).await.expect("it listens"));
        let next = Running::succeeding("client", &snapshot, (&hand_over, workers))
            .await
            .expect("it takes over");
        waits.send("GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").await;
        assert!(waits.rest().await.starts_with("HTTP/1.1 200 "));
        tokio::time::timeout(LIMIT, running.tasks.cancelled()).await.expect("it ends");
        for _ in 0..8 {
            let answer = ask(&call).await.expect("the next one listens");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        running = next;
    }
    running.tasks.cancel();
    eventually(|| async { ask(&call).await.is_err() }).await;
}

#[tokio::test]
async fn a_socket_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (door, call) = (free().await, folder.path().join("call.sock"));
    let snapshot = client(&Mesh::new("test.mesh"), door, &call).await;
    let other = net::bind_unix(&call, 0o600).expect("a socket");
    let refused = Running::succeeding("client", &snapshot, (&folder.path().join("proxy.sock"), 2))
        .await
        .err();
    let Some(StartError::Listen { reason }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("call.sock"), "{reason}");
    net::connect_local(&unix(&call), LIMIT).await.expect("it is still the other's");
    drop(other);
    fs::remove_file(&call).expect("a file");
    fs::write(&call, "precious").expect("written");
    Running::succeeding("client", &snapshot, (&folder.path().join("proxy.sock"), 1))
        .await
        .err()
        .expect("it is a file");
    assert_eq!(fs::read(&call).expect("kept"), b"precious");
}
