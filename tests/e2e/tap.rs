//! What an operator sees of a host's proxies while they work: which run and what they have in force.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::process::run_weft;
use weft_tests::{App, Cluster, eventually};

use crate::story::{Shop, called, speaks};

const LIMIT: Duration = Duration::from_secs(20);

/// Runs `weft` against a host's agent.
fn weft(cluster: &Cluster, args: &[&str]) -> String {
    let address = cluster.agent.api().addr().to_string();
    let all = [args, &["--http-addr", &address]].concat();
    let told = run_weft(&all, LIMIT);
    assert_eq!(told.code, Some(0), "{}", told.output);
    told.output
}

/// What `weft ps` says of one proxy.
fn ps(cluster: &Cluster, service: &str) -> Value {
    let list: Value =
        serde_json::from_str(&weft(cluster, &["ps", service, "--json"])).expect("JSON");
    list[0].clone()
}

/// Waits until `weft ps` shows a proxy in a state.
fn wait_state(cluster: &Cluster, service: &str, state: &str) -> Value {
    eventually(SPREAD_LIMIT, &format!("{service} is {state}"), || match ps(cluster, service) {
        proxy if proxy["State"] == state => Ok(proxy),
        proxy => Err(proxy.to_string()),
    })
}

#[test]
fn ps_tells_which_proxies_run_and_what_they_have_in_force() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let mut web = called(&cluster, "web-1", "web", "v1");
    let shop = Shop::open(&cluster, &["web"]);
    cluster.agent.intend("shop", "web", "allow");
    shop.wait_status("web", 200);

    let proxy = wait_state(&cluster, "web", "in-force");
    assert_eq!(proxy["ProxyID"], "web-1-sidecar-proxy");
    assert_eq!(
        (&proxy["Shape"], &proxy["PID"]),
        (&json!("sidecar"), &json!(web.proxy.process.pid()))
    );
    assert_eq!(proxy["Acknowledged"], proxy["Configuration"]);
    let dump = web.proxy.admin().get("/config_dump").expect("an answer").json();
    assert_eq!(proxy["Acknowledged"], dump["version"]);
    for time in ["ConnectedSince", "AcknowledgedAt", "LeafValidBefore"] {
        assert!(proxy[time].as_str().is_some_and(|it| it.ends_with('Z')), "{time}: {proxy}");
    }
    assert_eq!((&proxy["Refused"], &proxy["LastSeen"]), (&Value::Null, &json!("")));

    // A port that another program has is named with the reason.
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let app = App::start("desk");
    cluster.agent.register(&meshed("desk", "desk", app.port(), &[]));
    assert_eq!(wait_state(&cluster, "desk", "never-connected")["PID"], Value::Null);
    let mut desk = cluster.agent.sidecar("desk");
    desk.process.expect_log("a listener is missing");
    wait_state(&cluster, "desk", "in-force");
    cluster.agent.register(&meshed("desk", "desk", app.port(), &[("web", port)]));
    let proxy = wait_state(&cluster, "desk", "listeners-missing");
    let missing = proxy["MissingListeners"][0].as_str().unwrap_or_default().to_owned();
    assert!(missing.contains(&format!("127.0.0.1:{port}")), "{proxy}");
    let table = weft(&cluster, &["ps"]);
    assert!(table.contains(&format!("desk-sidecar-proxy: listener missing: {missing}")), "{table}");
    drop(taken);
    wait_state(&cluster, "desk", "in-force");

    web.proxy.process.terminate();
    let proxy = wait_state(&cluster, "web", "disconnected");
    assert!(proxy["LastSeen"].as_str().is_some_and(|it| it.ends_with('Z')), "{proxy}");
}
