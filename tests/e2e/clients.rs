//! Clients of Consul that nobody here wrote, unchanged, against three servers with ACLs and an
//! agent; and answers in gzip as common programs read them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::process::Daemon;
use weft_tests::{Cluster, Servers, TestAgent, eventually, tools};

/// What a client does in all takes seconds.
const CLIENT_LIMIT: Duration = Duration::from_secs(180);

/// Three servers with ACLs, an agent, and a token that may do everything.
struct Estate {
    agent: TestAgent,
    servers: Servers,
    token: String,
}

impl Estate {
    fn start() -> Self {
        let servers = Servers::start_with(3, &json!({ "acl": { "enabled": true } }));
        let join = servers.all[0].data().join("join-token");
        let mut agent = TestAgent::start(servers.folder.path(), "node1", &join);
        // Clients try what is refused, which may be warned of.
        agent.process.expect_log("");
        let made = servers.all[0].api().put("/v1/acl/bootstrap", &json!({}));
        let made = made.and_then(|answer| answer.ok()).expect("the first token").json();
        let token = made["SecretID"].as_str().expect("a secret").to_owned();
        let estate = Self { agent, servers, token };
        eventually(SPREAD_LIMIT, "the agent's node is known, and three servers vote", || {
            let headers = [("x-consul-token", estate.token.as_str())];
            let ask = |path: &str| estate.agent.api().request("GET", path, &headers, "")?.ok();
            let node = ask("/v1/health/node/node1")?;
            let raft = ask("/v1/operator/raft/configuration")?.json();
            let servers = raft["Servers"].as_array().cloned().unwrap_or_default();
            let voters = servers.iter().filter(|server| server["Voter"] == true).count();
            if voters == 3 && node.body.contains("node1") {
                return Ok(());
            }
            Err(format!("{voters} voters, {}", node.body))
        });
        estate
    }

    /// Runs a client to its end; it says that it agrees.
    fn ask(&self, program: &str, args: &[&str], agrees: &str) {
        let mut command = Command::new(tools::find(program).expect("it was found"));
        command.args(args);
        let name = Path::new(program).file_name().expect("a program has a name");
        let mut client =
            Daemon::program(&name.to_string_lossy(), self.servers.folder.path(), command);
        client.expect_log("");
        let code = eventually(CLIENT_LIMIT, "the client ends", || {
            client.exit_code().ok_or_else(|| client.log())
        });
        let said = client.log();
        assert!(code == Some(0) && said.contains(agrees), "{program} {args:?}: {said}");
        println!("{said}");
    }

    fn port(&self) -> String {
        self.agent.api().addr().port().to_string()
    }
}

fn client_file(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    folder.join(file).to_string_lossy().into_owned()
}

#[test]
fn the_go_client_of_consul_works_unchanged() {
    let folder = client_file("go_client");
    if !tools::have_go_modules("the_go_client_of_consul_works_unchanged", &folder) {
        return;
    }
    let built = tempfile::tempdir().expect("a temporary folder");
    let program = built.path().join("go_client").to_string_lossy().into_owned();
    tools::run_go(&["-C", &folder, "build", "-o", &program, "."]).ok().expect("it builds");
    let estate = Estate::start();
    let addr = estate.agent.api().addr().to_string();
    estate.ask(&program, &[&addr, &estate.token, "node1"], "Consul's Go client agrees");
}

#[test]
fn the_rust_client_of_consul_works_unchanged() {
    let manifest = client_file("rs_consul/Cargo.toml");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rs_consul");
    let test = "the_rust_client_of_consul_works_unchanged";
    if !tools::have_cargo_project(test, &manifest, &folder) {
        return;
    }
    let program = folder.join("debug/rs-consul-client").to_string_lossy().into_owned();
    let estate = Estate::start();
    let addr = estate.agent.api().addr().to_string();
    estate.ask(&program, &[&addr, &estate.token, "node1"], "rs-consul agrees");
}

#[test]
fn the_npm_client_of_consul_works_unchanged() {
    if !tools::have_node_module("the_npm_client_of_consul_works_unchanged", "consul") {
        return;
    }
    let estate = Estate::start();
    let args = [client_file("npm_consul.js"), estate.port(), estate.token.clone()];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    estate.ask("node", &args, "npm's consul agrees");
}

#[test]
fn the_python_client_of_consul_works_with_tokens_too() {
    if !tools::have_module("the_python_client_of_consul_works_with_tokens_too", "consul") {
        return;
    }
    let estate = Estate::start();
    let node = "node1".to_owned();
    let args = [client_file("py_consul.py"), estate.port(), estate.token.clone(), node];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    estate.ask("python3", &args, "py-consul agrees");
}

/// Asks for gzip, and prints how much came and what it is unpacked.
const UNPACK: &str = "\
import gzip, sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={'Accept-Encoding': 'gzip'})
with urllib.request.urlopen(request) as answer:
    body = answer.read()
    assert answer.headers['Content-Encoding'] == 'gzip', answer.headers
    assert answer.headers['Vary'].lower() == 'accept-encoding', answer.headers
print(len(body), gzip.decompress(body).decode())
";

#[test]
fn answers_in_gzip_are_read_by_common_programs() {
    if !tools::have("answers_in_gzip_are_read_by_common_programs", &["curl", "python3"]) {
        return;
    }
    let cluster = Cluster::start();
    let api = cluster.agent.api();
    let value = "a text that is long enough to be worth it. ".repeat(200);
    let written = api.request("PUT", "/v1/kv/long", &[], &value);
    written.and_then(|answer| answer.ok()).expect("it is written");
    for path in ["/v1/kv/long?raw", "/v1/kv/long"] {
        let plain = api.get(path).expect("an answer");
        assert_eq!(plain.header("content-encoding"), None, "nobody asked for gzip");
        let url = format!("http://{}{path}", api.addr());
        let read = tools::run("curl", &["-sS", "--compressed", "-D", "-", &url]).ok();
        let read = read.expect("curl reads it").to_ascii_lowercase();
        assert!(read.contains("content-encoding: gzip"), "{read}");
        assert!(read.ends_with(&plain.body.to_ascii_lowercase()), "{read}");
        let read = tools::run("python3", &["-c", UNPACK, &url]).ok().expect("Python reads it");
        let (length, unpacked) = read.split_once(' ').expect("a length");
        assert_eq!(unpacked.trim_end(), plain.body.trim_end());
        let length: usize = length.parse().expect("a length");
        assert!(length < plain.body.len() / 4, "{length} of {} bytes", plain.body.len());
    }
}
