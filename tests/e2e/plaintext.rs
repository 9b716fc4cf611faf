//! A service that moves into the mesh: callers without sidecars get in for as long as that is
//! allowed, and it is told who they are.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::process::run_weft;
use weft_tests::{Api, App, Cluster, eventually};

use crate::story::{Shop, called, speaks, who};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn callers_without_sidecars_get_in_while_they_move_and_are_told_of() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let mut web = called(&cluster, "web-1", "web", "v1");
    web.proxy.process.expect_log("");
    let shop = Shop::open(&cluster, &["web"]);
    cluster.agent.intend("shop", "web", "allow");
    shop.wait_status("web", 200);
    let door = Api::new(public_door(&cluster));
    door.get("/").expect_err("strict: a proxy says nothing to who shows nothing");
    assert_eq!(verdict(&cluster, "web"), "is-strict");

    let permissive = json!({ "Kind": "service-defaults", "Name": "web", "Protocol": "http",
        "MutualTLSMode": "permissive" });
    let refused = cluster.agent.api().put("/v1/config", &permissive).expect("an answer");
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.body.contains("AllowEnablingPermissiveMutualTLS"), "{refused:?}");
    cluster.agent.configure(&json!({
        "Kind": "mesh", "AllowEnablingPermissiveMutualTLS": true,
    }));
    cluster.agent.configure(&permissive);
    let answer = eventually(SPREAD_LIMIT, "a caller without a sidecar gets in", || {
        door.get("/plain").and_then(weft_tests::Answer::ok)
    });
    assert_eq!(who(&answer), "web-1");
    // Others are judged as ever.
    shop.wait_status("web", 200);
    cluster.agent.intend("shop", "web", "deny");
    shop.wait_status("web", 403);
    eventually(SPREAD_LIMIT, "it is told who came", || match verdict(&cluster, "web") {
        told if told == "not-safe" => Ok(()),
        told => Err(told),
    });
    let mut held = TcpStream::connect_timeout(&door.addr(), LIMIT).expect("a connection");
    std::io::Write::write_all(&mut held, b"GET / HTTP/1.1\r\n").expect("half a request");
    eventually(SPREAD_LIMIT, "it is let through", || {
        let report = report(&cluster);
        let sources = report[0]["Sources"].to_string();
        match report.as_array().into_iter().flatten().find(|it| it["Service"] == "web") {
            Some(web) if web["Sources"][0]["Connections"].as_u64() >= Some(2) => Ok(()),
            _ => Err(sources),
        }
    });
    speaks(&cluster, "web", "http");
    held.set_read_timeout(Some(LIMIT)).expect("a socket");
    let ended = held.read(&mut [0]);
    assert!(!matches!(ended, Ok(1..)), "cut, once it is strict again: {ended:?}");
    assert_eq!(verdict(&cluster, "web"), "is-strict");
    door.get("/").expect_err("strict again");
}

fn report(cluster: &Cluster) -> Value {
    let address = cluster.agent.api().addr().to_string();
    let told = run_weft(&["mtls", "report", "--json", "--http-addr", &address], LIMIT);
    assert_eq!(told.code, Some(0), "{}", told.output);
    serde_json::from_str(&told.output).expect("JSON")
}

fn verdict(cluster: &Cluster, service: &str) -> String {
    let report = report(cluster);
    let found = report.as_array().into_iter().flatten().find(|it| it["Service"] == service);
    found.and_then(|it| it["Verdict"].as_str()).unwrap_or_default().to_owned()
}

/// Where the sidecar listens for its peers.
fn public_door(cluster: &Cluster) -> SocketAddr {
    eventually(SPREAD_LIMIT, "the sidecar stands in the catalog", || {
        let answer = cluster.agent.api().get("/v1/health/connect/web?passing")?.ok()?;
        let port = answer.json()[0]["Service"]["Port"].as_u64();
        let port = port.and_then(|port| u16::try_from(port).ok()).ok_or(answer.body)?;
        Ok(SocketAddr::from(([127, 0, 0, 1], port)))
    })
}

#[test]
fn a_probe_reaches_the_path_that_is_exposed_and_no_other() {
    let cluster = Cluster::start();
    let web = called(&cluster, "web-1", "web", "v1");
    let port = free_port();
    let path =
        json!({ "Path": "/status/200", "LocalPathPort": web.app.port(), "ListenerPort": port });
    let mut entry = json!({ "Kind": "service-defaults", "Name": "web", "Protocol": "http",
        "Expose": { "Paths": [path] } });
    cluster.agent.configure(&entry);
    let probe = Api::new(SocketAddr::from(([127, 0, 0, 1], port)));
    let answer = eventually(SPREAD_LIMIT, "the probe gets through", || {
        probe.get("/status/200").and_then(weft_tests::Answer::ok)
    });
    assert_eq!(who(&answer), "web-1");
    for other in ["/", "/status/204", "/status/200/..", "/status/200%2f..%2f204"] {
        let answer = probe.get(other).expect("an answer");
        assert_eq!(answer.status, 404, "{other}: {}", answer.body);
        assert_eq!(answer.header("x-weft-cause"), Some("not-exposed"));
    }
    entry["Expose"] = json!({});
    cluster.agent.configure(&entry);
    eventually(SPREAD_LIMIT, "the door is closed", || match probe.get("/status/200") {
        Err(_) => Ok(()),
        Ok(answer) => Err(format!("{}", answer.status)),
    });
}

#[test]
fn checks_go_through_the_proxy_and_tell_how_the_service_behind_it_is() {
    let (only, app_port) = (free_port(), free_port());
    let settings = json!({ "ports": { "expose_min_port": only, "expose_max_port": only } });
    let mut cluster = Cluster::start_all_with(&json!({}), &settings);
    cluster.agent.process.expect_log("");
    let app = App::start_at("web-1", app_port);
    let mut web = meshed("web-1", "web", app.port(), &[]);
    web["Check"] = json!({ "CheckID": "web-alive", "Interval": "1s",
        // The proxy looks for the port at its own instance, whatever host the check names.
        "HTTP": format!("http://service.invalid:{}/status/200?full", app.port()) });
    web["Connect"]["SidecarService"]["Proxy"]["Expose"] = json!({ "Checks": true });
    cluster.agent.register(&web);
    let direct = check(&cluster, "critical");
    assert!(!direct["Output"].as_str().unwrap_or_default().contains("through"), "{direct}");
    let mut proxy = cluster.agent.sidecar("web-1");
    proxy.process.expect_log("is no longer registered at this agent");
    // It asks again until the test ends, and is refused.
    proxy.process.expect_log(" is registered at this agent");
    let passing = check(&cluster, "passing");
    let output = passing["Output"].as_str().unwrap_or_default();
    assert_eq!(passing["ExposedPort"], only);
    assert!(output.contains(&format!(" through 127.0.0.1:{only}: 200 OK")), "{output}");
    let door = Api::new(SocketAddr::from(([127, 0, 0, 1], only)));
    let other = door.get("/status/204").expect("an answer");
    assert_eq!((other.status, other.header("x-weft-cause")), (404, Some("not-exposed")));

    // What the service says is what counts, and a restart of the agent moves nothing.
    cluster.agent.process.kill();
    cluster.agent.restart();
    cluster.agent.process.expect_log("");
    assert_eq!(check(&cluster, "passing")["ExposedPort"], only);
    drop(app);
    let critical = check(&cluster, "critical");
    let output = critical["Output"].as_str().unwrap_or_default();
    assert!(output.contains(&format!(" through 127.0.0.1:{only}: 503")), "{output}");
    let app = App::start_at("web-1", app_port);
    check(&cluster, "passing");

    // An entry for all says the same; without any, the check goes to the service itself.
    web["Check"]["HTTP"] = json!(format!("http://{}/status/200", app.addr()));
    web["Connect"]["SidecarService"]["Proxy"]["Expose"] = json!({});
    cluster.agent.register(&web);
    is_through(&cluster, false);
    cluster.agent.configure(&json!({ "Kind": "proxy-defaults", "Name": "global",
        "Expose": { "Checks": true } }));
    is_through(&cluster, true);
    let mut more = web["Check"].clone();
    (more["CheckID"], more["ServiceID"]) = (json!("web-more"), json!("web-1"));
    let answer = cluster.agent.api().put("/v1/agent/check/register", &more);
    answer.and_then(weft_tests::Answer::ok).expect("registered");
    eventually(SPREAD_LIMIT, "it is told that no port is free", || {
        let reason = format!("web-more: none of the ports {only} to {only} is free");
        let log = cluster.agent.process.log();
        if log.contains(&reason) { Ok(()) } else { Err(log) }
    });
    let answer =
        cluster.agent.api().put("/v1/agent/service/deregister/web-1-sidecar-proxy", &json!({}));
    answer.and_then(weft_tests::Answer::ok).expect("deregistered");
    is_through(&cluster, false);
    drop(proxy);
}

/// Waits until the check of the service stands so.
fn check(cluster: &Cluster, status: &str) -> Value {
    eventually(SPREAD_LIMIT, &format!("the check is {status}"), || {
        let answer = cluster.agent.api().get("/v1/agent/checks")?.ok()?;
        let check = answer.json()["web-alive"].clone();
        let is_so = check["Status"] == status && check["Output"] != "";
        if is_so { Ok(check) } else { Err(check.to_string()) }
    })
}

/// Waits until the check goes through the proxy, or does not.
fn is_through(cluster: &Cluster, is_it: bool) {
    eventually(SPREAD_LIMIT, &format!("through the proxy: {is_it}"), || {
        let found = check(cluster, "passing");
        let output = found["Output"].as_str().unwrap_or_default();
        if output.contains(" through ") == is_it { Ok(()) } else { Err(found.to_string()) }
    });
}
