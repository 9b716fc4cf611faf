//! Runs the scripts in `kv/*.txt` against the key/value store and its sessions, and checks them
//! against a model that is too simple to be wrong.
//!
//! A script is a list of steps; each line under a step, indented, is what is expected. Run with
//! `WEFT_BLESS=1` to write down what came instead.

mod golden;
mod kv_model;

use std::fmt::Write as _;

use weft_core::index::Index;
use weft_core::kv::{KvCommand, KvCondition, KvEntry, KvKey};
use weft_core::session::{Session, SessionId};
use weft_core::state::{Answer, Command, KvLook, SessionCommand, State, TxnOp, TxnResult, TxnVerb};
use weft_core::time::Timestamp;

#[test]
fn scripts_give_what_they_say() {
    golden::check("kv", run);
}

fn run(script: &str) -> String {
    let (mut state, mut index, mut now) = (State::default(), 0u64, Timestamp(1_000_000));
    let mut out = String::new();
    for line in script.lines() {
        if line.starts_with("  ") {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "wait" => now.0 += (1000.0 * words[1].parse::<f64>().expect("seconds")) as u64,
            "get" | "keys" | "list" | "sessions" => show(&state, &words, &mut out),
            _ => {
                index += 1;
                let (answer, changes) = state.apply(Index(index), now, command(&words));
                writeln!(out, "  {index}: {}", told(&answer)).expect("a string");
                if !changes.is_empty() {
                    writeln!(out, "  {changes:?}").expect("a string");
                }
            }
        }
    }
    out
}

fn told(answer: &Answer) -> String {
    match answer {
        Answer::CasMismatch => "false".to_owned(),
        Answer::Done { changed: true } => "true".to_owned(),
        Answer::Done { changed: false } => "true, nothing changed".to_owned(),
        Answer::Refused(why) => format!("refused: {why}"),
        Answer::Txn(results) => {
            let told: Vec<String> = results
                .iter()
                .map(|result| match result {
                    TxnResult::Check(check) => format!("check {}={}", check.id, check.status),
                    TxnResult::Kv { entry, .. } => shown(entry),
                    TxnResult::Node(node) => format!("node {}", node.name),
                    TxnResult::Service(service) => format!("service {}", service.id),
                })
                .collect();
            format!("done: {}", told.join("; "))
        }
        Answer::TxnFailed(errors) => {
            let told: Vec<String> =
                errors.iter().map(|error| format!("{}: {}", error.op_index, error.what)).collect();
            format!("not done: {}", told.join("; "))
        }
    }
}

fn key(text: &str) -> KvKey {
    KvKey::parse(if text == "\"\"" { "" } else { text }).expect("a key")
}

/// The session that a script calls by a number.
fn session(number: &str) -> SessionId {
    format!("00000000-0000-4000-8000-{number:0>12}").parse().expect("an id")
}

/// `put KEY VALUE [flags=N] [cas=N|acquire=S|release=S]`, `delete KEY [cas=N]`, `delete-tree
/// PREFIX`, `register NODE [CHECK=STATUS]…`, `deregister NODE [check:ID]…`,
/// `session S NODE [delete] [delay=SECONDS] [ttl=SECONDS] [checks=A,B]`, `destroy S`
fn command(words: &[&str]) -> Command {
    let option = |name: &str| {
        words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let index = |text: String| Index(text.parse().expect("an index"));
    match words[0] {
        "put" => {
            let condition = match (option("cas"), option("acquire"), option("release")) {
                (Some(cas), _, _) => KvCondition::Cas(index(cas)),
                (_, Some(it), _) => KvCondition::Acquire(session(&it)),
                (_, _, Some(it)) => KvCondition::Release(session(&it)),
                (None, None, None) => KvCondition::Always,
            };
            let flags = option("flags").map_or(0, |it| it.parse().expect("a number"));
            let value = words[2].to_owned().into();
            Command::Kv(KvCommand::Set { key: key(words[1]), value, flags, condition })
        }
        "delete" => {
            Command::Kv(KvCommand::Delete { key: key(words[1]), cas: option("cas").map(index) })
        }
        "delete-tree" => Command::Kv(KvCommand::DeleteTree { prefix: key(words[1]) }),
        "session" => {
            let checks = option("checks").unwrap_or_else(|| "serfHealth".to_owned());
            let checks: Vec<&str> = checks.split(',').filter(|it| !it.is_empty()).collect();
            let seconds = |name| option(name).map_or("0s".to_owned(), |it| format!("{it}s"));
            let behavior = if words.contains(&"delete") { "delete" } else { "release" };
            let made: Session = serde_json::from_value(serde_json::json!({
                "ID": session(words[1]), "Node": words[2], "LockDelay": seconds("delay"),
                "TTL": seconds("ttl"), "Behavior": behavior, "NodeChecks": checks,
                "ServiceChecks": [],
            }))
            .expect("a session");
            Command::Session(SessionCommand::Create(made))
        }
        "txn" => {
            let ops = words[1..].join(" ");
            Command::Txn(
                ops.split(" + ").map(|op| txn_op(&op.split(' ').collect::<Vec<_>>())).collect(),
            )
        }
        "destroy" => Command::Session(SessionCommand::Destroy(session(words[1]))),
        "register" => {
            let checks: Vec<_> = words[2..]
                .iter()
                .map(|word| word.split_once('=').expect("CHECK=STATUS"))
                .map(|(id, status)| {
                    serde_json::json!({
                        "Node": words[1], "CheckID": id, "Name": id, "Status": status,
                    })
                })
                .collect();
            let registration = serde_json::from_value(serde_json::json!({
                "node": { "Node": words[1], "Address": "10.0.0.1", "Datacenter": "dc1" },
                "checks": checks,
            }));
            Command::Register(registration.expect("a registration"))
        }
        "deregister" => {
            let checks: Vec<&str> =
                words[2..].iter().filter_map(|word| word.strip_prefix("check:")).collect();
            let what = serde_json::json!({ "node": words[1], "checks": checks });
            Command::Deregister(serde_json::from_value(what).expect("a deregistration"))
        }
        other => panic!("no such step: {other}"),
    }
}

/// A write of `command`, `look get|or-empty|tree|absent KEY`, `look index KEY N`, `look holder KEY
/// S`, `node VERB NODE [N]`, `service VERB NODE ID NAME [N]`, `check VERB NODE ID STATUS [N]`
fn txn_op(words: &[&str]) -> TxnOp {
    let verb = || match words[1] {
        "cas" => TxnVerb::Cas,
        "delete" => TxnVerb::Delete,
        "delete-cas" => TxnVerb::DeleteCas,
        "get" => TxnVerb::Get,
        "set" => TxnVerb::Set,
        other => panic!("no such verb: {other}"),
    };
    let index = |at: usize| words.get(at).map_or(0, |it| it.parse::<u64>().expect("an index"));
    match words[0] {
        "look" => TxnOp::KvLook(match words[1] {
            "get" => KvLook::Get(key(words[2])),
            "or-empty" => KvLook::GetOrEmpty(key(words[2])),
            "tree" => KvLook::GetTree(key(words[2])),
            "absent" => KvLook::CheckNotExists(key(words[2])),
            "index" => KvLook::CheckIndex(key(words[2]), Index(index(3))),
            "holder" => KvLook::CheckSession(key(words[2]), session(words[3])),
            other => panic!("no such look: {other}"),
        }),
        "node" => {
            let node = serde_json::json!({
                "Node": words[2], "Address": "10.0.0.9", "Datacenter": "dc1",
                "ModifyIndex": index(3),
            });
            TxnOp::Node(verb(), serde_json::from_value(node).expect("a node"))
        }
        "service" => {
            let service = serde_json::json!({
                "ID": words[3], "Service": words[4], "Port": 80, "ModifyIndex": index(5),
            });
            let node = words[2].parse().expect("a node");
            TxnOp::Service(verb(), node, serde_json::from_value(service).expect("a service"))
        }
        "check" => {
            let check = serde_json::json!({
                "Node": words[2], "CheckID": words[3], "Name": words[3], "Status": words[4],
                "ModifyIndex": index(5),
            });
            TxnOp::Check(verb(), serde_json::from_value(check).expect("a check"))
        }
        _ => match command(words) {
            Command::Kv(write) => TxnOp::KvWrite(write),
            Command::Session(SessionCommand::Destroy(id)) => TxnOp::SessionDelete(id),
            other => panic!("not for a transaction: {other:?}"),
        },
    }
}

/// `get KEY`, `list PREFIX`, `keys PREFIX [SEPARATOR]`, `sessions`
fn show(state: &State, words: &[&str], out: &mut String) {
    let mut line = |text: String| writeln!(out, "  {text}").expect("a string");
    match words[0] {
        "get" => {
            let (index, entry) = state.kv().get(key(words[1]).as_str());
            line(format!("at {index} {}", entry.map_or("none".to_owned(), |it| shown(it))));
        }
        "list" => {
            let (index, entries) = state.kv().list(key(words[1]).as_str());
            line(format!("at {index}"));
            for entry in entries {
                line(shown(&entry));
            }
        }
        "keys" => {
            let separator = words.get(2).copied().unwrap_or_default();
            let (index, keys) = state.kv().keys(key(words[1]).as_str(), separator);
            line(format!("at {index} {keys:?}"));
        }
        _ => {
            let ids: Vec<String> = state
                .sessions()
                .list()
                .map(|it| it.id.to_string().trim_start_matches(['0', '4', '8', '-']).to_owned())
                .collect();
            line(format!("at {} {ids:?}", state.sessions().index()));
        }
    }
}

fn shown(entry: &KvEntry) -> String {
    let KvEntry { key, value, flags, session, lock_index, create_index, modify_index } = entry;
    let value = String::from_utf8_lossy(value);
    let mut text = format!("{key}={value} created {create_index} modified {modify_index}");
    if *flags != 0 {
        write!(text, " flags {flags}").expect("a string");
    }
    if *lock_index != 0 {
        write!(text, " locked {lock_index} times").expect("a string");
    }
    if let Some(session) = session {
        let short = session.to_string();
        write!(text, " by {}", short.trim_start_matches(['0', '4', '8', '-'])).expect("a string");
    }
    text
}
