//! The command itself: help that teaches, exit codes, and messages that say what to do.

use std::fs;
use std::time::Duration;

use weft_tests::process::{Outcome, run_weft};

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
    for command in ["agent", "demo", "dev", "proxy", "server", "version"] {
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
