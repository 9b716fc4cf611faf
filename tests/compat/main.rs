//! Compatibility with the real Consul: the same requests, its recorded answers, and ours.
//!
//! `scripts/` asks, `recorded/` holds what Consul 1.8.7 answered, `differences.txt` lists where we
//! differ and why. A difference that is not listed fails, and so does a line of the list that no
//! longer says anything.
//!
//! With `WEFT_COMPAT_CONSUL` naming a Consul binary (`tests/bench-servers/fetch-peers.sh` gets it
//! from Debian's archive) the recording is checked against the real one;
//! `WEFT_COMPAT_RECORD=1` writes it anew.

mod compare;
mod consul;
mod run;
mod script;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weft_tests::{Api, Cluster};

use compare::{Difference, differences, meant};
use consul::Acls;
use run::Exchange;
use script::Step;

/// The script that asks a cluster with ACLs; the others ask one without.
const OF_ACLS: &str = "acl";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat")
}

/// Every script by name, in order.
fn scripts() -> Vec<(String, Vec<Step>)> {
    let listing = fs::read_dir(folder().join("scripts")).expect("the folder of scripts");
    let mut scripts: Vec<(String, Vec<Step>)> = listing
        .filter_map(|entry| {
            let path = entry.expect("a readable folder").path();
            let name = path.file_stem()?.to_str()?.to_owned();
            let text = fs::read_to_string(&path).expect("a readable script");
            let steps = script::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            Some((name, steps))
        })
        .collect();
    scripts.sort_by(|a, b| a.0.cmp(&b.0));
    scripts
}

fn recording(name: &str) -> PathBuf {
    folder().join("recorded").join(format!("{name}.json"))
}

fn recorded(name: &str) -> Vec<Exchange> {
    let text = fs::read_to_string(recording(name)).unwrap_or_else(|error| {
        panic!("{name} was not recorded ({error}): run with WEFT_COMPAT_RECORD=1")
    });
    let records: Vec<Value> = serde_json::from_str(&text).expect("a recording is a JSON array");
    records.iter().map(|it| Exchange::of_record(it).expect("a recorded answer")).collect()
}

fn answers(api: Api, name: &str, steps: &[Step]) -> Vec<Exchange> {
    run::run(api, steps).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn told(found: &[&Difference]) -> String {
    let line =
        |it: &&Difference| format!("{} | {} | {}    {}", it.script, it.request, it.what, it.how);
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn our_answers_are_consuls_but_for_what_is_written_down() {
    let list = fs::read_to_string(folder().join("differences.txt")).expect("the list");
    let list = meant(&list).unwrap_or_else(|error| panic!("differences.txt: {error}"));
    // Consul lets services call each other when no token is asked for.
    let open = Cluster::start_with(&json!({ "default_intention_policy": "allow" }));
    let with_acls = Cluster::start_with(&json!({ "acl": { "enabled": true } }));
    let mut found = Vec::new();
    for (name, steps) in scripts() {
        let theirs = recorded(&name);
        let cluster = if name == OF_ACLS { &with_acls } else { &open };
        let ours = answers(cluster.agent.api(), &name, &steps);
        assert_eq!(theirs.len(), ours.len(), "{name} has changed: record it anew");
        found.extend(differences(&name, &theirs, &ours));
    }
    let unlisted: Vec<&Difference> =
        found.iter().filter(|it| !list.iter().any(|meant| meant.covers(it))).collect();
    let idle: Vec<usize> = list
        .iter()
        .filter(|meant| !found.iter().any(|it| meant.covers(it)))
        .map(|meant| meant.line)
        .collect();
    assert!(
        unlisted.is_empty() && idle.is_empty(),
        "not written down in differences.txt:\n{}\nlines that no longer say anything: {idle:?}",
        told(&unlisted)
    );
}

#[test]
fn the_recording_is_what_the_real_one_answers() {
    let Some(program) = consul::program() else {
        eprintln!("no Consul here: the recording is taken for what it says");
        return;
    };
    let open = consul::Consul::start(&program, Acls::Off);
    let with_acls = consul::Consul::start(&program, Acls::On);
    let is_recording = std::env::var_os("WEFT_COMPAT_RECORD").is_some();
    for (name, steps) in scripts() {
        let consul = if name == OF_ACLS { &with_acls } else { &open };
        let answers = answers(consul.api(), &name, &steps);
        if is_recording {
            let records: Vec<Value> = answers.iter().map(Exchange::record).collect();
            let text = format!("{:#}\n", Value::Array(records));
            fs::write(recording(&name), text).expect("the recording can be written");
            continue;
        }
        let found = differences(&name, &recorded(&name), &answers);
        assert!(
            found.is_empty(),
            "Consul answers otherwise:\n{}",
            told(&found.iter().collect::<Vec<_>>())
        );
    }
}
