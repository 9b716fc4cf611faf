//! Three servers survive what leaves a majority, and an operator what does not.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;
use weft_tests::process::run_weft;
use weft_tests::servers::CLUSTER_LIMIT;
use weft_tests::{Api, Servers, TestAgent, eventually};

/// Writes one key after another through several servers until told to stop, and remembers what
/// was acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<BTreeMap<String, String>>,
}

impl Writer {
    fn start(apis: Vec<Api>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = thread::spawn(move || {
            let mut acknowledged = BTreeMap::new();
            for number in 0_u64.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let (key, value) = (format!("w/{number}"), format!("v{number}"));
                let api = &apis[usize::try_from(number).unwrap_or_default() % apis.len()];
                let answer = api.request("PUT", &format!("/v1/kv/{key}"), &[], &value);
                if answer.is_ok_and(|answer| answer.status == 200 && answer.body == "true") {
                    acknowledged.insert(key, value);
                }
            }
            acknowledged
        });
        Self { stop, thread }
    }

    fn stop(self) -> BTreeMap<String, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer ends")
    }
}

fn holds(servers: &Servers, at: usize, acknowledged: &BTreeMap<String, String>) {
    for (key, value) in acknowledged {
        let found = servers.all[at].value(key);
        assert_eq!(found.as_ref(), Ok(value), "{key} was acknowledged, and is lost");
    }
}

#[test]
fn a_rolling_restart_under_writes_loses_no_acknowledged_write() {
    let mut servers = Servers::start(3);
    servers.wait_members(0, 3, 0);
    let said = ["A mesh was founded.", "This server joined a mesh.", "This server joined a mesh."];
    for (server, said) in servers.all.iter().zip(said) {
        assert!(server.process.log().contains(said), "{}: {}", server.name, server.process.log());
    }
    let writer = Writer::start(servers.all.iter().map(|server| server.api()).collect());
    for at in 0..3 {
        servers.all[at].process.terminate();
        servers.all[at].restart();
        let leader = servers.leader(at);
        eventually(CLUSTER_LIMIT, "the restarted server writes", || {
            servers.all[at].put("probe", "1")
        });
        assert!(leader < 3);
    }
    let acknowledged = writer.stop();
    // How many depends on how fast the servers come back; some did while each was away.
    assert!(acknowledged.len() >= 10, "{} writes went through", acknowledged.len());
    for at in 0..3 {
        holds(&servers, at, &acknowledged);
    }
}

#[test]
fn servers_that_come_back_at_other_addresses_are_found_and_so_agents_find_them() {
    let mut servers = Servers::start(3);
    servers.wait_members(0, 3, 0);
    let token = servers.all[0].data().join("join-token");
    let mut agent = TestAgent::start(servers.folder.path(), "node1", &token);
    agent.process.expect_log("");
    let known = servers.folder.path().join("node1/member.json");
    for at in 0..3 {
        servers.all[at].process.terminate();
        servers.all[at].restart_elsewhere();
        let address = servers.all[at].address();
        eventually(CLUSTER_LIMIT, "the new address is known to all", || {
            for server in &servers.all {
                let peers = server.api().get("/v1/status/peers?stale")?.ok()?.body;
                if !peers.contains(&address) {
                    return Err(peers);
                }
            }
            Ok(())
        });
        servers.leader(at);
        // One that moves before the agent has heard of the last would be one too many.
        eventually(CLUSTER_LIMIT, "the agent knows the new address", || {
            let member = fs::read_to_string(&known).map_err(|error| error.to_string())?;
            if member.contains(&address) { Ok(()) } else { Err(member.lines().take(20).collect()) }
        });
    }
    // Every address of the token is out of date.
    eventually(CLUSTER_LIMIT, "the agent answers from them", || {
        agent.api().get("/v1/catalog/services")?.ok()
    });
}

#[test]
fn a_cluster_that_lost_its_majority_is_recovered_by_the_one_that_is_left() {
    let mut servers = Servers::start(3);
    servers.wait_members(0, 3, 0);
    for number in 0..20 {
        let key = format!("k/{number}");
        servers.all[number % 3].put(&key, "kept").expect("three servers write");
    }
    servers.all[1].process.kill();
    servers.all[2].process.kill();
    let refused = servers.all[0].put("lost", "1");
    assert!(refused.is_err(), "one of three has no majority");
    // As docs/operating-servers.md tells.
    let peers = servers.all[0].api().get("/v1/operator/raft/configuration?stale");
    let peers = peers.and_then(|answer| answer.ok()).expect("stale").json();
    let own = peers["Servers"].as_array().expect("servers").iter();
    let own = own.clone().find(|server| server["Node"] == "server1").expect("itself").clone();
    servers.all[0].process.kill();
    let left = json!([{ "id": own["ID"], "address": own["Address"] }]);
    let file = servers.all[0].data().join("peers.json");
    fs::write(&file, left.to_string()).expect("the data directory can be written");
    servers.all[0].restart();
    servers.wait_members(0, 1, 0);
    assert!(!file.exists(), "it is read once");
    for number in 0..20 {
        assert_eq!(servers.all[0].value(&format!("k/{number}")), Ok("kept".to_owned()));
    }
    // Two new ones, and it is a cluster again: the loss of one more is survived.
    servers.add(&json!({}));
    servers.add(&json!({}));
    servers.wait_members(0, 3, 0);
    servers.all[0].process.kill();
    eventually(CLUSTER_LIMIT, "the two write", || servers.all[4].put("k/after", "1"));
    assert_eq!(servers.all[3].value("k/19"), Ok("kept".to_owned()));
}

#[test]
fn operators_hand_over_remove_and_look_with_the_command_line() {
    let mut servers = Servers::start(3);
    servers.wait_members(0, 3, 0);
    let replica = servers.add(&json!({ "read_replica": true }));
    servers.wait_members(0, 3, 1);
    servers.all[0].put("k", "v").expect("written");
    // A read replica serves.
    eventually(CLUSTER_LIMIT, "the replica has the key", || {
        let answer = servers.all[replica].api().get("/v1/kv/k?raw&stale")?.ok()?;
        if answer.body == "v" { Ok(()) } else { Err(answer.body) }
    });
    let addr = servers.all[1].api().addr().to_string();
    let weft = |args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain(["--http-addr", &addr]).collect();
        run_weft(&args, CLUSTER_LIMIT)
    };
    let before = servers.leader(1);
    let outcome = weft(&["operator", "raft", "transfer-leader"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.output);
    eventually(CLUSTER_LIMIT, "another leads", || {
        let leader = servers.leader(1);
        if leader == before { Err(format!("{leader} leads")) } else { Ok(()) }
    });
    let listed = weft(&["operator", "raft", "list-peers"]).output;
    assert!(listed.contains("read-replica") && listed.contains("leader"), "{listed}");
    eventually(CLUSTER_LIMIT, "everyone is healthy", || {
        let state = weft(&["operator", "autopilot", "state"]);
        let is_well = state.output.contains("Healthy:           true");
        if is_well { Ok(()) } else { Err(state.output) }
    });
    let set = weft(&["operator", "autopilot", "set-config", "--min-quorum", "3"]);
    assert!(set.output.contains("Configuration updated!"), "{}", set.output);
    let config = weft(&["operator", "autopilot", "get-config"]).output;
    assert!(config.contains("MinQuorum = 3"), "{config}");
    let members = weft(&["members"]).output;
    assert_eq!(members.matches("server").count(), 8, "name and type of four: {members}");
    let info = weft(&["info"]).output;
    assert!(info.contains("leader = 127.0.0.1:"), "{info}");
    // A server that is removed says so and ends; it does not come back by itself.
    let gone = (0..3).find(|at| *at != 1 && *at != servers.leader(1)).expect("a follower");
    let address = servers.all[gone].address();
    let outcome = weft(&["operator", "raft", "remove-peer", "--address", &address]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.output);
    let removed = &mut servers.all[gone].process;
    eventually(CLUSTER_LIMIT, "the removed server ends", || {
        removed.exit_code().ok_or_else(|| "it runs".to_owned())
    });
    assert!(removed.log().contains("was removed from its cluster"), "{}", removed.log());
    servers.wait_members(1, 2, 1);
}
