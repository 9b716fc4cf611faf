//! A service that moves into the mesh: callers without sidecars get in for as long as that is
//! allowed, and it is told who they are.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::ports::free_port;
use weft_tests::process::run_weft;
use weft_tests::{Api, Cluster, eventually};

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
