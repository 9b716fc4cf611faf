//! Requests and connections through two proxies: who gets where, and who does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::pair::{App, LIMIT, Pair, Raw, Running, eventually, free, get};
use crate::support::{Mesh, Upstream};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::config_entry::{IntentionAction, Protocol};
use weft_runtime::http::HttpClient;
use weft_runtime::net;

#[tokio::test]
async fn a_request_arrives_with_the_callers_identity_and_nothing_forged() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let mut raw = Raw::connect(pair.call).await;
    raw.send(
        "POST /a/b?c=d HTTP/1.1\r\nHost: web.example\r\nContent-Length: 3\r\nX-Own: 1\r\n\
         X-Forwarded-Client-Cert: URI=forged\r\nX-Weft-Cause: forged\r\nConnection: x-gone\r\n\
         X-Gone: 1\r\n\r\nabc",
    )
    .await;
    let answer = raw.until("}").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let seen: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(seen["uri"], "/a/b?c=d");
    assert_eq!(seen["bytes"], 3);
    let headers = seen["headers"].to_string();
    let identity = format!(
        "By=spiffe://test.mesh/ns/default/dc/dc1/svc/web;Hash={};\
         URI=spiffe://test.mesh/ns/default/dc/dc1/svc/client",
        pair.client.leaf_hash()
    );
    assert!(headers.contains(&identity), "{headers}");
    for gone in ["forged", "x-gone", "x-weft"] {
        assert!(!headers.contains(gone), "{gone}: {headers}");
    }
    assert!(headers.contains("web.example") && headers.contains("x-own"), "{headers}");
    // Counted when the last byte is out, which the caller may see first.
    let count = "{direction=\"outbound\",upstream=\"web\",target=\"web\",code=\"2xx\"} 1";
    eventually(|| async { pair.client.admin("/metrics").await.contains(count) }).await;
    let dump = pair.client.admin("/config_dump").await;
    assert!(dump.contains("(not shown)") && !dump.contains("PRIVATE KEY"), "{dump}");
    assert!(pair.client.admin("/clusters").await.contains("\"target\": \"web\""));
    assert_eq!(pair.client.admin("/ready").await, "ready\n");
}

#[tokio::test]
async fn intentions_refuse_with_reasons_and_take_effect_on_live_connections() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    assert_eq!(pair.get("/").await.status, 200);
    pair.server.default_action(IntentionAction::Deny).await;
    let refused = pair.get("/").await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.headers["x-weft-cause"], "intention-denied");
    let text = refused.text();
    for part in ["svc/client", "must not call web", "default is deny", "service-intentions"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(app.count(), 1);
    pair.server.default_action(IntentionAction::Allow).await;
    assert_eq!(pair.get("/").await.status, 200);
    assert!(
        pair.server
            .admin("/metrics")
            .await
            .contains("denied_total{direction=\"inbound\",service=\"web\"} 1")
    );
}

#[tokio::test]
async fn bytes_flow_both_ways_when_the_server_speaks_first_and_are_cut_when_denied() {
    let listener = net::bind_tcp(crate::support::pair::localhost(0)).await.expect("a listener");
    let app = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(b"welcome\n").await.expect("greeted");
                let mut read = Vec::new();
                // Half-closed by the client, the answer still goes back.
                if stream.read_to_end(&mut read).await.is_ok() {
                    let _ = stream.write_all(format!("got {}\n", read.len()).as_bytes()).await;
                }
            });
        }
    });
    let pair = Pair::start(Protocol::Tcp, app).await;
    let mut raw = Raw::connect(pair.call).await;
    raw.until("welcome\n").await;
    let bytes = vec![7; 3_000_000];
    raw.0.write_all(&bytes).await.expect("sent");
    raw.0.shutdown().await.expect("half-closed");
    assert_eq!(raw.rest().await, "got 3000000\n");
    let mut live = Raw::connect(pair.call).await;
    live.until("welcome\n").await;
    pair.server.default_action(IntentionAction::Deny).await;
    assert_eq!(live.rest().await, "");
    assert_eq!(Raw::all(pair.call).await, "");
}

#[tokio::test]
async fn routes_and_splits_choose_the_target() {
    let mesh = Mesh::new("test.mesh");
    let (v1, v2) = (App::start("v1").await, App::start("v2").await);
    let (call, door1, door2) = (free().await, free().await, free().await);
    let one = mesh.snapshot("web", (door1, v1.address), Protocol::Http, &[]);
    let two = mesh.snapshot("web", (door2, v2.address), Protocol::Http, &[]);
    let (_one, _two) = (Running::start("v1", one).await, Running::start("v2", two).await);
    let mut upstream = Upstream {
        service: "web",
        bind: call,
        protocol: Protocol::Http,
        start: json!({ "Type": "splitter", "Splits": [
            { "Weight": 90, "NextNode": "v1" }, { "Weight": 10, "NextNode": "v2" },
        ]}),
        targets: vec![("v1", "web", vec![door1]), ("v2", "web", vec![door2])],
    };
    let unused = (free().await, call);
    let snapshot = mesh.snapshot("client", unused, Protocol::Http, std::slice::from_ref(&upstream));
    let client = Running::start("client", snapshot).await;
    for _ in 0..100 {
        assert_eq!(get(&format!("http://{call}/")).await.status, 200);
    }
    assert!((8..=12).contains(&v2.count()), "{} of 100", v2.count());
    upstream.start = json!({ "Type": "router", "Routes": [
        { "Match": { "Header": [{ "Name": "end-user", "Exact": "jason" }] },
          "Action": { "PrefixRewrite": "/new" }, "NextNode": "v2" },
        { "Match": {}, "Action": {}, "NextNode": "v1" },
    ]});
    let routed = mesh.snapshot("client", unused, Protocol::Http, &[upstream]);
    client.change(|snapshot| snapshot.upstreams = routed.upstreams).await;
    let mut raw = Raw::connect(call).await;
    raw.send("GET /x HTTP/1.1\r\nHost: web\r\nEnd-User: jason\r\n\r\n").await;
    let answer = raw.until("}").await;
    assert!(answer.contains("\"app\":\"v2\"") && answer.contains("\"/new/x\""), "{answer}");
    raw.send("GET /x HTTP/1.1\r\nHost: web\r\nEnd-User: mary\r\n\r\n").await;
    assert!(raw.until("}").await.contains("\"app\":\"v1\""));
}

#[tokio::test]
async fn a_wrong_identity_behind_the_right_address_is_refused() {
    let app = App::start("impostor").await;
    let mesh = Mesh::new("test.mesh");
    let (call, door) = (free().await, free().await);
    let impostor = mesh.snapshot("other", (door, app.address), Protocol::Http, &[]);
    let _impostor = Running::start("impostor", impostor).await;
    let upstream = Upstream::of("web", (call, Protocol::Http), vec![door]);
    let client = mesh.snapshot("client", (free().await, call), Protocol::Http, &[upstream]);
    let _client = Running::start("client", client).await;
    let refused = get(&format!("http://{call}/")).await;
    assert_eq!(refused.status, 502);
    assert_eq!(refused.headers["x-weft-cause"], "handshake-failed");
    assert!(refused.text().contains("svc/web"), "{}", refused.text());
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn strangers_and_other_meshes_are_turned_away_at_the_door() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let stranger = Mesh::new("test.mesh");
    let leaf = stranger.leaf("client");
    pair.client.change(|snapshot| snapshot.leaf = leaf).await;
    assert_eq!(pair.get("/").await.status, 502);
    let door = pair.server.snapshots.borrow().inbound.bind;
    let mut plain = Raw::connect(door).await;
    plain.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    assert!(!plain.rest().await.contains("200"));
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn an_instance_that_is_gone_costs_no_request_while_another_lives() {
    let mesh = Mesh::new("test.mesh");
    let (app, gone) = (App::start("web").await, free().await);
    let (call, door, sick) = (free().await, free().await, free().await);
    let good = mesh.snapshot("web", (door, app.address), Protocol::Http, &[]);
    // The sidecar lives, its application does not.
    let bad = mesh.snapshot("web", (sick, gone), Protocol::Http, &[]);
    let (_good, _bad) = (Running::start("good", good).await, Running::start("bad", bad).await);
    let upstream = Upstream::of("web", (call, Protocol::Http), vec![sick, gone, door]);
    let client = mesh.snapshot("client", (free().await, call), Protocol::Http, &[upstream]);
    let client = Running::start("client", client).await;
    for _ in 0..30 {
        assert_eq!(get(&format!("http://{call}/")).await.status, 200);
    }
    client.change(|s| s.endpoints.values_mut().for_each(Vec::clear)).await;
    let refused = get(&format!("http://{call}/")).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["x-weft-cause"], "no-endpoint");
}

#[tokio::test]
async fn leaves_change_under_load_without_a_failed_request() {
    let app = App::start("web").await;
    let pair = Arc::new(Pair::start(Protocol::Http, app.address).await);
    let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for _ in 0..4 {
        let (stop, good, call) = (stop.clone(), good.clone(), pair.call);
        callers.push(tokio::spawn(async move {
            let client = HttpClient::new(LIMIT, 1 << 20);
            while !stop.load(Ordering::SeqCst) {
                let answer = client.get(&format!("http://{call}/")).await.expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.text());
                good.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    for _ in 0..5 {
        let before = good.load(Ordering::SeqCst);
        let (client, server) = (pair.mesh.leaf("client"), pair.mesh.leaf("web"));
        pair.client.change(|snapshot| snapshot.leaf = client).await;
        pair.server.change(|snapshot| snapshot.leaf = server).await;
        eventually(|| async { good.load(Ordering::SeqCst) > before + 20 }).await;
    }
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.expect("no request failed");
    }
}

#[tokio::test]
async fn a_bad_snapshot_changes_nothing_and_a_good_one_after_it_counts() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let leaf = pair.mesh.leaf("other");
    pair.client.snapshots.send_modify(|snapshot| Arc::make_mut(snapshot).leaf = leaf);
    eventually(|| async {
        pair.client.admin("/metrics").await.contains("snapshots_refused_total 1\n")
    })
    .await;
    assert_eq!(pair.get("/").await.status, 200);
    let leaf = pair.mesh.leaf("client");
    pair.client.change(|snapshot| snapshot.leaf = leaf).await;
    assert_eq!(pair.get("/").await.status, 200);
}

#[tokio::test]
async fn a_port_in_use_is_told_at_the_start_and_taken_later() {
    let app = App::start("web").await;
    let mesh = Mesh::new("test.mesh");
    // Sharing the port as a proxy does must not hide that another process has it.
    let taken = net::bind_tcp_shared(crate::support::pair::localhost(0)).expect("a listener");
    let door = taken.local_addr().expect("an address");
    let snapshot = mesh.snapshot("web", (door, app.address), Protocol::Http, &[]);
    let mut proxy = Running::launch("web", snapshot, 1).await;
    let error = proxy.handle.ready().await.expect_err("the port is taken").to_string();
    assert!(error.contains(&door.to_string()) && error.contains("in use"), "{error}");
    assert!(proxy.admin("/metrics").await.contains("listeners_failed 1\n"));
    drop(taken);
    eventually(|| async { proxy.admin("/metrics").await.contains("listeners_failed 0\n") }).await;
}

#[tokio::test]
async fn several_workers_share_the_doors() {
    let app = App::start("web").await;
    let mesh = Mesh::new("test.mesh");
    let (call, door) = (free().await, free().await);
    let server = mesh.snapshot("web", (door, app.address), Protocol::Http, &[]);
    let upstream = Upstream::of("web", (call, Protocol::Http), vec![door]);
    let client = mesh.snapshot("client", (free().await, call), Protocol::Http, &[upstream]);
    let mut proxies = Vec::new();
    for (name, snapshot) in [("server", server), ("client", client)] {
        let mut proxy = Running::launch(name, snapshot, 3).await;
        proxy.handle.ready().await.expect("a proxy in service");
        proxies.push(proxy);
    }
    for _ in 0..40 {
        assert_eq!(get(&format!("http://{call}/")).await.status, 200);
    }
    let count = "{direction=\"inbound\",service=\"web\",code=\"2xx\"} 40\n";
    eventually(|| async { proxies[0].admin("/metrics").await.contains(count) }).await;
    proxies[0].default_action(IntentionAction::Deny).await;
    for _ in 0..10 {
        assert_eq!(get(&format!("http://{call}/")).await.status, 403);
    }
}

#[tokio::test]
async fn upstreams_come_and_go_with_the_snapshot() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let mut kept = Raw::connect(pair.call).await;
    kept.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    kept.until("}").await;
    let gone = pair.client.snapshots.borrow().upstreams.clone();
    pair.client.change(|snapshot| snapshot.upstreams.clear()).await;
    eventually(|| async { net::connect_tcp(pair.call, LIMIT).await.is_err() }).await;
    kept.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    assert!(kept.until("upstream-removed").await.starts_with("HTTP/1.1 503 "));
    pair.client.change(|snapshot| snapshot.upstreams = gone).await;
    assert_eq!(pair.get("/").await.status, 200);
}

#[tokio::test]
async fn a_proxy_that_stops_finishes_what_it_has_begun() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let mut busy = Raw::connect(pair.call).await;
    busy.send("PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\n\r\nab").await;
    let mut idle = Raw::connect(pair.call).await;
    idle.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    idle.until("}").await;
    pair.client.tasks.cancel();
    assert_eq!(idle.rest().await, "");
    busy.send("cd").await;
    let answer = busy.rest().await;
    assert!(answer.contains("connection: close") && answer.contains("\"bytes\":4"), "{answer}");
    pair.client.tasks.join(LIMIT).await.expect("every task ends");
}

#[tokio::test]
async fn the_admin_interface_answers_no_page_that_borrowed_its_address() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let door = pair.client.handle.admin_addr();
    for (host, status) in [
        ("127.0.0.1:19000", "200"),
        ("localhost", "200"),
        ("[::1]:19000", "200"),
        ("rebound.example:19000", "403"),
        ("", "403"),
    ] {
        let mut raw = Raw::connect(door).await;
        raw.send(&format!(
            "GET /config_dump HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ))
        .await;
        let answer = raw.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
}
