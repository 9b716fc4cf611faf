//! One request through everything: registration, identity, intentions, chains, health, watches.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::{Cluster, consistently, eventually, tools};

use crate::callers::Echo;
use crate::story::{Shop, called, speaks, who};

#[test]
fn a_call_is_refused_until_an_intention_allows_it_and_again_after() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let web = called(&cluster, "web-1", "web", "v1");
    let shop = Shop::open(&cluster, &["web"]);
    cluster.agent.wait_passing("web", 1);

    shop.wait_status("web", 403);
    assert_eq!(reached(&web), 0, "a refused call never reaches the application");

    cluster.agent.intend("shop", "web", "allow");
    shop.wait_status("web", 200);
    let answer = shop.to("web").get("/some/path?x=1").expect("an answer");
    assert_eq!(who(&answer), "web-1");
    assert_eq!(answer.json()["path"], "/some/path?x=1");

    cluster.agent.intend("shop", "web", "deny");
    shop.wait_status("web", 403);
    let before = reached(&web);
    consistently(Duration::from_secs(1), "denied calls stay out", || {
        let answer = shop.to("web").get("/")?;
        if answer.status == 403 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    assert_eq!(reached(&web), before);
}

/// Requests that were not health checks.
fn reached(called: &crate::story::Called) -> u64 {
    called.app.requests_except("/status/200")
}

#[test]
fn a_splitter_shares_requests_by_weight_and_a_header_overrules_it() {
    let cluster = Cluster::start();
    speaks(&cluster, "reviews", "http");
    let _v1 = called(&cluster, "reviews-1", "reviews", "v1");
    let _v2 = called(&cluster, "reviews-2", "reviews", "v2");
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "reviews", "DefaultSubset": "v1",
        "Subsets": {
            "v1": { "Filter": "Service.Meta.version == v1" },
            "v2": { "Filter": "Service.Meta.version == v2" },
        },
    }));
    cluster.agent.configure(&json!({
        "Kind": "service-splitter", "Name": "reviews",
        "Splits": [
            { "Weight": 90, "ServiceSubset": "v1" },
            { "Weight": 10, "ServiceSubset": "v2" },
        ],
    }));
    cluster.agent.configure(&json!({
        "Kind": "service-router", "Name": "reviews",
        "Routes": [{
            "Match": { "HTTP": { "Header": [{ "Name": "end-user", "Exact": "jason" }] } },
            "Destination": { "Service": "reviews", "ServiceSubset": "v2" },
        }],
    }));
    cluster.agent.intend("shop", "reviews", "allow");
    cluster.agent.wait_passing("reviews", 2);
    let shop = Shop::open(&cluster, &["reviews"]);
    shop.wait_status("reviews", 200);
    let door = shop.to("reviews");
    eventually(SPREAD_LIMIT, "both versions answer", || {
        let to_jason = door.request("GET", "/", &[("end-user", "jason")], "")?;
        if who(&to_jason) != "reviews-2" {
            return Err(format!("{to_jason:?}"));
        }
        // By the split alone these would all miss v1 once in 10^20 tries.
        (0..20)
            .find_map(|_| door.get("/").ok().filter(|answer| who(answer) == "reviews-1"))
            .map(drop)
            .ok_or_else(|| "v1 does not answer".to_owned())
    });

    let mut to_v2 = 0;
    for _ in 0..500 {
        let answer = door.get("/").expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        to_v2 += u32::from(who(&answer) == "reviews-2");
    }
    // 500 draws at 10 %: mean 50, deviation 6.7. Five deviations are missed once in a million.
    assert!((17..=84).contains(&to_v2), "{to_v2} of 500 went to v2, 50 are wanted");

    for _ in 0..50 {
        let answer = door.request("GET", "/", &[("end-user", "jason")], "").expect("an answer");
        assert_eq!(who(&answer), "reviews-2");
    }
}

#[test]
fn a_killed_instance_leaves_answers_and_calls_go_on() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let one = called(&cluster, "web-1", "web", "v1");
    let _two = called(&cluster, "web-2", "web", "v1");
    cluster.agent.intend("shop", "web", "allow");
    cluster.agent.wait_passing("web", 2);
    let shop = Shop::open(&cluster, &["web"]);
    shop.wait_status("web", 200);

    let mut proxy = one.proxy;
    proxy.process.kill();
    drop(one.app);
    cluster.agent.wait_passing("web", 1);
    eventually(SPREAD_LIMIT, "calls go to the living instance only", || {
        for _ in 0..20 {
            let answer = shop.to("web").get("/")?;
            if who(&answer) != "web-2" {
                return Err(format!("{answer:?}"));
            }
        }
        Ok(())
    });
}

#[test]
fn a_blocking_query_wakes_when_its_answer_changes_and_not_before() {
    let cluster = Cluster::start();
    let api = cluster.agent.api();
    let first = api.get("/v1/health/service/web").and_then(weft_tests::Answer::ok).expect("a list");
    assert_eq!(first.body.trim(), "[]");
    let index = first.index();
    assert!(index > 0, "an index of 0 would make a blocking query return at once");

    let waiter = thread::spawn(move || {
        let start = Instant::now();
        let path = format!("/v1/health/service/web?index={index}&wait=20s");
        (api.get(&path).expect("an answer"), start.elapsed())
    });
    // Another service's change must not wake it.
    cluster.agent.register(&json!({ "ID": "other", "Name": "other", "Port": 1 }));
    eventually(SPREAD_LIMIT, "the other service is in the catalog", || {
        let body = api.get("/v1/catalog/service/other")?.ok()?.body;
        if body.contains("\"other\"") { Ok(()) } else { Err(body) }
    });
    assert!(!waiter.is_finished(), "it woke for a service that it did not ask for");

    cluster.agent.register(&json!({ "ID": "web-1", "Name": "web", "Port": 2 }));
    let (answer, took) = waiter.join().expect("the waiter ends well");
    assert!(answer.body.contains("web-1"), "{answer:?}");
    assert!(answer.index() > index, "{} after {index}", answer.index());
    assert!(took < Duration::from_secs(18), "it waited for its time-out: {took:?}");
}

#[test]
fn plain_tcp_flows_both_ways_and_a_denied_caller_sees_a_closed_connection() {
    let cluster = Cluster::start();
    cluster.agent.register(&meshed("echo-1", "echo", Echo::start().0.port(), &[]));
    let _sidecar = cluster.agent.sidecar("echo-1");
    let shop = Shop::open(&cluster, &["echo"]);
    cluster.agent.wait_passing("echo", 1);

    let door = shop.to("echo").addr();
    eventually(SPREAD_LIMIT, "a denied connection is closed without a byte", || {
        match exchange(door, "hello\n") {
            Ok(line) if line.is_empty() => Ok(()),
            Err(_) => Ok(()),
            Ok(line) => Err(line),
        }
    });
    cluster.agent.intend("shop", "echo", "allow");
    eventually(SPREAD_LIMIT, "the echo comes back", || {
        match exchange(door, "hello\n").map_err(|error| error.to_string())? {
            line if line == "hello\n" => Ok(()),
            line => Err(format!("{line:?}")),
        }
    });
}

fn exchange(door: std::net::SocketAddr, line: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&door, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer)
}

#[test]
fn http2_callers_are_served_as_well() {
    if !tools::have("http2_callers_are_served_as_well", &["curl"]) {
        return;
    }
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let _web = called(&cluster, "web-1", "web", "v1");
    cluster.agent.intend("shop", "web", "allow");
    let shop = Shop::open(&cluster, &["web"]);
    shop.wait_status("web", 200);
    let url = format!("http://{}/", shop.to("web").addr());
    let args = ["-sS", "--http2-prior-knowledge", "-m", "10", "-w", " %{http_version}", &url];
    let output = tools::run("curl", &args).ok().expect("curl gets an answer");
    assert!(output.contains("web-1") && output.ends_with(" 2"), "{output}");
}
