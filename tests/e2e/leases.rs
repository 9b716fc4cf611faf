//! A host that is gone leaves the answers, and one that comes back is there at once.

use std::time::{Duration, Instant};

use serde_json::json;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::servers::CLUSTER_LIMIT;
use weft_tests::{Answer, Api, Cluster, Servers, TestAgent, consistently, eventually};

/// The status of a host by the check that its lease keeps.
fn lease(api: &Api, node: &str) -> Result<String, String> {
    let checks = api.get(&format!("/v1/health/node/{node}"))?.ok()?.json();
    let checks = checks.as_array().cloned().unwrap_or_default();
    let lease = checks.iter().find(|check| check["CheckID"] == "serfHealth");
    let status = lease.and_then(|check| check["Status"].as_str());
    status.map(str::to_owned).ok_or_else(|| format!("{node} has no lease: {checks:?}"))
}

fn wait_lease(api: &Api, node: &str, wanted: &str) {
    eventually(SPREAD_LIMIT, &format!("the lease of {node} is {wanted}"), || {
        let status = lease(api, node)?;
        if status == wanted { Ok(()) } else { Err(status) }
    });
}

/// A server with short leases and two hosts, `node1` and `node2`, of which the second has `web`.
fn two_hosts() -> (Cluster, TestAgent) {
    let cluster = Cluster::start_with(&json!({ "node_lease": "3s" }));
    let token = cluster.server.join_token_file();
    let other = TestAgent::start(cluster.folder.path(), "node2", &token);
    other.register(&json!({ "Name": "web", "Port": 80 }));
    cluster.agent.wait_passing("web", 1);
    (cluster, other)
}

fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill {name} {pid}");
}

#[test]
fn a_host_whose_agent_dies_leaves_the_answers_and_is_back_with_it() {
    let (mut cluster, mut other) = two_hosts();
    cluster.server.process.expect_log("a host has failed");
    let api = cluster.agent.api();
    other.process.kill();
    let died = Instant::now();
    cluster.agent.wait_passing("web", 0);
    println!("left the answers after {:?}", died.elapsed());
    assert_eq!(lease(&api, "node2").as_deref(), Ok("critical"));
    assert_eq!(lease(&api, "node1").as_deref(), Ok("passing"));
    let members = api.get("/v1/agent/members").and_then(Answer::ok).expect("a list").json();
    let failed = members.as_array().expect("a list").iter().find(|it| it["Name"] == "node2");
    assert_eq!(failed.expect("it is still known")["Status"], 4, "{members}");
    other.restart();
    wait_lease(&api, "node2", "passing");
    cluster.agent.wait_passing("web", 1);
}

#[test]
fn a_host_that_stands_still_is_found_out_though_its_connections_are_open() {
    let (mut cluster, mut other) = two_hosts();
    cluster.server.process.expect_log("a host has failed");
    let api = cluster.agent.api();
    other.process.expect_log("");
    signal(other.process.pid(), "-STOP");
    wait_lease(&api, "node2", "critical");
    cluster.agent.wait_passing("web", 0);
    signal(other.process.pid(), "-CONT");
    wait_lease(&api, "node2", "passing");
    cluster.agent.wait_passing("web", 1);
}

#[test]
fn an_agent_that_is_restarted_quickly_leaves_no_trace() {
    // At the lease of every user: four seconds to come back.
    let cluster = Cluster::start();
    let token = cluster.server.join_token_file();
    let mut other = TestAgent::start(cluster.folder.path(), "node2", &token);
    let api = cluster.agent.api();
    wait_lease(&api, "node2", "passing");
    let index =
        |api: &Api| api.get("/v1/health/node/node2").and_then(Answer::ok).map(|it| it.index());
    let before = index(&api);
    other.process.terminate();
    other.restart();
    consistently(Duration::from_secs(5), "nothing was written of node2", || {
        if index(&api) == before {
            Ok(())
        } else {
            Err(format!("{:?}, was {before:?}", index(&api)))
        }
    });
}

#[test]
fn hosts_of_a_server_that_dies_find_another_before_anybody_thinks_them_dead() {
    let mut servers = Servers::start(3);
    servers.wait_members(0, 3, 0);
    let folder = tempfile::tempdir().expect("a folder");
    let token = servers.all[0].data().join("join-token");
    let mut agents: Vec<TestAgent> = (0..4)
        .map(|number| TestAgent::start(folder.path(), &format!("host{number}"), &token))
        .collect();
    for (number, agent) in agents.iter_mut().enumerate() {
        agent.process.expect_log("");
        wait_lease(&servers.all[0].api(), &format!("host{number}"), "passing");
    }
    let leader = servers.leader(0);
    servers.all[leader].process.kill();
    let asked = (leader + 1) % 3;
    eventually(CLUSTER_LIMIT, "there is a new leader", || servers.all[asked].put("probe", "1"));
    let api = servers.all[asked].api();
    consistently(Duration::from_secs(14), "every host is alive", || {
        for number in 0..agents.len() {
            let status = lease(&api, &format!("host{number}"))?;
            if status != "passing" {
                return Err(format!("host{number} is {status}"));
            }
        }
        Ok(())
    });
    // The new leader judges as the one before did.
    agents[3].process.kill();
    wait_lease(&api, "host3", "critical");
}
