//! Values above a mebibyte, where the limits allow them: through an agent, the log, snapshots and
//! back.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use weft_tests::servers::CLUSTER_LIMIT;
use weft_tests::{Api, Servers, TestAgent, eventually};

/// 4 MiB but for one byte, so that its base64 has no end of its own.
const LENGTH: usize = (4 << 20) - 1;

/// Letters in no order that a compressor finds.
fn letters(count: usize) -> String {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 28) as u8)
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn values_of_four_mebibytes_are_written_replicated_and_restored() {
    let limits = json!({ "limits": { "kv_max_value_size": 4 << 20, "txn_max_req_len": 6 << 20 } });
    let mut servers = Servers::start_with(3, &limits);
    servers.wait_members(0, 3, 0);
    let token = servers.all[0].data().join("join-token");
    let mut agent = TestAgent::start(servers.folder.path(), "node1", &token);
    agent.process.expect_log("");
    let api = agent.api();

    // Through the agent and whichever server it has, to the leader and to all.
    let value = letters(LENGTH);
    let base64 = STANDARD.encode(&value);
    let written = api.request("PUT", "/v1/kv/large", &[], &value).expect("an answer");
    assert_eq!((written.status, written.body.trim()), (200, "true"), "{}", written.body);
    for server in &servers.all {
        let path = "/v1/kv/large?raw&consistent";
        let read = server.api().get(path).and_then(|answer| answer.ok()).expect("an answer");
        assert!(read.body == value, "{} has {} bytes", server.name, read.body.len());
    }
    let read = api.get("/v1/kv/large").and_then(|answer| answer.ok()).expect("an answer");
    assert!(read.json()[0]["Value"] == base64.as_str(), "{} bytes", read.body.len());

    // One byte more than may be, alone and in a transaction.
    let longer = format!("{value}..");
    for (path, body) in [
        ("/v1/kv/longer", longer.clone()),
        ("/v1/txn", format!(r#"[{{"KV":{{"Verb":"set","Key":"l","Value":"{base64}Li4="}}}}]"#)),
    ] {
        let refused = api.request("PUT", path, &[], &body).expect("an answer");
        assert_eq!(refused.status, 413, "{path}: {}", refused.body);
        assert!(refused.body.contains("max size: 4194304 bytes"), "{path}: {}", refused.body);
    }

    // In one transaction: what is too much together, and what is not.
    let op = |key: &str, value: &str| {
        format!(r#"{{"KV":{{"Verb":"set","Key":"{key}","Value":"{value}"}}}}"#)
    };
    let part = |sixteenths: usize| op("t/2", &base64[..base64.len() / 64 * 4 * sixteenths]);
    let first = op("t/1", &base64);
    let done = api.request("PUT", "/v1/txn", &[], &format!("[{first},{}]", part(4)));
    let done = done.and_then(|answer| answer.ok()).expect("they fit together");
    assert_eq!(done.json()["Results"].as_array().map(Vec::len), Some(2));
    for (second, said) in [(part(9), "max size: 6291456 bytes"), (part(16), "too large")] {
        let refused = api.request("PUT", "/v1/txn", &[], &format!("[{first},{second}]"));
        let refused = refused.expect("an answer");
        assert_eq!(refused.status, 413, "{}", refused.body);
        assert!(refused.body.contains(said), "{}", refused.body);
    }

    catches_up(&mut servers, &value);
    goes_out_and_comes_back(&servers, api, &value);
}

/// A server that was away gets what was written meanwhile.
fn catches_up(servers: &mut Servers, value: &str) {
    servers.all[2].process.kill();
    for number in 0..4 {
        servers.all[0].put(&format!("away/{number}"), value).expect("two of three write");
    }
    servers.all[2].restart();
    eventually(CLUSTER_LIMIT, "it has caught up", || {
        for number in 0..4 {
            let path = format!("/v1/kv/away/{number}?raw&stale");
            let read = servers.all[2].api().get(&path)?.ok()?;
            if read.body != value {
                return Err(format!("{number} has {} bytes", read.body.len()));
            }
        }
        Ok(())
    });
}

/// A snapshot of many pieces is saved and restored through an agent.
fn goes_out_and_comes_back(servers: &Servers, api: Api, value: &str) {
    let saved = servers.folder.path().join("saved");
    let addr = api.addr().to_string();
    let snapshot = |what: &str| {
        let file = saved.to_string_lossy();
        let args = ["snapshot", what, &file, "--http-addr", &addr];
        let outcome = weft_tests::process::run_weft(&args, CLUSTER_LIMIT);
        assert_eq!(outcome.code, Some(0), "{what}: {}", outcome.output);
    };
    snapshot("save");
    assert!(fs::metadata(&saved).is_ok_and(|file| file.len() > 8 << 20), "it has all of them");
    let gone = api.request("DELETE", "/v1/kv/?recurse", &[], "");
    gone.and_then(|answer| answer.ok()).expect("all is deleted");
    snapshot("restore");
    for server in &servers.all {
        eventually(CLUSTER_LIMIT, "all is back", || {
            let read = server.api().get("/v1/kv/away/3?raw&stale")?.ok()?;
            if read.body == value { Ok(()) } else { Err(format!("{} bytes", read.body.len())) }
        });
    }
}
