//! Hosts without an agent: agents that are told to run their checks, each host one of them.

use std::net::TcpListener;

use serde_json::{Value, json};
use weft_tests::app::App;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::ports::free_port;
use weft_tests::{Answer, Api, Cluster, TestAgent, eventually, tools};

use crate::dns::wait_lines;

/// Registers a host without an agent, its web server, and how that is to be looked at.
fn register(api: &Api, node: &str, port: u16) {
    let body = json!({
        "Node": node,
        "Address": "127.0.0.1",
        "NodeMeta": {
            "external-node": "true",
            "external-probe": "true",
            "external-probe-port": free_port().to_string(),
        },
        "Service": { "ID": "shop", "Service": "shop", "Port": port },
        "Checks": [{
            "CheckID": "front",
            "Name": "the front page",
            "Node": node,
            "ServiceID": "shop",
            "Status": "critical",
            "Definition": {
                "HTTP": format!("http://127.0.0.1:{port}/status/200"),
                "Interval": "1s",
                "Timeout": "2s",
            },
        }],
    });
    api.put("/v1/catalog/register", &body).and_then(Answer::ok).expect("registered");
}

fn status_of(api: &Api, node: &str, check: &str) -> Result<String, String> {
    let checks = api.get(&format!("/v1/health/node/{node}"))?.ok()?.json();
    let found = checks.as_array().and_then(|all| all.iter().find(|it| it["CheckID"] == check));
    let status = found.and_then(|check| check["Status"].as_str());
    status.map(str::to_owned).ok_or_else(|| format!("{node} has no {check}: {checks}"))
}

fn wait_status(api: &Api, node: &str, check: &str, wanted: &str) {
    eventually(SPREAD_LIMIT, &format!("{check} of {node} is {wanted}"), || {
        let status = status_of(api, node, check)?;
        if status == wanted { Ok(()) } else { Err(status) }
    });
}

/// How many hosts are each agent's, by its own metrics.
fn hosts_of(api: &Api) -> Result<u64, String> {
    let text = api.get("/v1/agent/metrics?format=prometheus")?.ok()?.body;
    let name = "weft_agent_external_nodes ";
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok()).ok_or_else(|| "no such metric".to_owned())
}

/// Two agents that share the checks, on a cluster with short leases.
fn two_monitors() -> (Cluster, TestAgent) {
    let mut cluster = Cluster::start_with(&json!({ "node_lease": "3s" }));
    let token = cluster.server.join_token_file();
    cluster.agent.set("external_checks", &json!({ "enabled": true }));
    cluster.server.process.expect_log("a host has failed");
    cluster.agent.process.terminate();
    cluster.agent.restart();
    let mut other = TestAgent::start(cluster.folder.path(), "node2", &token);
    other.set("external_checks", &json!({ "enabled": true, "critical_threshold": 2 }));
    other.process.terminate();
    other.restart();
    cluster.agent.wait_passing("weft-external-checks", 2);
    (cluster, other)
}

#[test]
fn an_external_web_server_goes_up_and_down_and_the_answers_follow_whoever_looks() {
    let (cluster, mut other) = two_monitors();
    let api = cluster.agent.api();
    let has_dig = tools::have("an_external_web_server_goes_up_and_down", &["dig"]);
    let answers = |cluster: &Cluster, wanted: &[&str]| {
        if has_dig {
            wait_lines(cluster.agent.dns(), &["shop.service.mesh"], wanted);
        }
    };
    let nodes: Vec<String> = (0..8).map(|number| format!("external-{number}")).collect();
    let front = App::start("shop");
    for node in &nodes {
        register(&api, node, front.port());
    }
    for node in &nodes {
        wait_status(&api, node, "front", "passing");
        wait_status(&api, node, "externalNodeHealth", "passing");
    }
    answers(&cluster, &["127.0.0.1"]);

    // Each host is exactly one agent's, and no agent has them all.
    let (one, two) = (cluster.agent.api(), other.api());
    eventually(SPREAD_LIMIT, "the hosts are shared", || {
        let shares = (hosts_of(&one)?, hosts_of(&two)?);
        let is_shared = shares.0 + shares.1 == 8 && shares.0 > 0 && shares.1 > 0;
        if is_shared { Ok(()) } else { Err(format!("{shares:?}")) }
    });

    // The server goes; then one of the agents, and the server comes back: the other sees to all.
    let port = front.port();
    drop(front);
    for node in &nodes {
        wait_status(&api, node, "front", "critical");
    }
    answers(&cluster, &[]);
    other.process.kill();
    eventually(SPREAD_LIMIT, "one agent has all hosts", || match hosts_of(&one)? {
        8 => Ok(()),
        hosts => Err(hosts.to_string()),
    });
    let front = App::start_at("shop", port);
    for node in &nodes {
        wait_status(&api, node, "front", "passing");
    }
    answers(&cluster, &["127.0.0.1"]);
    assert!(front.requests_except("/") > 0);
}

#[test]
fn a_host_that_was_deregistered_stays_so_and_one_that_is_gone_turns_critical() {
    let (cluster, _other) = two_monitors();
    let api = cluster.agent.api();
    let front = App::start("shop");
    for node in ["stays", "goes"] {
        register(&api, node, front.port());
        wait_status(&api, node, "front", "passing");
    }
    let gone = json!({ "Node": "goes" });
    api.put("/v1/catalog/deregister", &gone).and_then(Answer::ok).expect("deregistered");
    drop(front);
    // A write that comes too late would bring it back just then.
    wait_status(&api, "stays", "front", "critical");
    let nodes = api.get("/v1/catalog/nodes").and_then(Answer::ok).expect("a list").json();
    let has = |name: &str| nodes.as_array().into_iter().flatten().any(|it| it["Node"] == name);
    assert!(has("stays") && !has("goes"), "{nodes}");

    // A port that nobody serves answers with a refusal: the host is there. An address where nobody
    // is does not.
    let silent = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let body = |address: &str| -> Value {
        json!({
            "Node": "box",
            "Address": address,
            "NodeMeta": {
                "external-node": "true",
                "external-probe": "true",
                "external-probe-port": silent.port().to_string(),
            },
        })
    };
    api.put("/v1/catalog/register", &body("127.0.0.1")).and_then(Answer::ok).expect("registered");
    wait_status(&api, "box", "externalNodeHealth", "passing");
    api.put("/v1/catalog/register", &body("box.invalid")).and_then(Answer::ok).expect("registered");
    wait_status(&api, "box", "externalNodeHealth", "critical");
}
