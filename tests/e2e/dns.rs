//! DNS as hosts use it: names lead to what is healthy, whole answers come over TCP, and a mesh
//! without servers is still found.

use std::net::SocketAddr;

use serde_json::json;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::{Cluster, eventually, tools};

use crate::story::called;

/// Asks with `dig` and returns what it prints.
pub(crate) fn dig(dns: SocketAddr, args: &[&str]) -> Result<String, String> {
    let (at, port) = (format!("@{}", dns.ip()), dns.port().to_string());
    let base = [at.as_str(), "-p", port.as_str(), "+time=5", "+tries=1"];
    tools::run("dig", &[&base[..], args].concat()).ok()
}

/// Waits until `dig` prints exactly these lines, in any order.
pub(crate) fn wait_lines(dns: SocketAddr, args: &[&str], wanted: &[&str]) {
    eventually(SPREAD_LIMIT, &format!("dig {} finds {wanted:?}", args.join(" ")), || {
        let said = dig(dns, &[&["+short"], args].concat())?;
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        if lines == wanted { Ok(()) } else { Err(format!("{lines:?}")) }
    });
}

fn wait_status(dns: SocketAddr, name: &str, status: &str) {
    eventually(SPREAD_LIMIT, &format!("{name} is {status}"), || {
        let said = dig(dns, &["+noall", "+comments", name])?;
        if said.contains(&format!("status: {status},")) { Ok(()) } else { Err(said) }
    });
}

#[test]
fn an_instance_that_fails_leaves_the_answers() {
    if !tools::have("an_instance_that_fails_leaves_the_answers", &["dig"]) {
        return;
    }
    let cluster = Cluster::start();
    let one = called(&cluster, "web-1", "web", "v1");
    let two = called(&cluster, "web-2", "web", "v2");
    let dns = cluster.agent.dns();
    let target = "node1.node.dc1.mesh.";
    let line = |port: u16| format!("1 1 {port} {target}");
    let (first, second) = (line(one.app.port()), line(two.app.port()));
    let mut both = [first.as_str(), second.as_str()];
    both.sort_unstable();
    wait_lines(dns, &["SRV", "web.service.mesh"], &both);
    wait_lines(dns, &["SRV", "_web._v2.service.consul"], &[&second.replace(".mesh.", ".consul.")]);
    wait_lines(dns, &[target], &["127.0.0.1"]);

    drop(one);
    wait_lines(dns, &["SRV", "web.service.mesh"], &[&second]);
    wait_status(dns, "v1.web.service.mesh", "NXDOMAIN");
}

#[test]
fn a_name_is_found_in_any_spelling() {
    if !tools::have("a_name_is_found_in_any_spelling", &["dig"]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.agent.register(&json!({ "Name": "Web", "Port": 80, "Tags": ["V1"] }));
    let dns = cluster.agent.dns();
    for name in ["web.service.mesh", "WEB.service.mesh", "v1.Web.service.consul"] {
        wait_lines(dns, &[name], &["127.0.0.1"]);
    }
}

#[test]
fn an_answer_that_was_cut_comes_whole_over_tcp() {
    if !tools::have("an_answer_that_was_cut_comes_whole_over_tcp", &["dig"]) {
        return;
    }
    let cluster = Cluster::start();
    let addresses: Vec<String> = (10..30).map(|last| format!("127.0.1.{last}")).collect();
    for (at, address) in addresses.iter().enumerate() {
        cluster.agent.register(&json!({
            "ID": format!("web-{at}"), "Name": "web", "Address": address, "Port": 80,
        }));
    }
    let dns = cluster.agent.dns();
    let wanted: Vec<&str> = addresses.iter().map(String::as_str).collect();
    wait_lines(dns, &["+noedns", "web.service.mesh"], &wanted);
    let cut = dig(dns, &["+noedns", "+ignore", "web.service.mesh"]).expect("an answer");
    let flags = cut.lines().find(|line| line.contains("flags:")).unwrap_or_default();
    assert!(flags.contains(" tc") && flags.contains("ANSWER: 3,"), "{cut}");
}

#[test]
fn names_are_answered_without_servers() {
    if !tools::have("names_are_answered_without_servers", &["dig"]) {
        return;
    }
    let mut cluster = Cluster::start();
    // While the server is away, the agent may say so.
    cluster.agent.process.expect_log("");
    cluster.agent.register(&json!({ "Name": "web", "Port": 80 }));
    let dns = cluster.agent.dns();
    wait_lines(dns, &["web.service.mesh"], &["127.0.0.1"]);
    wait_lines(dns, &["node1.node.mesh"], &["127.0.0.1"]);
    wait_status(dns, "example.com", "REFUSED");

    cluster.server.process.kill();
    for _ in 0..20 {
        for name in ["web.service.mesh", "node1.node.mesh"] {
            assert_eq!(dig(dns, &["+short", name]).expect("an answer"), "127.0.0.1\n", "{name}");
        }
    }
    wait_status(dns, "never.service.mesh", "SERVFAIL");
    wait_status(dns, "no.such.form.mesh", "NXDOMAIN");

    cluster.server.restart();
    wait_status(dns, "never.service.mesh", "NXDOMAIN");
    cluster.agent.register(&json!({ "Name": "late", "Port": 80 }));
    wait_lines(dns, &["late.service.mesh"], &["127.0.0.1"]);
}
