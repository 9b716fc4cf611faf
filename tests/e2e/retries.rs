//! Further attempts: what one instance fails another answers, bodies included, and a service that always
//! fails is hardly asked again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::{App, Cluster, eventually};

use crate::story::{Shop, called, speaks, who};

/// An application that answers everything with 503. Returns its port and how often it was asked.
pub(crate) fn failing() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let count = Arc::new(AtomicU64::new(0));
    let asked = count.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let asked = asked.clone();
            thread::spawn(move || fail(&stream, &asked));
        }
    });
    (port, count)
}

/// Reads request after request, and fails each.
fn fail(stream: &TcpStream, asked: &AtomicU64) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            let line = line.to_ascii_lowercase();
            assert!(!line.starts_with("x-weft-"), "no service is told {line}");
            if let Some(said) = line.strip_prefix("content-length:") {
                length = said.trim().parse().ok()?;
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        asked.fetch_add(1, Ordering::SeqCst);
        let mut writer = stream;
        writer.write_all(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno").ok()?;
    }
}

/// Has requests to `web` tried again, in all routes.
fn tries_again(cluster: &Cluster, destination: Value) {
    cluster.agent.configure(&json!({
        "Kind": "service-router", "Name": "web",
        "Routes": [
            { "Match": { "HTTP": { "PathPrefix": "/once" } } },
            { "Match": { "HTTP": { "PathPrefix": "/" } }, "Destination": destination },
        ],
    }));
}

/// What the shop's proxy has counted of further attempts that came to this.
fn counted(shop: &Shop, result: &str) -> u64 {
    let metrics = shop.proxy.admin().get("/metrics").expect("an answer").body;
    let of = format!("result=\"{result}\"");
    let lines = metrics.lines().filter(|line| line.starts_with("weft_proxy_retries_total{"));
    let counts = lines.filter(|line| line.contains(&of)).filter_map(|line| line.rsplit(' ').next());
    counts.filter_map(|count| count.parse::<u64>().ok()).sum()
}

#[test]
fn what_one_instance_fails_another_answers() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let (port, asked) = failing();
    cluster.agent.register(&meshed("web-bad", "web", port, &[]));
    let _bad = cluster.agent.sidecar("web-bad");
    let _good = called(&cluster, "web-good", "web", "v1");
    cluster.agent.intend("shop", "web", "allow");
    // Else the one that fails is soon kept away from.
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "web", "LoadBalancer": { "Policy": "round_robin" },
    }));
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    let is_both = |path: &str| {
        let statuses: Vec<u16> =
            (0..8).filter_map(|_| door.get(path).ok()).map(|answer| answer.status).collect();
        if statuses.contains(&200) && statuses.contains(&503) {
            Ok(())
        } else {
            Err(format!("{statuses:?}"))
        }
    };
    eventually(SPREAD_LIMIT, "both instances answer", || is_both("/once"));

    tries_again(&cluster, json!({ "NumRetries": 1, "RetryOn": ["5xx"] }));
    eventually(SPREAD_LIMIT, "the route is in force", || {
        door.get("/")?;
        if counted(&shop, "retried") > 0 { Ok(()) } else { Err("none was tried again".to_owned()) }
    });
    let before = asked.load(Ordering::SeqCst);
    let body = "b".repeat(40_000);
    for number in 0.. {
        if asked.load(Ordering::SeqCst) >= before + 4 {
            break;
        }
        assert!(number < 200, "the bad one is never asked");
        let answer = match number % 2 {
            0 => door.get("/"),
            _ => door.request("POST", "/", &[], &body),
        };
        let answer = answer.and_then(|answer| answer.ok()).expect("an answer of the good one");
        assert_eq!(who(&answer), "web-good");
        if number % 2 == 1 {
            assert_eq!(answer.json()["body"], body.as_str());
        }
    }
    assert!(counted(&shop, "success") > 0);
    // What is longer than what is kept goes on once.
    let body = "b".repeat(200_000);
    eventually(SPREAD_LIMIT, "a long body is not sent again", || {
        door.request("POST", "/", &[], &body)?;
        if counted(&shop, "body") > 0 { Ok(()) } else { Err("it was not wanted yet".to_owned()) }
    });
    eventually(SPREAD_LIMIT, "other routes try nothing again", || is_both("/once"));
}

#[test]
fn a_service_that_always_fails_is_hardly_asked_again() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let (port, asked) = failing();
    cluster.agent.register(&meshed("web", "web", port, &[]));
    let _web = cluster.agent.sidecar("web");
    tries_again(&cluster, json!({ "NumRetries": 3, "RetryOn": ["gateway-error"] }));
    let file = cluster.folder.path().join("access.log");
    let form = json!({ "path": "%PATH(NQ)%", "flags": "%RESPONSE_FLAGS%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "side": "%WEFT_DIRECTION%" });
    cluster.agent.configure(&json!({
        "Kind": "proxy-defaults", "Name": "global",
        "AccessLogs": { "Enabled": true, "Type": "file", "Path": file,
            "JSONFormat": form.to_string() },
    }));
    cluster.agent.intend("shop", "web", "allow");
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    eventually(SPREAD_LIMIT, "the route is in force", || {
        door.get("/first")?;
        if counted(&shop, "limit") > 0 { Ok(()) } else { Err("no attempt was the last".to_owned()) }
    });
    eventually(SPREAD_LIMIT, "the budget is spent", || {
        door.get("/more")?;
        if counted(&shop, "budget") > 0 { Ok(()) } else { Err("it is not".to_owned()) }
    });
    let before = asked.load(Ordering::SeqCst);
    for _ in 0..200 {
        assert_eq!(door.get("/many").expect("an answer").status, 503);
    }
    let times = asked.load(Ordering::SeqCst) - before;
    // What need not be paid for comes back with time, three a second: a slow machine gets more of it.
    assert!(times < 400, "asked {times} times for 200 requests, of 800 that the route says");
    eventually(SPREAD_LIMIT, "lines say so", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<Value> =
            text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect();
        let has = |flags: &str, attempts: u64| {
            lines.iter().any(|line| {
                line["side"] == "outbound" && line["flags"] == flags && line["attempts"] == attempts
            })
        };
        if has("URX", 4) && has("UO", 1) { Ok(()) } else { Err(text) }
    });
}

#[test]
fn a_service_that_is_away_for_a_moment_is_reached() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let app = App::start("web");
    let port = app.port();
    cluster.agent.register(&meshed("web", "web", port, &[]));
    let _web = cluster.agent.sidecar("web");
    tries_again(&cluster, json!({ "NumRetries": 20, "RetryOnConnectFailure": true }));
    cluster.agent.intend("shop", "web", "allow");
    let shop = Shop::open(&cluster, &["web"]);
    shop.wait_status("web", 200);
    drop(app);
    let door = shop.to("web");
    eventually(SPREAD_LIMIT, "it is away", || match door.get("/once")?.status {
        503 => Ok(()),
        status => Err(status.to_string()),
    });
    let waiting = thread::spawn(move || door.get("/later"));
    eventually(SPREAD_LIMIT, "it is tried again", || {
        if counted(&shop, "retried") > 0 { Ok(()) } else { Err("not yet".to_owned()) }
    });
    let _app = App::start_at("web", port);
    let answer = waiting.join().expect("it ends").expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
}
