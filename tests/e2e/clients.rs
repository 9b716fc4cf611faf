//! Clients of Consul that nobody here wrote, unchanged, against three servers with ACLs and an
//! agent; and answers in gzip as common programs read them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use weft_tests::process::Daemon;
use weft_tests::{Cluster, eventually, tools};

use crate::estate::Estate;

/// What a client does in all takes seconds.
const CLIENT_LIMIT: Duration = Duration::from_secs(180);

/// Runs a client to its end; it says that it agrees.
fn ask(estate: &Estate, program: &str, args: &[&str], agrees: &str) {
    let mut command = Command::new(tools::find(program).expect("it was found"));
    command.args(args);
    let name = Path::new(program).file_name().expect("a program has a name");
    let mut client =
        Daemon::program(&name.to_string_lossy(), estate.servers.folder.path(), command);
    client.expect_log("");
    let code = eventually(CLIENT_LIMIT, "the client ends", || {
        client.exit_code().ok_or_else(|| client.log())
    });
    let said = client.log();
    assert!(code == Some(0) && said.contains(agrees), "{program} {args:?}: {said}");
    println!("{said}");
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
    ask(&estate, &program, &[&addr, &estate.token, "node1"], "Consul's Go client agrees");
}

#[test]
fn the_rust_client_of_consul_works_unchanged() {
    let manifest = client_file("rs_consul/Cargo.toml");
    // Where the workspace is built, too: what both need is built once.
    let weft = weft_tests::process::weft();
    let folder = weft.ancestors().nth(2).expect("a target folder");
    let test = "the_rust_client_of_consul_works_unchanged";
    if !tools::have_cargo_project(test, &manifest, folder) {
        return;
    }
    let program = folder.join("debug/rs-consul-client").to_string_lossy().into_owned();
    let estate = Estate::start();
    let addr = estate.agent.api().addr().to_string();
    ask(&estate, &program, &[&addr, &estate.token, "node1"], "rs-consul agrees");
}

#[test]
fn the_npm_client_of_consul_works_unchanged() {
    if !tools::have_node_module("the_npm_client_of_consul_works_unchanged", "consul") {
        return;
    }
    let estate = Estate::start();
    let args = [
        client_file("npm_consul.js"),
        estate.agent.api().addr().port().to_string(),
        estate.token.clone(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    ask(&estate, "node", &args, "npm's consul agrees");
}

#[test]
fn the_python_client_of_consul_works_with_tokens_too() {
    if !tools::have_module("the_python_client_of_consul_works_with_tokens_too", "consul.api.config")
    {
        return;
    }
    let estate = Estate::start();
    let node = "node1".to_owned();
    let args = [
        client_file("py_consul.py"),
        estate.agent.api().addr().port().to_string(),
        estate.token.clone(),
        node,
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    ask(&estate, "python3", &args, "py-consul agrees");
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
