//! A program with SPIFFE's own library: it gets its certificate at the agent's socket, calls a
//! sidecar with it, and is refused where it should be.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::process::Daemon;
use weft_tests::tools::Ran;
use weft_tests::{Cluster, TestAgent, TestServer, eventually, tools};

use crate::story::{called, speaks};

/// Certificates of a minute are renewed after 54 s at the latest.
const RENEWAL_LIMIT: Duration = Duration::from_secs(90);

/// The program, and the socket that it is told.
struct Program {
    path: String,
    socket: String,
    folder: PathBuf,
}

impl Program {
    fn build(source: &str, folder: &Path, socket: &Path) -> Self {
        let path = folder.join("go_spiffe").to_string_lossy().into_owned();
        tools::run_go(&["-C", source, "build", "-o", &path, "."]).ok().expect("it builds");
        let socket = socket.to_string_lossy().into_owned();
        Self { path, socket, folder: folder.to_owned() }
    }

    fn run(&self, order: &str, args: &[&str]) -> Ran {
        tools::run(&self.path, &[&[order, self.socket.as_str()], args].concat())
    }

    fn follow(&self) -> Daemon {
        let mut command = Command::new(&self.path);
        command.args(["follow", &self.socket]);
        Daemon::program("go_spiffe", &self.folder, command)
    }
}

/// The sets of certificates that a follower was told, in their order.
fn told(follower: &Daemon) -> Vec<Value> {
    let log = follower.log();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Where the sidecar of a service listens for its peers.
pub(crate) fn public_door(cluster: &Cluster, service: &str) -> String {
    let path = format!("/v1/health/connect/{service}?passing");
    eventually(SPREAD_LIMIT, "the sidecar stands in the catalog", || {
        let answer = cluster.agent.api().get(&path)?.ok()?;
        let port = answer.json()[0]["Service"]["Port"].as_u64();
        let port = port.and_then(|port| u16::try_from(port).ok()).ok_or(answer.body)?;
        Ok(SocketAddr::from(([127, 0, 0, 1], port)).to_string())
    })
}

#[test]
fn a_program_with_spiffes_library_lives_in_the_mesh() {
    const TEST: &str = "a_program_with_spiffes_library_lives_in_the_mesh";
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/go_spiffe");
    if !tools::have_go_modules(TEST, source) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let uid = folder.path().metadata().expect("this process made it").uid();
    let socket = folder.path().join("workload.sock");
    let server = TestServer::start_with(folder.path(), &json!({ "leaf_lifetime": "60s" }));
    let entries = |of_web: u32| {
        json!({ "workload_api": { "socket": socket, "entry": [
            { "service": "web", "uid": of_web },
            { "service": "db", "uid": uid, "unit": "db.service" },
        ] } })
    };
    let agent =
        TestAgent::start_with(folder.path(), "node1", &server.join_token_file(), &entries(uid));
    let mut cluster = Cluster { agent, server, folder };
    let program = Program::build(source, cluster.folder.path(), &socket);
    speaks(&cluster, "api", "http");
    for service in ["web", "db"] {
        cluster.agent.register(&json!({ "ID": service, "Name": service, "Port": 9001 }));
    }
    let mut api = called(&cluster, "api-1", "api", "v1");
    // Who is denied is worth a warning.
    api.proxy.process.expect_log("");
    cluster.agent.intend("web", "api", "allow");

    // It gets the certificate of the service that is its own, and only that one.
    let follower = program.follow();
    let first = eventually(SPREAD_LIMIT, "the first certificate is there", || {
        told(&follower).first().cloned().ok_or_else(|| follower.log())
    });
    let all = first.as_array().expect("a list");
    let id = all[0]["ID"].as_str().expect("a text");
    assert!(all.len() == 1 && id.ends_with("/ns/default/dc/dc1/svc/web"), "{first}");
    assert!(all[0]["Chain"].as_u64() >= Some(2) && all[0]["Hint"] == "web", "{first}");
    let roots = program.run("bundles", &[]).ok().expect("the roots");
    assert!(roots.contains("has 1 roots"), "{roots}");

    calls_a_sidecar_while_it_may(&cluster, &program, id);

    // The renewal comes by itself.
    let second = eventually(RENEWAL_LIMIT, "the certificate is renewed", || {
        told(&follower).get(1).cloned().ok_or_else(|| follower.log())
    });
    assert_eq!(second[0]["ID"], first[0]["ID"]);
    assert_ne!(second[0]["Serial"], first[0]["Serial"]);

    // The same program is nobody once the service is another user's.
    drop(follower);
    cluster.agent.process.terminate();
    cluster.agent.set("workload_api", &entries(uid + 1)["workload_api"]);
    cluster.agent.restart();
    let refused = program.run("bundles", &[]).ok().expect_err("another user's");
    let seen = format!("workload_api matches this process: uid {uid}, gid ");
    assert!(refused.contains("PermissionDenied") && refused.contains(&seen), "{refused}");
}

fn calls_a_sidecar_while_it_may(cluster: &Cluster, program: &Program, id: &str) {
    let (door, peer) = (public_door(cluster, "api"), id.replace("/svc/web", "/svc/api"));
    eventually(SPREAD_LIMIT, "the sidecar lets it in", || {
        let said = program.run("call", &[&door, &peer]).ok()?;
        if said.starts_with("200 ") && said.contains("api-1") { Ok(()) } else { Err(said) }
    });
    let other = id.replace("/svc/web", "/svc/db");
    program.run("call", &[&door, &other]).ok().expect_err("the peer is not who was asked for");
    cluster.agent.intend("web", "api", "deny");
    eventually(SPREAD_LIMIT, "the sidecar refuses it", || {
        match program.run("call", &[&door, &peer]).ok() {
            Ok(said) if said.starts_with("200 ") => Err(said),
            Ok(_) | Err(_) => Ok(()),
        }
    });
}
