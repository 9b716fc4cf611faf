//! The whole state is saved and restored by a command, and a full disk costs no write.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::{TestAgent, TestServer};
use weft_tests::process::{Outcome, run_weft};
use weft_tests::{Answer, Api, Cluster, eventually};

const LIMIT: Duration = Duration::from_secs(60);

fn put(api: &Api, key: &str, value: &str) -> Answer {
    api.request("PUT", &format!("/v1/kv/{key}"), &[], value).expect("an answer")
}

fn snapshot(api: &Api, args: &[&str]) -> Outcome {
    let addr = api.addr().to_string();
    run_weft(&[&["snapshot"], args, &["--http-addr", &addr]].concat(), LIMIT)
}

fn path_in(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

#[test]
fn the_state_is_saved_inspected_and_restored_through_an_agent() {
    let cluster = Cluster::start();
    let api = cluster.agent.api();
    // More than one request of the API may have.
    for key in ["a", "b", "c"] {
        assert_eq!(put(&api, key, &"v".repeat(500_000)).status, 200);
    }
    let file = path_in(cluster.folder.path(), "backup.snap");
    let saved = snapshot(&api, &["save", &file]);
    assert_eq!(saved.code, Some(0), "{}", saved.output);
    assert!(saved.output.contains("Saved and verified snapshot to index"), "{}", saved.output);
    let inspected = run_weft(&["snapshot", "inspect", "--json", &file], LIMIT);
    let info: Value = serde_json::from_str(&inspected.output).expect("JSON");
    assert!(info["Size"].as_u64() > Some(1_500_000), "{info}");
    assert_eq!(info["Digest"].as_str().map(str::len), Some(64), "{info}");

    assert_eq!(put(&api, "late", "1").status, 200);
    let damaged = path_in(cluster.folder.path(), "damaged.snap");
    let mut bytes = fs::read(&file).expect("saved");
    bytes[1000] ^= 1;
    fs::write(&damaged, &bytes).expect("written");
    let refused = snapshot(&api, &["restore", &damaged]);
    assert_eq!(refused.code, Some(1), "{}", refused.output);
    assert!(refused.output.contains("checksum is wrong"), "{}", refused.output);
    assert_eq!(api.get("/v1/kv/late?raw").expect("an answer").status, 200);

    let restored = snapshot(&api, &["restore", &file]);
    assert_eq!(restored.code, Some(0), "{}", restored.output);
    assert_eq!(api.get("/v1/kv/late?raw").expect("an answer").status, 404);
    assert_eq!(api.get("/v1/kv/b?raw").expect("an answer").body.len(), 500_000);
}

/// A small file system in memory.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, options: &str) -> Result<Self, String> {
        fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "weft-test"]).arg(at);
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(Self(at.to_owned()));
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // What still runs there ends with the test; the mount goes when it has.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_writes_are_refused_until_there_is_room_and_none_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = match Small::mount(&folder.path().join("small"), "size=128m") {
        Ok(small) => small,
        Err(reason) => {
            eprintln!("SKIPPED full disk: no file system can be mounted here: {reason}");
            return;
        }
    };
    let settings = json!({ "storage": { "disk_reserve_bytes": 8 << 20 } });
    let mut server = TestServer::start_with(&small.0, &settings);
    let mut agent = TestAgent::start(folder.path(), "node1", &server.join_token_file());
    // It says that the server is away for a moment.
    agent.process.expect_log("");
    let api = agent.api();
    assert_eq!(put(&api, "before", "1").status, 200);

    server.process.expect_log("the disk is nearly full");
    let filler = small.0.join("filler");
    let fill = Command::new("dd")
        .args(["if=/dev/zero", "bs=1M", &format!("of={}", filler.display())])
        .output()
        .expect("dd is there");
    assert!(!fill.status.success(), "the disk is full now");
    let mut acknowledged = Vec::new();
    let refused = eventually(LIMIT, "a write is refused", || {
        let key = format!("k{}", acknowledged.len());
        let answer = put(&api, &key, "1");
        if answer.status == 200 {
            acknowledged.push(key);
            return Err("it was taken".to_owned());
        }
        Ok(answer)
    });
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.body.contains("nearly full"), "{refused:?}");
    assert_eq!(api.get("/v1/kv/before?raw").expect("an answer").status, 200, "reads go on");

    fs::remove_file(&filler).expect("there is room again");
    eventually(LIMIT, "writes are taken again", || {
        let answer = put(&api, "after", "1");
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    server.process.kill();
    server.restart();
    server.process.expect_log("the disk is nearly full");
    acknowledged.extend(["before".to_owned(), "after".to_owned()]);
    for key in acknowledged {
        eventually(LIMIT, "what was acknowledged is there", || {
            let answer = api.get(&format!("/v1/kv/{key}?raw"))?;
            if answer.status == 200 { Ok(()) } else { Err(format!("{key}: {answer:?}")) }
        });
    }
    drop(agent);
    drop(server);
}
