//! What an operator sees of a host's proxies while they work: which run and what they have in force,
//! and what goes through them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::process::run_weft;
use weft_tests::{App, Cluster, eventually};

use crate::callers::{Counts, Mesh, echo_stream, load};
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

/// Watches what `weft tap` shows with these arguments until it has ended by itself.
fn tap(cluster: &Cluster, args: &[&str]) -> JoinHandle<Vec<Value>> {
    let address = cluster.agent.api().addr().to_string();
    let args = [&["tap"], args, &["--json", "--http-addr", &address]].concat();
    let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    thread::spawn(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let told = run_weft(&args, LIMIT);
        assert_eq!(told.code, Some(0), "{}", told.output);
        let line = |line: &str| serde_json::from_str(line).expect("each line is JSON");
        told.output.lines().map(line).collect()
    })
}

/// Does something until the watcher has seen as much as it wanted.
fn until_seen(watcher: JoinHandle<Vec<Value>>, mut act: impl FnMut()) -> Vec<Value> {
    while !watcher.is_finished() {
        act();
    }
    watcher.join().expect("it ends well")
}

fn ends_with(value: &Value, end: &str) -> bool {
    value.as_str().is_some_and(|text| text.ends_with(end))
}

#[test]
fn tap_shows_requests_and_connections_while_they_happen() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let audit = folder.path().join("audit.json");
    let settings = json!({ "audit": { "path": audit } });
    let cluster = Cluster::start_all_with(&json!({}), &settings);
    let mesh = Mesh::start(&cluster);
    a_request_is_shown_on_both_sides(&cluster, &mesh);
    a_connection_is_shown_with_its_end(&cluster, &mesh);
    only_what_is_asked_for_is_shown(&cluster, &mesh);
    who_watches_slows_nobody_down(&cluster, &mesh);
    it_is_written_down(&audit);
    let faults = [
        ("service=", "service"),
        ("service=web&status=6xx", "status"),
        ("service=web&path=x", "path"),
        ("service=web&rate=0", "rate"),
        ("service=web&max=many", "max"),
    ];
    for (query, field) in faults {
        let path = format!("/v1/agent/tap?{query}");
        let refused = cluster.agent.api().get(&path).expect("an answer");
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.body.starts_with(&format!("{field}: ")), "{refused:?}");
    }
}

fn a_request_is_shown_on_both_sides(cluster: &Cluster, mesh: &Mesh) {
    let door = mesh.shop.to("web");
    let ask = || {
        let headers = [("x-weft-timing", "proxy=1;application=1"), ("x-user", "ada")];
        let path = "/headers?page=2&token=s3cret";
        let answer = door.request("GET", path, &headers, "").expect("sent").ok().expect("200");
        assert_eq!(answer.header("x-weft-timing"), None, "callers do not hear of it");
        assert_eq!(answer.json()["headers"]["x-weft-timing"], Value::Null, "nor do services");
    };
    let mut sides = Vec::new();
    for service in ["shop", "web"] {
        let filter =
            ["--from", "shop", "--to", "web", "--path", "/headers", "--header", "x-user:ada"];
        let watcher = tap(cluster, &[&[service, "--max", "1"], &filter[..]].concat());
        let seen = until_seen(watcher, ask);
        let event = seen.into_iter().find(|it| it["Kind"] == "request").expect("one was shown");
        assert_eq!(event["Service"], service);
        assert!(ends_with(&event["Source"], "/svc/shop"), "{event}");
        assert!(ends_with(&event["Destination"], "/svc/web"), "{event}");
        assert_eq!((&event["Method"], &event["Status"]), (&json!("GET"), &json!(200)));
        assert_eq!(event["Path"], "/headers?page=2&token=(hidden)");
        assert_eq!((&event["Protocol"], &event["Flags"]), (&json!("HTTP/1.1"), &json!("")));
        assert_eq!(event["RequestBytes"], 0);
        assert!(event["ResponseBytes"].as_u64() > Some(0), "{event}");
        sides.push(event);
    }
    let [outbound, inbound] = &sides[..] else { panic!("two sides") };
    assert_eq!(
        (&outbound["Direction"], &inbound["Direction"]),
        (&json!("outbound"), &json!("inbound"))
    );
    assert_eq!(inbound["Endpoint"], mesh.web.app.addr().to_string());
    let public = mesh.web.proxy.admin().get("/config_dump").expect("an answer").json();
    assert_eq!(outbound["Endpoint"], public["inbound"]["bind"]);
    let parts = |event: &Value, names: &[&str]| -> u64 {
        let part = |name: &&str| event["Latency"][*name].as_u64().expect("it is known");
        names.iter().map(part).sum()
    };
    let of_outbound = parts(outbound, &["ApplicationUs", "NetworkUs", "ProxyUs", "RemoteProxyUs"]);
    assert!(Some(of_outbound) <= outbound["DurationUs"].as_u64(), "{outbound}");
    assert!(Some(parts(inbound, &["ApplicationUs", "ProxyUs"])) <= inbound["DurationUs"].as_u64());
    assert_eq!(inbound["Latency"]["NetworkUs"], Value::Null, "{inbound}");
    let metrics = mesh.shop.proxy.admin().get("/metrics").expect("an answer").body;
    for part in ["application", "network", "proxy", "remote_proxy"] {
        let count = |line: &&str| {
            line.starts_with("weft_proxy_request_latency_seconds_count{direction=\"outbound\"")
                && line.contains(&format!("part=\"{part}\""))
        };
        assert!(metrics.lines().any(|line| count(&line)), "{part}: {metrics}");
    }
}

fn a_connection_is_shown_with_its_end(cluster: &Cluster, mesh: &Mesh) {
    let door = mesh.shop.to("echo").addr();
    let watcher = tap(cluster, &["echo", "--max", "6"]);
    let seen = until_seen(watcher, || {
        let mut stream = echo_stream(door);
        stream.write_all(b"hello").expect("written");
        stream.shutdown(Shutdown::Write).expect("a socket");
        assert_eq!(stream.read_to_end(&mut Vec::new()).expect("read"), 5);
    });
    let of = |kind: &str| {
        seen.iter().find(|it| it["Kind"] == kind).unwrap_or_else(|| panic!("{seen:?}"))
    };
    let (opened, closed) = (of("connection-opened"), of("connection-closed"));
    for event in [opened, closed] {
        assert!(ends_with(&event["Source"], "/svc/shop"), "{event}");
        assert!(ends_with(&event["Destination"], "/svc/echo"), "{event}");
        assert_eq!((&event["Status"], &event["Protocol"]), (&json!(0), &json!("")));
    }
    assert_eq!((&opened["DurationUs"], &opened["RequestBytes"]), (&json!(0), &json!(0)));
    assert_eq!((&closed["RequestBytes"], &closed["ResponseBytes"]), (&json!(6), &json!(6)));
}

fn only_what_is_asked_for_is_shown(cluster: &Cluster, mesh: &Mesh) {
    let door = mesh.shop.to("web");
    let watcher = tap(cluster, &["web", "--status", "5xx", "--method", "get", "--max", "3"]);
    let seen = until_seen(watcher, || {
        for path in ["/status/200", "/status/503", "/status/404"] {
            door.get(path).expect("an answer");
        }
        door.request("POST", "/status/503", &[], "x").expect("an answer");
    });
    let told: Vec<_> = seen.iter().filter(|it| it["Kind"] == "request").collect();
    assert_eq!(told.len(), 3);
    for event in told {
        assert_eq!((&event["Path"], &event["Method"]), (&json!("/status/503"), &json!("GET")));
    }
    let text = weft(cluster, &["tap", "--help"]);
    assert!(text.contains("Examples:"), "{text}");
}

/// What `weft top` shows of one interval.
fn top(cluster: &Cluster, service: &str) -> Vec<Value> {
    let told = weft(cluster, &["top", service, "--interval", "1", "--once", "--json"]);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["IntervalSeconds"], 1);
    told["Flows"].as_array().expect("a list").clone()
}

#[test]
fn top_shows_who_calls_whom_how_often_and_how_well() {
    let cluster = Cluster::start();
    let mesh = Mesh::start(&cluster);
    let door = mesh.shop.to("web").addr();
    let counts = Arc::new(Counts::default());
    let callers = load(door, &counts);
    let open = echo_stream(mesh.shop.to("echo").addr());
    let flow = |direction: &'static str, destination: &'static str| {
        move |it: &&Value| it["Direction"] == direction && it["Destination"] == destination
    };
    let row = |service: &str, direction: &'static str, destination: &'static str| {
        eventually(LIMIT, &format!("{direction} to {destination} is shown"), || {
            let flows = top(&cluster, service);
            let found = flows.iter().find(flow(direction, destination));
            found.cloned().ok_or_else(|| format!("{flows:?}"))
        })
    };
    for (service, direction) in [("shop", "outbound"), ("web", "inbound")] {
        let shown = row(service, direction, "web");
        assert_eq!((&shown["Source"], &shown["SuccessRate"]), (&json!("shop"), &json!(1.0)));
        assert!(shown["RequestsPerSecond"].as_f64() > Some(1.0), "{shown}");
        let [p50, p99] = ["P50Ms", "P99Ms"].map(|name| shown[name].as_f64().expect("a time"));
        assert!(p50 > 0.0 && p50 <= p99, "{shown}");
    }
    assert_eq!(row("echo", "inbound", "echo")["OpenConnections"], 1);
    assert!(!top(&cluster, "web").iter().any(|it| flow("outbound", "web")(&it)), "that is shop's");
    drop(open);
    let (answered, failed) = counts.end(callers);
    assert_eq!(failed, 0, "of {answered}");
    let failing = mesh.shop.to("web");
    let shown = eventually(LIMIT, "failures are seen", || {
        let flows = thread::scope(|scope| {
            let watcher = scope.spawn(|| top(&cluster, "web"));
            while !watcher.is_finished() {
                failing.get("/status/503").expect("an answer");
            }
            watcher.join().expect("it ends well")
        });
        let found = flows.iter().find(flow("inbound", "web")).cloned();
        found.filter(|it| it["SuccessRate"] == 0.0).ok_or_else(|| format!("{flows:?}"))
    });
    assert!(shown["RequestsPerSecond"].as_f64() > Some(0.0), "{shown}");
    for (query, field) in [("interval=0s", "interval"), ("service=-", "service")] {
        let refused = cluster.agent.api().get(&format!("/v1/agent/flows?{query}"));
        let refused = refused.expect("an answer");
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.body.starts_with(&format!("{field}: ")), "{refused:?}");
    }
}

fn who_watches_slows_nobody_down(cluster: &Cluster, mesh: &Mesh) {
    let counts = Arc::new(Counts::default());
    let callers = load(mesh.shop.to("web").addr(), &counts);
    // One who never reads, and one who wants less than there is.
    let mut idle = TcpStream::connect(cluster.agent.api().addr()).expect("a connection");
    let request = "GET /v1/agent/tap?service=web&rate=2000 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    idle.write_all(request.as_bytes()).expect("written");
    let watcher = tap(cluster, &["shop", "--rate", "2", "--max", "4"]);
    let seen = until_seen(watcher, || counts.go_on());
    let missed: u64 = seen.iter().filter_map(|it| it["Missed"].as_u64()).sum();
    assert!(missed > 0, "{seen:?}");
    assert_eq!(seen.iter().filter(|it| it["Kind"] == "request").count(), 4);
    let watcher = tap(cluster, &["shop", "--rate", "2000", "--max", "200"]);
    let seen = until_seen(watcher, || counts.go_on());
    for protocol in ["HTTP/1.1", "HTTP/2"] {
        let whole = |it: &&Value| it["Protocol"] == protocol && it["Latency"]["NetworkUs"].is_u64();
        assert!(seen.iter().any(|it| whole(&it)), "{protocol}: {seen:?}");
    }
    drop(idle);
    let (answered, failed) = counts.end(callers);
    assert_eq!(failed, 0, "of {answered}");
}

fn it_is_written_down(audit: &Path) {
    let told = eventually(LIMIT, "who watched is written down", || {
        let text = std::fs::read_to_string(audit).unwrap_or_default();
        let mut lines = text.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
        let is_it =
            |it: &Value| it["endpoint"] == "/v1/agent/tap" && it["query"]["status"] != Value::Null;
        lines.find(is_it).ok_or(text)
    });
    assert_eq!((&told["status"], &told["method"]), (&json!(200), &json!("GET")));
    assert_eq!(
        (&told["query"]["service"], &told["query"]["status"]),
        (&json!(["web"]), &json!(["5xx"]))
    );
}
