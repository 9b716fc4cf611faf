//! Keys, sessions and locks by our commands, and by a client library that nobody here wrote.

use std::fs;
use std::process::Command;
use std::time::Duration;

use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::process::{Daemon, Outcome, run_weft, weft};
use weft_tests::{Cluster, eventually, tools};

const LIMIT: Duration = Duration::from_secs(30);

/// A cluster whose agent's node is known, so that sessions can be made on it.
fn cluster() -> Cluster {
    let cluster = Cluster::start();
    eventually(SPREAD_LIMIT, "the agent's node is in the catalog", || {
        let nodes = cluster.agent.api().get("/v1/catalog/nodes")?.json();
        if nodes.as_array().is_some_and(|nodes| !nodes.is_empty()) {
            return Ok(());
        }
        Err(nodes.to_string())
    });
    cluster
}

fn prints(daemon: &Daemon, text: &str) {
    eventually(LIMIT, &format!("{text:?} is printed"), || {
        let log = daemon.log();
        if log.contains(text) { Ok(()) } else { Err(log) }
    });
}

#[test]
fn a_python_client_of_consul_works_unchanged() {
    if !tools::have_module("a_python_client_of_consul_works_unchanged", "consul.api.config") {
        return;
    }
    let cluster = cluster();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/py_consul.py");
    let port = cluster.agent.api().addr().port().to_string();
    let said = tools::run("python3", &[script, &port]).ok().expect("the script agrees");
    assert!(said.contains("py-consul agrees"), "{said}");
}

#[test]
fn keys_are_written_read_moved_and_removed_by_command() {
    let cluster = cluster();
    let addr = cluster.agent.api().addr().to_string();
    let kv = |args: &[&str]| -> Outcome {
        run_weft(&[&["kv"][..], args, &["--http-addr", &addr]].concat(), LIMIT)
    };
    let says = |args: &[&str], code: i32, text: &str| {
        let outcome = kv(args);
        assert_eq!(outcome.code, Some(code), "{args:?}: {}", outcome.output);
        assert!(outcome.output.contains(text), "{args:?}: {}", outcome.output);
    };
    says(&["put", "app/a", "1", "--flags", "7"], 0, "Success! Data written to: app/a");
    says(&["put", "/app/b", "-x"], 0, "Success!");
    says(&["get", "app/a"], 0, "1\n");
    says(&["get", "app/a", "--detailed"], 0, "Flags");
    says(&["get", "--recurse", "app/"], 0, "app/a:1\napp/b:-x\n");
    says(&["get", "--keys", ""], 0, "app/\n");
    says(&["get", "none"], 1, "no key exists at: none");
    says(&["put", "--cas", "--modify-index", "1", "app/a", "2"], 1, "another index");
    let exported = kv(&["export", "app/"]);
    let file = cluster.folder.path().join("exported.json");
    fs::write(&file, &exported.output).expect("a temporary folder can be written");
    says(&["delete", "--recurse", "app/"], 0, "Success! Deleted keys with prefix: app/");
    says(&["get", "--recurse", "app/"], 0, "");
    let from = format!("@{}", file.display());
    says(&["import", "--prefix", "copy/", &from], 0, "Imported: copy/app/a");
    says(&["get", "--base64", "copy/app/b"], 0, "LXg=");
}

#[test]
fn a_lock_is_held_by_one_and_lost_with_its_session() {
    let cluster = cluster();
    let folder = cluster.folder.path();
    let addr = cluster.agent.api().addr().to_string();
    let lock = |name: &str, program: &str| {
        let mut command = Command::new(weft());
        command.args(["lock", "--http-addr", &addr, "jobs/one", program]);
        Daemon::program(name, folder, command)
    };
    let mut first = lock("first", "echo held by first; exec sleep 600");
    prints(&first, "held by first");
    let refused = ["lock", "--http-addr", &addr, "--try", "300ms", "jobs/one", "true"];
    let refused = run_weft(&refused, LIMIT);
    assert_eq!(refused.code, Some(1), "{}", refused.output);
    assert!(refused.output.contains("was not free within"), "{}", refused.output);

    let second = lock("second", "echo held by second");
    let api = cluster.agent.api();
    let key = api.get("/v1/kv/jobs/one/.lock").expect("an answer").json();
    let session = key[0]["Session"].as_str().expect("it is held").to_owned();
    assert_eq!(key[0]["Flags"], 3_304_740_253_564_472_344_u64);
    // Given back properly, it goes to the next at once.
    first.terminate();
    prints(&second, "held by second");
    let gone = api.get(&format!("/v1/session/info/{session}")).expect("an answer").json();
    assert_eq!(gone, serde_json::json!([]));
}

#[test]
fn a_watch_hands_over_each_change() {
    let cluster = cluster();
    let addr = cluster.agent.api().addr().to_string();
    let mut command = Command::new(weft());
    command.args(["watch", "--http-addr", &addr, "--type", "key", "--key", "a", "cat; echo"]);
    let watch = Daemon::program("watch", cluster.folder.path(), command);
    prints(&watch, "null");
    let put = run_weft(&["kv", "put", "--http-addr", &addr, "a", "new"], LIMIT);
    assert_eq!(put.code, Some(0), "{}", put.output);
    prints(&watch, "bmV3");
    let fired = ["event", "--http-addr", &addr, "--name", "deploy", "now"];
    assert_eq!(run_weft(&fired, LIMIT).code, Some(0));
    let watched = ["watch", "--http-addr", &addr, "--type", "event", "--name", "deploy"];
    let shown = run_weft(&watched, LIMIT);
    assert!(shown.output.contains("\"Payload\": \"bm93\""), "{}", shown.output);
}
