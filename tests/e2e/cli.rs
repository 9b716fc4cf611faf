//! The command itself: help that teaches, exit codes, and messages that say what to do.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::process::{Daemon, Outcome, run_weft};
use weft_tests::{Answer, Api, App, eventually};

/// An answer comes at once; the limit is for a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// The exit code of a wrong command line or configuration.
const USAGE: Option<i32> = Some(2);

fn weft(args: &[&str]) -> Outcome {
    run_weft(args, LIMIT)
}

fn shows(outcome: &Outcome, parts: &[&str]) {
    for part in parts {
        assert!(outcome.output.contains(part), "{part:?} is not in:\n{}", outcome.output);
    }
}

#[test]
fn help_groups_the_commands_and_says_where_to_begin() {
    for args in [&["--help"][..], &["-h"], &["help"]] {
        let help = weft(args);
        assert_eq!(help.code, Some(0), "{args:?}");
        shows(&help, &["First steps:", "Run a mesh:", "Start with `weft dev`"]);
    }
    let nothing = weft(&[]);
    assert_eq!(nothing.code, USAGE);
    shows(&nothing, &["First steps:"]);
}

#[test]
fn every_command_explains_itself_by_example() {
    for command in [
        "agent",
        "config",
        "demo",
        "dev",
        "intention",
        "members",
        "operator",
        "proxy",
        "server",
        "services",
        "snapshot",
        "version",
    ] {
        for args in [["help", command], [command, "--help"]] {
            let help = weft(&args);
            assert_eq!(help.code, Some(0), "{args:?}");
            shows(&help, &["Examples:", &format!("weft {command}")]);
        }
    }
}

#[test]
fn a_slip_of_the_pen_gets_a_suggestion() {
    let command = weft(&["servr"]);
    assert_eq!(command.code, USAGE);
    shows(&command, &["servr", "server"]);
    let flag = weft(&["agent", "--data-dri", "/nowhere"]);
    assert_eq!(flag.code, USAGE);
    shows(&flag, &["--data-dri", "--data-dir"]);
}

#[test]
fn the_version_is_told_for_people_and_for_programs() {
    let version = weft(&["version"]);
    assert_eq!(version.code, Some(0));
    assert_eq!(version.output, weft(&["--version"]).output);
    let json: serde_json::Value =
        serde_json::from_str(&weft(&["version", "--json"]).output).expect("JSON");
    assert_eq!(version.output.trim(), format!("weft {}", json["version"].as_str().expect("text")));
}

#[test]
fn faults_of_all_files_are_told_at_once_and_nothing_is_started() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let write = |name: &str, text: String| {
        fs::write(folder.path().join(name), text).expect("a temporary folder can be written");
    };
    write("10-agent.hcl", format!("data_dir = {:?}\nnode_nam = \"a\"\n", data));
    write("20-dns.json", r#"{ "dns": { "ttl_seconds": "long" } }"#.to_owned());
    write("30-log.hcl", "log { levle = \"info\" }\n".to_owned());
    let config = folder.path().to_string_lossy().into_owned();
    let outcome = weft(&["agent", "--config", &config]);
    assert_eq!(outcome.code, USAGE, "{}", outcome.output);
    let named = ["10-agent.hcl", "node_name", "20-dns.json", "ttl_seconds", "30-log.hcl", "level"];
    shows(&outcome, &named);
    assert!(!data.exists(), "a refused start changes nothing");
}

#[test]
fn a_wrong_flag_value_names_the_flag() {
    let outcome = weft(&["agent", "--data-dir", "/nowhere/agent", "--http-addr", "nonsense"]);
    assert_eq!(outcome.code, USAGE, "{}", outcome.output);
    shows(&outcome, &["--http-addr", "nonsense"]);
    let outcome = weft(&["server", "--drain-limit", "soon"]);
    assert_eq!(outcome.code, USAGE, "{}", outcome.output);
    shows(&outcome, &["--drain-limit", "10s"]);
}

#[test]
fn dev_is_a_mesh_that_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let any = "127.0.0.1:0";
    let args = ["dev", "--http-addr", any, "--dns-addr", any, "--server-addr", any];
    let mut dev = Daemon::weft("dev", folder.path(), &args);
    let data = PathBuf::from(dev.ready_field("data_dir"));
    assert!(data.is_dir());
    let http = dev.ready_field("http");
    for part in ["curl -X PUT", "dig @127.0.0.1", &http, "Ctrl-C"] {
        assert!(dev.log().contains(part), "{part:?} is not in:\n{}", dev.log());
    }
    let api = Api::new(http.parse().expect("an address"));
    let app = App::start("web");
    let caller_port = free_port();
    for service in [
        meshed("web", "web", app.port(), &[]),
        meshed("shop", "shop", free_port(), &[("web", caller_port)]),
    ] {
        let answer = api.put("/v1/agent/service/register", &service);
        answer.and_then(Answer::ok).expect("the registration is accepted");
    }
    let upstream = Api::new(SocketAddr::from(([127, 0, 0, 1], caller_port)));
    eventually(SPREAD_LIMIT, "a call goes through both sidecars", || {
        let answer = upstream.get("/")?.ok()?;
        if answer.body.contains("\"app\":\"web\"") { Ok(()) } else { Err(answer.body) }
    });
    // The agent may tell the sidecar before its end is under way.
    dev.expect_log("no longer registered");
    api.put("/v1/agent/service/deregister/shop", &json!({}))
        .and_then(Answer::ok)
        .expect("deregistered");
    eventually(
        SPREAD_LIMIT,
        "the sidecar ends with its registration",
        || match TcpStream::connect(("127.0.0.1", caller_port)) {
            Ok(_) => Err("it still listens".to_owned()),
            Err(_) => Ok(()),
        },
    );
    // Its end closes the connections that the drain would wait for.
    drop(app);
    dev.terminate();
    assert!(!data.exists(), "{} is left behind", data.display());
}

#[test]
fn dev_names_a_port_in_use_and_the_flag_to_change() {
    let any = "127.0.0.1:0";
    let taken = TcpListener::bind(any).expect("loopback has a port");
    let taken = taken.local_addr().expect("a bound socket has an address").to_string();
    for flag in ["--http-addr", "--dns-addr", "--server-addr"] {
        let mut args = vec!["dev"];
        for other in ["--http-addr", "--dns-addr", "--server-addr"] {
            args.extend([other, if other == flag { &taken } else { any }]);
        }
        let outcome = weft(&args);
        assert_eq!(outcome.code, Some(1), "{}", outcome.output);
        shows(&outcome, &[&taken, flag]);
    }
}

#[test]
fn dev_listens_on_loopback_only() {
    let outcome = weft(&["dev", "--http-addr", "0.0.0.0:8500"]);
    assert_eq!(outcome.code, USAGE, "{}", outcome.output);
    shows(&outcome, &["--http-addr", "loopback"]);
}

#[test]
fn dev_starts_again_from_a_kept_directory_on_other_ports() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("mesh").to_string_lossy().into_owned();
    let any = "127.0.0.1:0";
    let mut args = vec!["dev", "--data-dir", &data];
    args.extend(["--http-addr", any, "--dns-addr", any, "--server-addr", any]);
    let api = |dev: &Daemon| Api::new(dev.ready_field("http").parse().expect("an address"));
    let entry = json!({ "Kind": "service-defaults", "Name": "web", "Protocol": "http" });

    let mut dev = Daemon::weft("dev", folder.path(), &args);
    let answer = api(&dev).put("/v1/config", &entry);
    answer.and_then(Answer::ok).expect("the entry is accepted");
    let service = json!({ "Name": "web", "Port": 1 });
    let answer = api(&dev).put("/v1/agent/service/register", &service);
    answer.and_then(Answer::ok).expect("the registration is accepted");
    dev.kill();

    let mut dev = Daemon::weft("dev", folder.path(), &args);
    let answer = api(&dev).get("/v1/config/service-defaults/web");
    assert_eq!(answer.and_then(Answer::ok).expect("kept").json()["Protocol"], "http");
    eventually(SPREAD_LIMIT, "the service is in the catalog", || {
        let answer = api(&dev).get("/v1/catalog/service/web")?.ok()?;
        if answer.body.contains("\"web\"") { Ok(()) } else { Err(answer.body) }
    });
    dev.terminate();
    assert!(folder.path().join("mesh").is_dir());
}

#[test]
fn the_service_manager_is_told_of_readiness_and_of_the_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(LIMIT)).expect("a time-out can be set");
    let told = || {
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).expect("a report in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut command = Command::new(weft_tests::process::weft());
    command.args(["server", "--bind-addr", "127.0.0.1:0", "--data-dir"]);
    command.arg(folder.path().join("data")).env("NOTIFY_SOCKET", &path);
    let mut server = Daemon::program("server", folder.path(), command);
    assert_eq!(told(), "READY=1");
    // Reading the configuration again is no reason to end.
    weft_tests::tools::run("kill", &["-HUP", &server.pid().to_string()]).ok().expect("a signal");
    server.terminate();
    assert_eq!(told(), "STOPPING=1");
}
