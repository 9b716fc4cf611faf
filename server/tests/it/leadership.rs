//! Leadership among three servers: handed over, kept through a partition, taken from a server
//! that was removed.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{LIMIT, TestHost, TestServer, config};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use weft_core::ca::MemberRole;
use weft_core::time::Span;
use weft_server::config::{FileConfig, LimitsSection};

/// A started cluster of three, and a host that calls it.
struct Three {
    servers: Vec<TestServer>,
    host: TestHost,
    _dirs: Vec<tempfile::TempDir>,
}

impl Three {
    async fn start() -> Self {
        Self::start_with(LimitsSection::default()).await
    }

    async fn start_with(limits: LimitsSection) -> Self {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
        let file = FileConfig { limits: limits.clone(), ..config(dirs[0].path(), "s1") };
        let mut servers = vec![TestServer::start_with(file).await];
        for (dir, node) in dirs[1..].iter().zip(["s2", "s3"]) {
            let token = servers[0].handle.mint_single_join_token(MemberRole::Server).await;
            let join = Some(token.expect("a token").to_string());
            let file = FileConfig { join, limits: limits.clone(), ..config(dir.path(), node) };
            servers.push(TestServer::start_with(file).await);
        }
        let host = TestHost::join(&servers[0], "n1").await;
        Self { servers, host, _dirs: dirs }
    }

    async fn get(&self, at: usize, path: &str) -> (StatusCode, Value) {
        let answer = self.host.call(Method::GET, &self.servers[at], path, "").await;
        (answer.status, answer.json().unwrap_or(Value::Null))
    }

    /// The address of the leader as a server knows it; empty for none.
    async fn leader(&self, at: usize) -> String {
        let (_, leader) = self.get(at, "/v1/status/leader").await;
        leader.as_str().unwrap_or_default().to_owned()
    }

    async fn until(&self, what: &str, mut condition: impl AsyncFnMut(&Self) -> bool) {
        let waited = tokio::time::timeout(LIMIT, async {
            while !condition(self).await {
                tokio::task::yield_now().await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    async fn write(&self, at: usize, name: &str) -> StatusCode {
        let body = json!({ "Kind": "service-defaults", "Name": name, "Protocol": "http" });
        let to = &self.servers[at];
        self.host.call(Method::PUT, to, "/v1/config", &body.to_string()).await.status
    }

    /// Parts one server from the others, both ways.
    fn part(&self, at: usize) {
        for (index, server) in self.servers.iter().enumerate() {
            let others = self.servers.iter().enumerate();
            let cut = others.filter(|(other, _)| (*other == at) != (index == at));
            server.handle.cut_off(cut.map(|(_, other)| other.address()).collect());
        }
    }

    fn heal(&self) {
        for server in &self.servers {
            server.handle.cut_off(BTreeSet::new());
        }
    }

    /// The newest term of any server, as the leader's autopilot tells it: one that did not answer
    /// its last look is told without a term.
    async fn term(&self, at: usize) -> u64 {
        let (_, health) = self.get(at, "/v1/operator/autopilot/health").await;
        let servers = health["Servers"].as_array().expect("servers");
        servers.iter().filter_map(|server| server["LastTerm"].as_u64()).max().unwrap_or_default()
    }

    async fn stop(self) {
        for server in self.servers {
            server.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_goes_where_it_is_sent_and_no_write_fails() {
    let three = Three::start().await;
    let (_, configuration) = three.get(1, "/v1/operator/raft/configuration").await;
    let servers = configuration["Servers"].as_array().expect("servers").clone();
    assert_eq!(servers.len(), 3);
    assert!(servers.iter().all(|server| server["Voter"] == true), "{servers:?}");
    let target = servers.iter().find(|server| server["Node"] == "s3").expect("s3");
    let path =
        format!("/v1/operator/raft/transfer-leader?id={}", target["ID"].as_str().expect("an id"));
    // Writes through every server while it moves.
    let writes = async {
        for number in 0..30 {
            let status = three.write(number % 3, &format!("w{number}")).await;
            assert_eq!(status, StatusCode::OK, "write {number}");
        }
    };
    let moved = async {
        // Asked of a follower, which passes it on.
        let answer = three.host.call(Method::PUT, &three.servers[1], &path, "").await;
        assert_eq!(
            (answer.status, answer.text()),
            (StatusCode::OK, r#"{"Success":true}"#.to_owned())
        );
    };
    futures::join!(writes, moved);
    let third = three.servers[2].address();
    three.until("all follow the third", async |three| three.leader(0).await == third).await;
    for number in 0..30 {
        let (status, _) = three.get(0, &format!("/v1/config/service-defaults/w{number}")).await;
        assert_eq!(status, StatusCode::OK, "w{number}");
    }
    // A leader that is told to end hands over first.
    three.servers[2].handle.hand_over().await;
    three
        .until("another leads", async |three| {
            let leader = three.leader(0).await;
            !leader.is_empty() && leader != third
        })
        .await;
    let unknown = "/v1/operator/raft/transfer-leader?id=1";
    let answer = three.host.call(Method::PUT, &three.servers[0], unknown, "").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_from_a_partition_deposes_nobody() {
    let three = Three::start().await;
    assert_eq!(three.write(0, "before").await, StatusCode::OK);
    let (leader, term) = (three.leader(0).await, three.term(0).await);
    three.part(2);
    three.until("it knows no leader", async |three| three.leader(2).await.is_empty()).await;
    // Longer than it takes to stand for election, several times: writes pass the time.
    let parted = std::time::Instant::now();
    while parted.elapsed() < Duration::from_secs(4) {
        assert_eq!(three.write(1, "passing").await, StatusCode::OK);
    }
    assert_eq!(three.write(0, "meanwhile").await, StatusCode::OK);
    three.heal();
    three.until("it is back", async |three| three.leader(2).await == leader).await;
    assert_eq!(three.write(2, "after").await, StatusCode::OK);
    assert_eq!((three.leader(0).await, three.term(0).await), (leader, term));
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_neither_reads_nor_writes_and_another_takes_over() {
    let three = Three::start().await;
    assert_eq!(three.write(1, "before").await, StatusCode::OK);
    let old = three.leader(0).await;
    let at = three.servers.iter().position(|server| server.address() == old).expect("known");
    let other = (at + 1) % 3;
    three.part(at);
    three
        .until("another leads", async |three| {
            let leader = three.leader(other).await;
            !leader.is_empty() && leader != old
        })
        .await;
    assert_eq!(three.write(other, "meanwhile").await, StatusCode::OK);
    // The old one must not answer from what it had: its lease is over.
    let (status, _) = three.get(at, "/v1/config/service-defaults/before").await;
    assert!(status.is_server_error(), "{status}");
    // Stale it answers on, and says before long that it knows of no leader, itself included.
    three
        .until("it says that it knows no leader", async |three| {
            let path = "/v1/config/service-defaults/before?stale";
            let answer = three.host.call(Method::GET, &three.servers[at], path, "").await;
            assert_eq!(answer.status, StatusCode::OK);
            answer.headers["x-consul-knownleader"].to_str().ok() == Some("false")
        })
        .await;
    three.heal();
    three.until("it follows", async |three| !three.leader(at).await.is_empty()).await;
    let (status, _) = three.get(at, "/v1/config/service-defaults/meanwhile").await;
    assert_eq!(status, StatusCode::OK);
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_removed_learns_it_and_ends() {
    let three = Three::start().await;
    let address = three.servers[2].address();
    let path = format!("/v1/operator/raft/peer?address={address}");
    let answer = three.host.call(Method::DELETE, &three.servers[1], &path, "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let (_, configuration) = three.get(0, "/v1/operator/raft/configuration").await;
    assert_eq!(configuration["Servers"].as_array().map(Vec::len), Some(2));
    let ended = tokio::time::timeout(LIMIT, three.servers[2].ended());
    ended.await.expect("the removed server ends by itself");
    let again = three.host.call(Method::DELETE, &three.servers[1], &path, "").await;
    assert!(again.text().contains("was not found in the Raft configuration"), "{}", again.text());
    // With one of two gone there would be no majority left to agree: refused.
    assert_eq!(three.write(0, "goes-on").await, StatusCode::OK);
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_outlive_their_leader_by_their_whole_time_and_no_more() {
    let ttl = Duration::from_secs(1);
    let limits = LimitsSection { session_ttl_min: Some(Span(ttl)), ..LimitsSection::default() };
    let three = Three::start_with(limits).await;
    let node = json!({ "Node": "ext", "Address": "10.0.0.9" }).to_string();
    let call = async |at: usize, path: &str, body: &str| {
        let answer = three.host.call(Method::PUT, &three.servers[at], path, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json::<Value>().unwrap_or_default()
    };
    call(0, "/v1/catalog/register", &node).await;
    let create = json!({ "Node": "ext", "NodeChecks": [], "TTL": "1s" }).to_string();
    let made = call(0, "/v1/session/create", &create).await;
    let id = made["ID"].as_str().expect("an id").to_owned();
    let there = async |three: &Three, at: usize| {
        let (_, found) = three.get(at, &format!("/v1/session/info/{id}")).await;
        found != json!([])
    };
    // The leader goes three times, each within the time that it would have given.
    for _ in 0..3 {
        let leader = three.leader(0).await;
        let at = three.servers.iter().position(|it| it.address() == leader).expect("one leads");
        three.servers[at].handle.hand_over().await;
        let moved = async |three: &Three| {
            let now = three.leader(0).await;
            !now.is_empty() && now != leader
        };
        three.until("another leads", moved).await;
        assert!(there(&three, 1).await, "it was ended early");
        call(2, &format!("/v1/session/renew/{id}"), "").await;
    }
    let renewed = std::time::Instant::now();
    three.until("it ends", async |three| !there(three, 1).await).await;
    assert!(renewed.elapsed() > ttl, "{:?}", renewed.elapsed());
    three.stop().await;
}
