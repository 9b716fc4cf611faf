//! Saving and restoring the whole state: all or nothing, and the same on every server.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{LIMIT, TestHost, TestServer, config};
use http::{Method, StatusCode};
use serde_json::json;
use weft_core::ca::MemberRole;
use weft_core::time::Span;
use weft_server::config::{FileConfig, StorageSection};
use weft_server::inspect_snapshot;

async fn put_key(host: &TestHost, server: &TestServer, key: &str, value: &str) {
    let answer = host.call(Method::PUT, server, &format!("/v1/kv/{key}"), value).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

async fn keys(host: &TestHost, server: &TestServer) -> Vec<String> {
    let answer = host.call(Method::GET, server, "/v1/kv/?keys&stale", "").await;
    answer.json().unwrap_or_default()
}

async fn digest(host: &TestHost, server: &TestServer) -> serde_json::Value {
    let answer = host.call(Method::GET, server, "/v1/operator/raft/digest?stale", "").await;
    answer.json().unwrap_or_else(|_| panic!("{} {}", answer.status, answer.text()))
}

fn index_of(answer: &weft_runtime::http::HttpResponse) -> u64 {
    let header = answer.headers.get("x-consul-index").expect("every answer has an index");
    header.to_str().expect("a number").parse().expect("a number")
}

/// Waits until a look at something comes out right.
async fn until<F: Future<Output = bool>>(what: &str, look: impl Fn() -> F) {
    let right = tokio::time::timeout(LIMIT, async {
        while !look().await {
            tokio::task::yield_now().await;
        }
    });
    right.await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_state_is_restored_and_nothing_else_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = TestServer::start(dir.path()).await;
    let host = TestHost::join(&server, "n1").await;
    put_key(&host, &server, "kept", "1").await;
    put_key(&host, &server, "changed", "before").await;
    let saved = host.call(Method::GET, &server, "/v1/snapshot", "").await;
    assert_eq!(saved.status, StatusCode::OK);
    let info = inspect_snapshot(&saved.body).expect("whole");
    assert_eq!(index_of(&saved), info.index);
    assert!(info.records.contains(&("keys", 2)), "{info:?}");

    put_key(&host, &server, "changed", "after").await;
    put_key(&host, &server, "new", "1").await;
    let asked = host.call(Method::GET, &server, "/v1/kv/changed", "").await;
    let (index, token) = (index_of(&asked), server.handle.mint_join_token(MemberRole::Agent).await);
    token.expect("a token of after the snapshot");

    // Damaged, cut, or somebody else's: refused whole.
    let before = digest(&host, &server).await;
    let mut damaged = saved.body.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for bad in [&damaged[..], &saved.body[..saved.body.len() - 1], b"PK\x03\x04 a zip file", b""] {
        let answer = host.call(Method::PUT, &server, "/v1/snapshot", bad).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
        assert!(answer.text().starts_with("the snapshot is not restored"), "{}", answer.text());
    }
    assert_eq!(digest(&host, &server).await, before);

    // Who waits hears of it, and no index falls behind.
    let wait = format!("/v1/kv/changed?index={index}&wait=60s");
    let (woken, restored) = tokio::join!(
        host.call(Method::GET, &server, &wait, ""),
        host.call(Method::PUT, &server, "/v1/snapshot", &saved.body)
    );
    assert_eq!(restored.status, StatusCode::OK, "{}", restored.text());
    assert!(index_of(&woken) > index, "{} after {index}", index_of(&woken));
    let raw = host.call(Method::GET, &server, "/v1/kv/changed?raw", "").await;
    assert_eq!(raw.text(), "before");
    assert_eq!(keys(&host, &server).await, ["changed", "kept"]);
    // What lets hosts in is not set back.
    TestHost::join(&server, "n2").await;

    // It lasts: the restart replays the restore, and writes go on.
    let after = digest(&host, &server).await;
    server.stop().await;
    let server = TestServer::start(dir.path()).await;
    assert_eq!(digest(&host, &server).await["Digest"], after["Digest"]);
    put_key(&host, &server, "new", "2").await;
    assert_eq!(keys(&host, &server).await, ["changed", "kept", "new"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_after_the_log_was_purged_gets_a_snapshot() {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another")];
    let storage = StorageSection {
        snapshot_log_bytes: Some(1 << 20),
        snapshot_interval: Some(Span::seconds(0)),
        ..StorageSection::default()
    };
    let file = FileConfig { storage, ..config(dirs[0].path(), "s1") };
    let first = TestServer::start_with(file).await;
    let host = TestHost::join(&first, "n1").await;
    let (value, number) = ("x".repeat(400_000), AtomicUsize::new(0));
    let snapshots = || {
        let names = std::fs::read_dir(dirs[0].path().join("snapshots")).expect("a directory");
        names.flatten().filter(|file| file.path().extension().is_some_and(|it| it == "snap"))
    };
    until("two snapshots, so that the log is purged up to the first", || async {
        // Several pieces on the way to the other server.
        let at = number.fetch_add(1, Ordering::Relaxed) % 8;
        put_key(&host, &first, &format!("k{at}"), &value).await;
        snapshots().count() == 2
    })
    .await;

    let token = first.handle.mint_single_join_token(MemberRole::Server).await;
    let join = Some(token.expect("a token").to_string());
    let second = TestServer::start_with(FileConfig { join, ..config(dirs[1].path(), "s2") }).await;
    until("one digest", || async { digest(&host, &first).await == digest(&host, &second).await })
        .await;
    let got = std::fs::read_dir(dirs[1].path().join("snapshots")).expect("a directory").count();
    assert_eq!(got, 1, "it came as a snapshot");
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_another_cluster_is_refused() {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another")];
    let mut saved = None;
    for dir in &dirs {
        let server = TestServer::start(dir.path()).await;
        let host = TestHost::join(&server, "n1").await;
        if let Some(saved) = saved.take() {
            let before = digest(&host, &server).await["Digest"].clone();
            let answer = host.call(Method::PUT, &server, "/v1/snapshot", &saved).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
            assert!(answer.text().contains("is of cluster"), "{}", answer.text());
            put_key(&host, &server, "a", "1").await;
            assert_ne!(digest(&host, &server).await["Digest"], before, "it goes on");
        }
        saved = Some(host.call(Method::GET, &server, "/v1/snapshot", "").await.body);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_content_of_a_lost_cluster_comes_into_a_new_one_that_stays_itself() {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another")];
    let lost = TestServer::start(dirs[0].path()).await;
    let host = TestHost::join(&lost, "n1").await;
    for number in 0..50 {
        put_key(&host, &lost, &format!("k{number}"), "v").await;
    }
    let entry = json!({ "Kind": "service-defaults", "Name": "web", "Protocol": "http" });
    let answer = host.call(Method::PUT, &lost, "/v1/config", entry.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let registration = json!({ "Node": "db1", "Address": "10.0.0.9",
        "Service": { "ID": "db", "Service": "db", "Port": 5432 } });
    let path = "/v1/catalog/register";
    let answer = host.call(Method::PUT, &lost, path, registration.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let saved = host.call(Method::GET, &lost, "/v1/snapshot", "").await;
    lost.stop().await;

    let server = TestServer::start(dirs[1].path()).await;
    let host = TestHost::join(&server, "n2").await;
    let cluster = server.handle.cluster_id().to_owned();
    let foreign = "/v1/snapshot?foreign";
    let answer = host.call(Method::PUT, &server, foreign, &saved.body[..100]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    let answer = host.call(Method::PUT, &server, foreign, &saved.body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(keys(&host, &server).await.len(), 50);
    for (path, needle) in
        [("/v1/catalog/service/db", "10.0.0.9"), ("/v1/config/service-defaults/web", "http")]
    {
        let answer = host.call(Method::GET, &server, path, "").await;
        assert!(answer.text().contains(needle), "{path}: {}", answer.text());
    }
    // No record is of this cluster's future, so whoever waits is woken by the next write.
    let answer = host.call(Method::GET, &server, "/v1/kv/k1", "").await;
    let entry: serde_json::Value = answer.json().expect("an entry");
    let modified = entry[0]["ModifyIndex"].as_u64().expect("an index");
    put_key(&host, &server, "k1", "newer").await;
    let after = host.call(Method::GET, &server, "/v1/kv/k1", "").await;
    assert!(modified < index_of(&after), "{modified}");
    // It is the cluster that it was, and takes members in as before.
    let again = host.call(Method::GET, &server, "/v1/snapshot", "").await;
    assert_eq!(inspect_snapshot(&again.body).expect("whole").cluster, Some(cluster));
    TestHost::join(&server, "n3").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_have_one_digest_before_and_after_a_restore() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let mut servers = vec![TestServer::start(dirs[0].path()).await];
    for (dir, node) in dirs[1..].iter().zip(["s2", "s3"]) {
        let token = servers[0].handle.mint_single_join_token(MemberRole::Server).await;
        let join = Some(token.expect("a token").to_string());
        let file = FileConfig { join, ..config(dir.path(), node) };
        servers.push(TestServer::start_with(file).await);
    }
    let host = TestHost::join(&servers[0], "n1").await;
    let registration = json!({
        "node": { "ID": "id-1", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1" },
        "services": [{ "ID": "web", "Service": "web", "Port": 80 }],
    });
    host.register(registration).await.expect("registered");
    for number in 0..20 {
        put_key(&host, &servers[number % 3], &format!("k{number}"), "v").await;
    }
    let agree = async || {
        let mut digests = Vec::new();
        for server in &servers {
            digests.push(digest(&host, server).await);
        }
        digests.windows(2).all(|pair| pair[0] == pair[1])
    };
    until("one digest", &agree).await;

    // Large enough for several pieces.
    put_key(&host, &servers[1], "large", &"x".repeat(500_000)).await;
    put_key(&host, &servers[1], "larger", &"y".repeat(500_000)).await;
    let saved = host.call(Method::GET, &servers[2], "/v1/snapshot", "").await;
    assert!(saved.body.len() > 1_000_000, "{}", saved.body.len());
    let answer = host.call(Method::DELETE, &servers[0], "/v1/kv/?recurse", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let restored = host.call(Method::PUT, &servers[1], "/v1/snapshot", &saved.body).await;
    assert_eq!(restored.status, StatusCode::OK, "{}", restored.text());
    for server in &servers {
        until("every key", || async { keys(&host, server).await.len() == 22 }).await;
    }
    until("one digest after the restore", &agree).await;
    for server in servers {
        server.stop().await;
    }
}
