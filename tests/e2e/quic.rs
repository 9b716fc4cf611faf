//! QUIC between sidecars: spoken where a service says so, left for TCP where UDP is blocked, and taken up
//! again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::network::in_own_network;
use weft_tests::{Cluster, TestProxy, eventually, tools};

use crate::story::{Shop, called};

/// The wait for an answer over UDP is 0.3 s; the rest is for a machine with other work.
const FALLBACK_LIMIT: Duration = Duration::from_millis(1_300);
/// Attempts come within a minute at the latest.
const RETURN_LIMIT: Duration = Duration::from_secs(70);

/// Says over what `web` is called.
fn over(cluster: &Cluster, transport: &str) {
    cluster.agent.configure(&json!({
        "Kind": "service-defaults", "Name": "web", "Protocol": "http",
        "MeshTransport": transport, "MeshCongestionControl": "bbr",
    }));
}

/// Waits until a sidecar says what it speaks with an endpoint.
fn speaks(proxy: &TestProxy, limit: Duration, want: &str, call: &dyn Fn() -> Result<(), String>) {
    let word = format!("\"{want}\"");
    eventually(limit, &format!("{want} is spoken"), || {
        call()?;
        let clusters = proxy.admin().get("/clusters")?.body;
        if clusters.contains(&word) { Ok(()) } else { Err(clusters) }
    });
}

fn answered(shop: &Shop) -> Result<(), String> {
    let answer = shop.to("web").get("/")?;
    if answer.status == 200 { Ok(()) } else { Err(format!("{} {}", answer.status, answer.body)) }
}

/// A cluster whose `shop` calls `web` over QUIC.
fn speaking() -> (Cluster, crate::story::Called, Shop) {
    let cluster = Cluster::start();
    over(&cluster, "quic");
    let web = called(&cluster, "web-1", "web", "v1");
    let shop = Shop::open(&cluster, &["web"]);
    cluster.agent.wait_passing("web", 1);
    cluster.agent.intend("shop", "web", "allow");
    shop.wait_status("web", 200);
    speaks(&shop.proxy, SPREAD_LIMIT, "quic", &|| answered(&shop));
    (cluster, web, shop)
}

#[test]
fn a_service_says_over_what_it_is_called_and_how_it_is_judged_stays_the_same() {
    let (cluster, web, shop) = speaking();
    let none = "weft_proxy_quic_connections_opened_total{direction=\"inbound\"} 0\n";
    let metrics = web.proxy.admin().get("/metrics").expect("metrics").body;
    assert!(!metrics.contains(none), "{metrics}");
    cluster.agent.intend("shop", "web", "deny");
    shop.wait_status("web", 403);
    cluster.agent.intend("shop", "web", "allow");
    shop.wait_status("web", 200);
    over(&cluster, "tcp");
    speaks(&shop.proxy, SPREAD_LIMIT, "tcp", &|| answered(&shop));
}

#[test]
fn a_sidecar_that_is_replaced_loses_no_call_over_quic() {
    let (cluster, web, shop) = speaking();
    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (api, is_over) = (shop.to("web"), is_over.clone());
            thread::spawn(move || {
                let mut calls = 0_u32;
                while !is_over.load(Ordering::SeqCst) {
                    let answer = api.get("/").expect("each call is answered");
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let mut next = cluster.agent.successor(&web.proxy);
    next.process.wait_ready();
    let door = "weft_proxy_quic_connections_opened_total{direction=\"inbound\"} 0\n";
    eventually(RETURN_LIMIT, "the new process is called over QUIC", || {
        let metrics = next.admin().get("/metrics")?.body;
        if metrics.contains(door) { Err("nobody has come yet".to_owned()) } else { Ok(()) }
    });
    is_over.store(true, Ordering::SeqCst);
    let calls: u32 = callers.into_iter().map(|it| it.join().expect("no call failed")).sum();
    tools::tell(&format!("replaced over QUIC: {calls} calls, 0 failed"));
}

#[test]
fn with_udp_blocked_calls_go_by_tcp_and_come_back() {
    let test = "quic::with_udp_blocked_calls_go_by_tcp_and_come_back";
    in_own_network(test, &[], blocked_and_back);
}

fn nft(line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    tools::run("nft", &words).ok().unwrap_or_else(|said| panic!("nft {line}: {said}"));
}

/// The story, in a network that this test has for itself.
fn blocked_and_back() {
    nft("add table inet weft");
    let (_cluster, _web, shop) = speaking();
    nft("add chain inet weft wire { type filter hook input priority 0 ; }");
    nft("add rule inet weft wire meta l4proto udp drop");
    // What was heard of within a second is taken for alive.
    let blocked = Instant::now();
    eventually(SPREAD_LIMIT, "a second has passed", || {
        if blocked.elapsed() > Duration::from_millis(1_100) { Ok(()) } else { Err("no".into()) }
    });
    let began = Instant::now();
    answered(&shop).expect("an answer");
    let first = began.elapsed();
    assert!(first < FALLBACK_LIMIT, "{first:?}");
    let began = Instant::now();
    for _ in 0..10 {
        answered(&shop).expect("an answer");
    }
    let later = began.elapsed() / 10;
    speaks(&shop.proxy, SPREAD_LIMIT, "tcp, no answer over UDP", &|| answered(&shop));
    nft("flush chain inet weft wire");
    let freed = Instant::now();
    speaks(&shop.proxy, RETURN_LIMIT, "quic", &|| answered(&shop));
    tools::tell(&format!(
        "UDP blocked: {first:?} for the first call, {later:?} for later ones, back after {:?}",
        freed.elapsed()
    ));
}
