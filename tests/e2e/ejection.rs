//! Instances that fail are left out by the caller's proxy, whatever the catalogue says of them, and called again
//! after a while.

use std::fs;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, TestProxy, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Cluster, eventually, tools};

use crate::retries::failing;
use crate::story::{Shop, called, speaks, who};

/// How `shop` judges instances of others, and that these are called in turn.
fn judges(cluster: &Cluster, check: Value) {
    cluster.agent.configure(&json!({
        "Kind": "service-defaults", "Name": "shop", "Protocol": "http",
        "UpstreamConfig": { "Defaults": { "PassiveHealthCheck": check } },
    }));
    in_turn(cluster);
}

fn in_turn(cluster: &Cluster) {
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "web", "LoadBalancer": { "Policy": "round_robin" },
    }));
}

/// The sum of a metric of the proxy, over its labels that have this.
fn counted(proxy: &TestProxy, name: &str, having: &str) -> f64 {
    let metrics = proxy.admin().get("/metrics").expect("an answer").body;
    let lines = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    let lines = lines.filter(|line| line.contains(having));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The instances of the only upstream that the proxy shows as left out.
fn left_out(proxy: &TestProxy) -> Vec<String> {
    let clusters = proxy.admin().get("/clusters").expect("an answer").json();
    let endpoints = clusters["upstreams"][0]["targets"][0]["endpoints"].as_array().cloned();
    let out = endpoints.into_iter().flatten().filter(|endpoint| endpoint["left_out"] == true);
    out.filter_map(|endpoint| endpoint["instance"].as_str().map(str::to_owned)).collect()
}

fn wait_left_out(proxy: &TestProxy, wanted: &[&str]) {
    eventually(SPREAD_LIMIT, &format!("{wanted:?} are left out"), || {
        let found = left_out(proxy);
        if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn an_instance_whose_answers_fail_is_left_out_and_called_again() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    cluster.agent.intend("shop", "web", "allow");
    // Only a long row leaves out, and for long.
    judges(&cluster, json!({ "MaxFailures": 3, "BaseEjectionTime": "1h" }));
    let (port, asked) = failing();
    cluster.agent.register(&meshed("web-bad", "web", port, &[]));
    let _bad = cluster.agent.sidecar("web-bad");
    let _good = called(&cluster, "web-good", "web", "v1");
    cluster.agent.wait_passing("web", 2);
    let settings = cluster.folder.path().join("proxy.json");
    let text = json!({ "metric_dialects": ["envoy"] }).to_string();
    fs::write(&settings, text).expect("a temporary folder can be written");
    let shop = Shop::open_with(&cluster, &["web"], &["--config", &settings.to_string_lossy()]);
    let door = shop.to("web");
    eventually(SPREAD_LIMIT, "the good one is called", || {
        let answer = door.get("/")?.ok()?;
        if who(&answer) == "web-good" { Ok(()) } else { Err(answer.body) }
    });
    eventually(SPREAD_LIMIT, "enough have failed", || {
        door.get("/")?;
        let found = left_out(&shop.proxy);
        if found == ["web-bad-sidecar-proxy"] { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let before = asked.load(Ordering::SeqCst);
    for number in 0..40 {
        let answer = match number % 2 {
            0 => door.get("/"),
            _ => door.request("POST", "/", &[], "x"),
        };
        assert_eq!(answer.expect("an answer").status, 200);
    }
    if tools::have("an_instance_whose_answers_fail", &["curl"]) {
        let url = format!("http://{}/", door.addr());
        for _ in 0..10 {
            let of = ["-s", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}"];
            let said = tools::run("curl", &[&of[..], &["-m", "30", &url]].concat()).ok();
            assert_eq!(said.expect("an answer over HTTP/2"), "200");
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), before, "it is asked nothing meanwhile");
    let cause = r#"cause="consecutive_5xx""#;
    let ours = counted(&shop.proxy, "weft_proxy_ejections_total", "cause=");
    assert!(ours > 0.0, "counted, as {cause} or the like");
    let name = "envoy_cluster_outlier_detection_ejections_enforced_total";
    assert_eq!(counted(&shop.proxy, name, ""), 1.0);

    // Other rules begin with what is known; the time that it is left out is what it was.
    judges(&cluster, json!({ "MaxFailures": 4, "BaseEjectionTime": "1s" }));
    wait_left_out(&shop.proxy, &["web-bad-sidecar-proxy"]);
    let log = shop.proxy.process.log();
    assert!(log.contains("an instance is left out for a while"), "{log}");
}

#[test]
fn an_instance_is_called_again_after_its_time() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    cluster.agent.intend("shop", "web", "allow");
    judges(
        &cluster,
        json!({ "MaxFailures": 2, "BaseEjectionTime": "1s", "MaxEjectionTime": "1s" }),
    );
    let (port, asked) = failing();
    cluster.agent.register(&meshed("web-bad", "web", port, &[]));
    let _bad = cluster.agent.sidecar("web-bad");
    let _good = called(&cluster, "web-good", "web", "v1");
    cluster.agent.wait_passing("web", 2);
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    eventually(SPREAD_LIMIT, "it was called again", || {
        door.get("/")?;
        let times = counted(&shop.proxy, "weft_proxy_readmissions_total", "");
        if times >= 2.0 { Ok(()) } else { Err(format!("{times} times")) }
    });
    assert!(asked.load(Ordering::SeqCst) >= 4, "twice for each time");
    assert!(counted(&shop.proxy, "weft_proxy_ejections_total", "consecutive") >= 2.0);
}

#[test]
fn an_instance_that_cannot_be_reached_is_left_out_without_being_asked_for() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    cluster.agent.intend("shop", "web", "allow");
    in_turn(&cluster);
    let _good = called(&cluster, "web-good", "web", "v1");
    // Nobody listens behind its sidecar, and no check says so.
    cluster.agent.register(&meshed("web-dead", "web", free_port(), &[]));
    let _dead = cluster.agent.sidecar("web-dead");
    cluster.agent.wait_passing("web", 2);
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    eventually(SPREAD_LIMIT, "it is left out", || {
        // Not sent elsewhere: its failure is seen.
        door.request("POST", "/", &[], "x")?;
        let found = left_out(&shop.proxy);
        if found == ["web-dead-sidecar-proxy"] { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let cause = r#"cause="consecutive_local_origin_failure""#;
    assert!(counted(&shop.proxy, "weft_proxy_ejections_total", cause) > 0.0);
}

#[test]
fn connections_pass_over_an_instance_that_cannot_be_reached() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "tcp");
    cluster.agent.intend("shop", "web", "allow");
    in_turn(&cluster);
    let _good = called(&cluster, "web-good", "web", "v1");
    let mut dead = called(&cluster, "web-dead", "web", "v1");
    cluster.agent.wait_passing("web", 2);
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    eventually(SPREAD_LIMIT, "both are called", || {
        let asked = dead.app.requests_except("/status/200");
        door.get("/")?;
        if asked > 0 { Ok(()) } else { Err("only one is".to_owned()) }
    });
    dead.proxy.process.kill();
    // Before the checks of the catalogue find out: those ask every ten seconds.
    let cause = r#"cause="consecutive_local_origin_failure""#;
    eventually(SPREAD_LIMIT, "it is left out", || {
        // A connection that fails is opened elsewhere.
        let status = door.get("/")?.status;
        let times = counted(&shop.proxy, "weft_proxy_ejections_total", cause);
        if times > 0.0 { Ok(()) } else { Err(format!("{status}, {times} times")) }
    });
    for _ in 0..10 {
        assert_eq!(door.get("/").expect("an answer").status, 200);
    }
}
