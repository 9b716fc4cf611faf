//! Agents and servers are killed while services come and go: what was acknowledged is in the
//! catalog, and nothing else is.
//!
//! `WEFT_KILLS=100` for more kills than in every run; `make kills` does that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use weft_tests::servers::CLUSTER_LIMIT;
use weft_tests::{Answer, Api, Servers, TestAgent, eventually};

/// Kills when nothing else is said.
const KILLS: usize = 8;
/// Writes before a kill, and after it.
const WRITES: usize = 15;
/// Names of services at each host; few, so that they come and go.
const NAMES: usize = 12;

/// What one host was told, write by write, and acknowledged.
#[derive(Default)]
struct Told {
    writes: usize,
    /// The port of each service that is registered.
    services: BTreeMap<String, u16>,
}

impl Told {
    /// Registers a service anew, or takes one away; asks again until it is acknowledged.
    fn write(&mut self, api: &Api) {
        let name = format!("service-{}", self.writes % NAMES);
        let port = u16::try_from(1 + self.writes % 60_000).expect("a port");
        // Every name in turn, with another port each time; every fifth write takes one away.
        let is_gone = self.writes % 5 == 4 && self.services.contains_key(&name);
        eventually(CLUSTER_LIMIT, &format!("a write of {name} is acknowledged"), || {
            let answer = if is_gone {
                api.put(&format!("/v1/agent/service/deregister/{name}"), &json!({}))
            } else {
                let check = json!({ "TTL": "1h", "Status": "passing" });
                let service = json!({ "Name": name, "Port": port, "Check": check });
                api.put("/v1/agent/service/register", &service)
            };
            match answer?.ok() {
                // An attempt without an answer has done it before.
                Err(reason) if is_gone && reason.contains("Unknown service") => Ok(()),
                other => other.map(drop),
            }
        });
        match is_gone {
            true => self.services.remove(&name),
            false => self.services.insert(name, port),
        };
        self.writes += 1;
    }

    /// Waits until the catalog has of a host what was acknowledged, and nothing else.
    fn check(&self, catalog: &Api, node: &str) {
        eventually(CLUSTER_LIMIT, &format!("the catalog is true of {node}"), || {
            let known = catalog.get(&format!("/v1/catalog/node/{node}?consistent"))?.ok()?.json();
            let known: BTreeMap<String, u64> = known["Services"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(id, service)| (id.clone(), service["Port"].as_u64().unwrap_or_default()))
                .collect();
            let wanted: BTreeMap<String, u64> =
                self.services.iter().map(|(name, port)| (name.clone(), u64::from(*port))).collect();
            if known == wanted { Ok(()) } else { Err(format!("{known:?} instead of {wanted:?}")) }
        });
        let checks = catalog.get(&format!("/v1/health/node/{node}")).and_then(Answer::ok);
        let checks = checks.expect("the checks of the host").json();
        let checked: BTreeSet<&str> = checks
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|check| check["ServiceID"].as_str().filter(|id| !id.is_empty()))
            .collect();
        let wanted: BTreeSet<&str> = self.services.keys().map(String::as_str).collect();
        assert_eq!(checked, wanted, "the checks of {node}");
    }
}

/// Kills and restarts something while both hosts are written to.
fn kill_amid_writes(told: &mut [Told; 2], apis: &[Api; 2], kill: impl FnOnce()) {
    let (is_over, done) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 2]);
    std::thread::scope(|scope| {
        for ((told, api), done) in told.iter_mut().zip(apis).zip(&done) {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    told.write(api);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let wait = |count: usize| {
            eventually(CLUSTER_LIMIT, &format!("{count} writes at each host"), || {
                let so_far = done.each_ref().map(|done| done.load(Ordering::Relaxed));
                if so_far.iter().all(|it| *it >= count) {
                    Ok(())
                } else {
                    Err(format!("{so_far:?}"))
                }
            });
        };
        wait(WRITES);
        kill();
        wait(done.iter().map(|done| done.load(Ordering::Relaxed)).max().unwrap_or(0) + WRITES);
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn nothing_acknowledged_is_lost_and_no_ghost_is_left_however_often_something_is_killed() {
    let kills = std::env::var("WEFT_KILLS").ok().and_then(|text| text.parse().ok());
    let mut servers = Servers::start(3);
    servers.wait_members(0, 3, 0);
    let folder = tempfile::tempdir().expect("a folder");
    let token = servers.all[0].data().join("join-token");
    let mut agents = ["host0", "host1"].map(|name| TestAgent::start(folder.path(), name, &token));
    // Whoever stays says what it misses.
    for agent in &mut agents {
        agent.process.expect_log("");
    }
    let apis = [agents[0].api(), agents[1].api()];
    let mut told = <[Told; 2]>::default();
    for kill in 0..kills.unwrap_or(KILLS) {
        // Hosts and servers in turn; of the servers the leader every other time.
        match kill % 4 {
            0 | 2 => {
                let agent = &mut agents[kill / 2 % 2];
                kill_amid_writes(&mut told, &apis, || {
                    agent.process.kill();
                    agent.restart();
                    agent.process.expect_log("");
                });
            }
            turn => {
                let victim = (servers.leader(kill % 3) + usize::from(turn == 1)) % 3;
                let server = &mut servers.all[victim];
                kill_amid_writes(&mut told, &apis, || {
                    server.process.kill();
                    server.restart();
                });
            }
        }
        let catalog = servers.all[kill % 3].api();
        told[0].check(&catalog, "host0");
        told[1].check(&catalog, "host1");
    }
    println!(
        "{} kills amid {} writes: nothing acknowledged lost, no ghost left",
        kills.unwrap_or(KILLS),
        told.iter().map(|told| told.writes).sum::<usize>()
    );
}
