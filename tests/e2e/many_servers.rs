//! Five servers and what they survive; agents that spread over their servers and find them again.

use std::thread;

use serde_json::{Value, json};
use weft_tests::servers::CLUSTER_LIMIT;
use weft_tests::{Api, Servers, TestAgent, eventually};

#[test]
fn five_servers_survive_two_and_without_a_majority_they_say_so() {
    let mut servers = Servers::start(5);
    servers.wait_members(0, 5, 0);
    servers.all[0].put("k", "before").expect("five servers write");
    // Autopilot would remove servers that are away for long, as it should; here they come back.
    let keep = json!({ "CleanupDeadServers": false });
    let path = "/v1/operator/autopilot/configuration";
    servers.all[0].api().put(path, &keep).and_then(|answer| answer.ok()).expect("configured");

    // The leader and another one.
    let leader = servers.leader(0);
    let others: Vec<usize> = (0..5).filter(|at| *at != leader).collect();
    servers.all[leader].process.kill();
    servers.all[others[0]].process.kill();
    let left = [others[1], others[2], others[3]];
    eventually(CLUSTER_LIMIT, "three of five write", || servers.all[left[0]].put("k", "three"));
    for at in left {
        assert_eq!(servers.all[at].value("k"), Ok("three".to_owned()));
    }

    servers.all[left[2]].process.kill();
    let asked = &servers.all[left[0]];
    let refused = asked.put("k", "two").expect_err("two of five are no majority");
    // One that was on its way to a leader who lost its majority may still be carried out.
    let is_said = ["No cluster leader", "did not answer"].iter().any(|it| refused.contains(it));
    assert!(is_said, "{refused}");
    eventually(CLUSTER_LIMIT, "a read that must be true is refused", || {
        let refused = asked.value("k").expect_err("nobody knows what is true");
        // What is wrong depends on who led last: nobody leads, it does not answer, or it is this
        // server and has no majority.
        if refused.contains("leader") { Ok(()) } else { Err(refused) }
    });
    // One of them may still lead, in name only, and be heard by the other.
    for at in [left[0], left[1]] {
        eventually(CLUSTER_LIMIT, "a stale read says that nobody leads", || {
            let answer = servers.all[at].api().get("/v1/kv/k?raw&stale")?.ok()?;
            assert_eq!(answer.body, "three");
            match answer.header("x-consul-knownleader") {
                Some("false") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    for at in [left[2], others[0], leader] {
        servers.all[at].restart();
    }
    eventually(CLUSTER_LIMIT, "all of them write again", || servers.all[leader].put("k", "five"));
    eventually(CLUSTER_LIMIT, "all of them are healthy", || {
        let health = servers.all[left[0]].api().get("/v1/operator/autopilot/health")?;
        if health.status == 200 { Ok(()) } else { Err(health.body) }
    });
    for server in &servers.all {
        assert_eq!(server.value("k"), Ok("five".to_owned()));
    }
}

/// Adds one to a counter, under the index that it has; waits out what was not answered.
fn count(api: &Api) -> Result<bool, String> {
    let (index, value) = match api.get("/v1/kv/counter")? {
        answer if answer.status == 404 => (0, 0),
        answer => {
            let entry: Value = answer.ok()?.json();
            let raw = api.get("/v1/kv/counter?raw")?.ok()?.body;
            let index = entry[0]["ModifyIndex"].as_u64().unwrap_or_default();
            (index, raw.parse::<u64>().map_err(|error| error.to_string())?)
        }
    };
    let path = format!("/v1/kv/counter?cas={index}");
    let answer = api.request("PUT", &path, &[], &(value + 1).to_string())?.ok()?;
    Ok(answer.body.trim() == "true")
}

#[test]
fn a_write_that_is_sent_again_over_the_leaders_end_is_carried_out_once() {
    let mut servers = Servers::start(3);
    servers.wait_members(0, 3, 0);
    let leader = servers.leader(0);
    let follower = (0..3).find(|at| *at != leader).expect("a follower");
    let api = servers.all[follower].api();
    for _ in 0..20 {
        assert_eq!(count(&api), Ok(true));
    }
    // The server that is asked sends what was not answered to the next leader, under its name. A
    // write that was carried out twice would be told as one that came too late: `false`.
    let counting = thread::spawn(move || {
        let (mut answered, mut unanswered) = (20_u64, 0_u64);
        for _ in 0..200 {
            match count(&api) {
                Ok(is_carried_out) => {
                    assert!(is_carried_out, "one writer never comes too late");
                    answered += 1;
                }
                Err(_) => unanswered += 1,
            }
        }
        (answered, unanswered)
    });
    eventually(CLUSTER_LIMIT, "some are counted", || {
        let value = servers.all[follower].value("counter")?;
        if value.parse::<u64>().is_ok_and(|value| value > 40) { Ok(()) } else { Err(value) }
    });
    servers.all[leader].process.kill();
    let (answered, unanswered) = counting.join().expect("counted");
    let value = servers.all[follower].value("counter").expect("there is a leader");
    let value: u64 = value.parse().expect("a number");
    assert!(value >= answered, "{answered} were acknowledged, {value} are there");
    assert!(value <= answered + unanswered, "{value} of {answered} and {unanswered}");
    assert!(answered > 100, "writes go on under the next leader: {answered}");
}

/// The streams of agents at a server.
fn streams(servers: &Servers, at: usize) -> Result<u64, String> {
    let path = "/v1/agent/metrics?format=prometheus";
    let text = servers.all[at].api().get(path)?.ok()?.body;
    let line = text.lines().find_map(|line| line.strip_prefix("weft_server_watch_streams "));
    line.and_then(|number| number.trim().parse().ok()).ok_or(text)
}

#[test]
fn agents_spread_over_the_servers_and_move_when_one_ends() {
    const AGENTS: u64 = 9;
    let mut servers = Servers::start(3);
    servers.wait_members(0, 3, 0);
    let token = servers.all[0].data().join("join-token");
    let mut agents: Vec<TestAgent> = (0..AGENTS)
        .map(|number| TestAgent::start(servers.folder.path(), &format!("node{number}"), &token))
        .collect();
    for agent in &mut agents {
        agent.process.expect_log("");
    }
    let all = |servers: &Servers, of: &[usize]| -> Result<Vec<u64>, String> {
        let counts = of.iter().map(|at| streams(servers, *at));
        let counts: Vec<u64> = counts.collect::<Result<_, _>>()?;
        if counts.iter().sum::<u64>() == AGENTS { Ok(counts) } else { Err(format!("{counts:?}")) }
    };
    let spread = eventually(CLUSTER_LIMIT, "all have their stream", || all(&servers, &[0, 1, 2]));
    // Nine that choose among three choose the same with one chance in six thousand.
    let busy = spread.iter().filter(|count| **count > 0).count();
    assert!(busy >= 2, "all are at one server: {spread:?}");
    let fullest = (0..3).max_by_key(|at| spread[*at]).expect("three");
    servers.all[fullest].process.kill();
    let left: Vec<usize> = (0..3).filter(|at| *at != fullest).collect();
    eventually(CLUSTER_LIMIT, "they have moved", || all(&servers, &left));
    for agent in &agents {
        eventually(CLUSTER_LIMIT, "the agent answers", || {
            agent.api().get("/v1/catalog/nodes")?.ok()
        });
    }
}

#[test]
fn servers_that_all_move_at_once_are_told_by_hand_and_so_are_agents() {
    let mut servers = Servers::start(3);
    servers.wait_members(0, 3, 0);
    servers.all[0].put("k", "kept").expect("written");
    let token = servers.all[0].data().join("join-token");
    let mut agent = TestAgent::start(servers.folder.path(), "node1", &token);
    agent.process.expect_log("");
    agent.register(&json!({ "Name": "web", "Port": 80 }));
    eventually(CLUSTER_LIMIT, "it is in the catalog", || {
        let found = servers.all[0].api().get("/v1/catalog/service/web")?.ok()?.body;
        if found.contains("node1") { Ok(()) } else { Err(found) }
    });

    // As docs/operating-servers.md tells: the same file in each data directory.
    let peers = servers.all[0].api().get("/v1/operator/raft/configuration");
    let peers = peers.and_then(|answer| answer.ok()).expect("answered").json();
    for server in &mut servers.all {
        server.process.terminate();
        server.relocate();
    }
    let list: Vec<Value> = servers
        .all
        .iter()
        .map(|server| {
            let known = peers["Servers"].as_array().into_iter().flatten();
            let own = known.clone().find(|peer| peer["Node"] == server.name.as_str());
            json!({ "id": own.expect("a peer")["ID"], "address": server.address() })
        })
        .collect();
    for server in &servers.all {
        let file = server.data().join("peers.json");
        std::fs::write(file, json!(list).to_string()).expect("written");
    }
    for server in &mut servers.all {
        server.restart_unready();
    }
    eventually(CLUSTER_LIMIT, "they are a cluster again", || {
        let value = servers.all[2].value("k")?;
        if value == "kept" { Ok(()) } else { Err(value) }
    });
    servers.wait_members(0, 3, 0);

    // The agent's list is of no use, and it says what is to be done.
    let fresh: Vec<String> = servers.all.iter().map(|server| server.address()).collect();
    eventually(CLUSTER_LIMIT, "the agent says what is to be done", || {
        let log = agent.process.log();
        if log.contains("name the new addresses in `servers`") { Ok(()) } else { Err(log) }
    });
    agent.process.terminate();
    agent.set("servers", &json!(fresh));
    agent.restart();
    agent.process.expect_log("");
    agent.register(&json!({ "Name": "api", "Port": 81 }));
    eventually(CLUSTER_LIMIT, "the agent writes at the servers", || {
        let found = servers.all[1].api().get("/v1/catalog/service/api")?.ok()?.body;
        if found.contains("node1") { Ok(()) } else { Err(found) }
    });
}
