//! Bad input: one clear message that names the field or the file and what to do, a non-zero exit
//! or the right status, and nothing changed.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::ports::free_port;
use weft_tests::process::{Outcome, run_weft};
use weft_tests::{Cluster, TestServer};

/// A refusal comes at once; the limit is for a busy machine.
const REFUSAL_LIMIT: Duration = Duration::from_secs(20);

/// Runs `weft` and asserts that it fails with a message that names all of `names`.
fn refused(args: &[&str], names: &[&str]) -> Outcome {
    let outcome = run_weft(args, REFUSAL_LIMIT);
    let shown = &outcome.output;
    assert!(
        outcome.code.is_some_and(|code| code != 0),
        "{args:?} ended {:?}:\n{shown}",
        outcome.code
    );
    assert!(!shown.contains("panicked"), "{args:?} panicked:\n{shown}");
    for name in names {
        assert!(shown.contains(name), "{args:?} does not name {name:?}:\n{shown}");
    }
    outcome
}

/// Writes a configuration file and returns its path.
fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a temporary folder can be written");
    path.to_string_lossy().into_owned()
}

#[test]
fn unknown_fields_of_a_config_file_are_named_with_a_suggestion_all_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = file(&folder, "agent.json", r#"{"node_nam": "a", "dns": {"adr": "127.0.0.1:1"}}"#);
    refused(&["agent", "--config", &path], &["agent.json", "node_nam", "node_name", "adr", "addr"]);
    let path = file(&folder, "server.hcl", "data_dri = \"/nowhere\"\n");
    refused(&["server", "--config", &path], &["server.hcl", "data_dri", "data_dir"]);
}

#[test]
fn a_config_file_that_cannot_be_read_or_parsed_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    refused(&["agent", "--config", "/nowhere/agent.hcl"], &["/nowhere/agent.hcl"]);
    let path = file(&folder, "broken.json", "{\"node_name\": ");
    refused(&["agent", "--config", &path], &["broken.json"]);
    let path = file(&folder, "broken.hcl", "node_name = = 1\n");
    refused(&["server", "--config", &path], &["broken.hcl", "1"]);
}

#[test]
fn wrong_values_are_named_by_their_field() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let text = json!({
        "data_dir": data, "node_name": "not a name!", "http": { "addr": "nonsense" },
    });
    let path = file(&folder, "agent.json", &text.to_string());
    refused(&["agent", "--config", &path], &["node_name", "http.addr"]);
    assert!(!data.exists(), "a refused start changes nothing");
}

#[test]
fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
    let addr = taken.local_addr().expect("a bound socket has an address").to_string();
    let data = folder.path().join("data");
    let text = json!({ "data_dir": data, "bind_addr": addr, "advertise_addr": addr });
    let path = file(&folder, "server.json", &text.to_string());
    refused(&["server", "--config", &path], &[&addr, "in use"]);
}

#[test]
fn a_join_token_that_is_none_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let data_arg = data.to_string_lossy().into_owned();
    let args = ["agent", "--data-dir", &data_arg, "--join", "weft1-nonsense"];
    refused(&args, &["join"]);
    refused(&["agent", "--data-dir", &data_arg], &["--join"]);
}

#[test]
fn a_proxy_for_an_unregistered_service_names_it() {
    let cluster = Cluster::start();
    let api = cluster.agent.api().addr().to_string();
    let args = ["proxy", "--sidecar-for", "nobody", "--http-addr", &api, "--start-limit", "5s"];
    refused(&args, &["nobody", "regist", "within 5 s"]);
}

#[test]
fn a_proxy_without_an_agent_names_the_address() {
    let addr = format!("127.0.0.1:{}", free_port());
    let args = ["proxy", "--sidecar-for", "web", "--http-addr", &addr, "--start-limit", "1s"];
    refused(&args, &[&addr]);
}

#[test]
fn an_agent_that_reaches_no_server_says_where_it_looked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = TestServer::start(folder.path());
    let addr = server.process.ready_field("rpc");
    server.process.kill();
    let data = folder.path().join("agent").to_string_lossy().into_owned();
    let token = server.join_token_file().to_string_lossy().into_owned();
    let args = ["agent", "--data-dir", &data, "--join-token-file", &token];
    // It looks for as long as a server that starts at the same time may take.
    let outcome = run_weft(&args, 3 * REFUSAL_LIMIT);
    assert!(outcome.code.is_some_and(|code| code != 0), "{outcome:?}");
    let last = outcome.output.lines().last().unwrap_or_default();
    assert!(last.contains(&addr) && last.contains("can be reached"), "{last}");
}

#[test]
fn an_agent_refuses_the_data_directory_of_another_cluster() {
    let mut cluster = Cluster::start();
    cluster.agent.process.terminate();
    let other_folder = tempfile::tempdir().expect("a temporary folder");
    let other = TestServer::start(other_folder.path());
    let data = cluster.folder.path().join("node1").to_string_lossy().into_owned();
    let text = json!({
        "node_name": "node1", "data_dir": data, "join_token_file": other.join_token_file(),
        "http": { "addr": "127.0.0.1:0" }, "dns": { "addr": "127.0.0.1:0" },
        "bind_addr": "127.0.0.1", "advertise_addr": "127.0.0.1",
    });
    let path = file(&other_folder, "agent.json", &text.to_string());
    refused(&["agent", "--config", &path], &[&data, "belongs to cluster"]);
}

#[test]
fn http_requests_that_make_no_sense_get_their_status_and_change_nothing() {
    let cluster = Cluster::start();
    let api = cluster.agent.api();
    let before = api.get("/v1/agent/services").expect("an answer").json();
    let register = "/v1/agent/service/register";
    let long_name = "x".repeat(5_000);
    let cases: [(&str, &str, &str, u16, &str); 11] = [
        ("PUT", register, "{\"Name\": ", 400, ""),
        ("PUT", register, "[]", 400, ""),
        ("PUT", register, "{}", 400, "Name"),
        ("PUT", register, r#"{"Name": "web", "Port": "eighty"}"#, 400, "Port"),
        ("PUT", register, r#"{"Name": "web", "Port": 70000}"#, 400, "Port"),
        ("PUT", register, &format!(r#"{{"Name": "{long_name}"}}"#), 400, "Name"),
        ("POST", "/v1/catalog/services", "", 405, ""),
        ("GET", "/v1/no/such/page", "", 404, ""),
        ("PUT", "/v1/agent/service/deregister/nobody", "", 404, "nobody"),
        (
            "PUT",
            "/v1/config",
            r#"{"Kind": "service-defalts", "Name": "a"}"#,
            400,
            "service-defaults",
        ),
        (
            "PUT",
            "/v1/config",
            r#"{"Kind": "service-defaults", "Name": "a", "Protokol": "x"}"#,
            400,
            "Protocol",
        ),
    ];
    for (method, path, body, status, names) in cases {
        let answer = api.request(method, path, &[], body).expect("an answer");
        assert_eq!(answer.status, status, "{method} {path} {body:.60}: {}", answer.body);
        assert!(
            answer.body.contains(names),
            "{method} {path} does not name {names}: {}",
            answer.body
        );
        assert!(answer.body.len() < 2_000, "a clear message is short");
    }
    let after: Value = api.get("/v1/agent/services").expect("an answer").json();
    assert_eq!(after, before);
}

#[test]
fn a_chain_that_cannot_work_is_refused_where_it_is_written() {
    let cluster = Cluster::start();
    let api = cluster.agent.api();
    let splitter = json!({
        "Kind": "service-splitter", "Name": "web", "Splits": [{ "Weight": 50 }, { "Weight": 20 }],
    });
    let answer = api.put("/v1/config", &splitter).expect("an answer");
    assert_eq!(answer.status, 400, "weights that do not add up: {}", answer.body);
    assert!(answer.body.contains("100"), "{}", answer.body);
    let absent = api.get("/v1/config/service-splitter/web").expect("an answer");
    assert_eq!(absent.status, 404, "{}", absent.body);
}
