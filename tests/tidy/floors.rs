//! Inside `core`: imports go downward, and nothing of the outside world comes in.

use crate::paths::mentions;
use crate::tree::{SourceFile, Tree, Violation};

/// The floors from the ground up. Modules of one floor may import each other.
const FLOORS: [(&str, &[&str]); 4] = [
    (
        "ground",
        &[
            "name",
            "identity",
            "index",
            "time",
            "limits",
            "local_address",
            "text_type",
            "canonical_path",
            "log_format",
        ],
    ),
    ("records", &["catalog", "config_entry", "ca", "acl", "kv", "session"]),
    (
        "judgement",
        &[
            "attestation",
            "autopilot",
            "intention",
            "lease",
            "chain",
            "health",
            "traffic",
            "dns",
            "filter",
            "lint",
            "login",
            "prepared_query",
            "capture",
        ],
    ),
    ("machines", &["state", "watch", "sync", "proxycfg", "rollout"]),
];

/// What `core` must not name, and where it belongs instead.
const OUTSIDE: [(&str, &str); 14] = [
    ("tokio", "wait in a driver, decide here"),
    ("futures", "wait in a driver, decide here"),
    ("std::collections::HashMap", "use BTreeMap: the order must be the same on every machine"),
    ("std::collections::HashSet", "use BTreeSet: the order must be the same on every machine"),
    ("std::fs", "read files in a process and pass the text in"),
    ("std::env", "pass configuration in"),
    ("std::process", "start programs in a process crate"),
    ("std::thread", "tasks live in runtime"),
    ("std::io", "do input and output in a process and pass bytes in"),
    ("std::net::TcpStream", "sockets live in runtime::net"),
    ("std::net::TcpListener", "sockets live in runtime::net"),
    ("std::net::UdpSocket", "sockets live in runtime::net"),
    ("std::time::SystemTime", "use core::time::Timestamp, passed in"),
    ("std::time::Instant::now", "take `now` as an argument"),
];

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|(_, modules)| modules.contains(&module))
}

/// The module of a file directly under `core/src`.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("core/src/")?;
    let first = inside.split('/').next()?.trim_end_matches(".rs");
    (first != "lib").then_some(first)
}

/// A module imports its own floor or a lower one.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in &tree.sources {
        let Some(module) = module_of(&file.path) else { continue };
        let Some(floor) = floor_of(module) else {
            found.push(Violation::at(
                &*file.path,
                format!("give `{module}` a floor in tests/tidy/floors.rs and in core/src/lib.rs"),
            ));
            continue;
        };
        found.extend(upward(file, floor));
    }
    found
}

fn upward(file: &SourceFile, floor: usize) -> Vec<Violation> {
    let mut found = Vec::new();
    for mention in mentions(file) {
        let mut parts = mention.path.split("::");
        if parts.next() != Some("crate") || !file.is_production(mention.line) {
            continue;
        }
        let target = parts.next().unwrap_or_default();
        if let Some(other) = floor_of(target).filter(|other| *other > floor) {
            found.push(Violation::at(
                file.place(mention.line),
                format!(
                    "`{}` lies on the floor above ({} from {}): move the type down or turn the \
                     call round",
                    mention.path, FLOORS[other].0, FLOORS[floor].0
                ),
            ));
        }
    }
    found
}

/// No I/O, clock, randomness, async or hash order in `core`.
pub(crate) fn check_purity(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.sources.iter().filter(|f| f.path.starts_with("core/src/")) {
        for mention in mentions(file).iter().filter(|m| file.is_production(m.line)) {
            let banned = OUTSIDE.iter().find(|(path, _)| {
                mention.path == *path || mention.path.starts_with(&format!("{path}::"))
            });
            if let Some((_, advice)) = banned {
                found.push(Violation::at(
                    file.place(mention.line),
                    format!("`{}` has no place in core: {advice}", mention.path),
                ));
            }
        }
        for (line, text) in file.layers.code.lines().enumerate() {
            if file.is_production(line) && (text.contains("async fn") || text.contains(".await")) {
                found.push(Violation::at(
                    file.place(line),
                    "core does not wait: make it a machine and let a driver wait",
                ));
            }
        }
    }
    found
}

#[test]
fn a_planted_upward_import_is_found() {
    let up = [("core/src/catalog/node.rs", "use crate::{name, chain::compile};\n")];
    let down = [("core/src/chain/compile.rs", "use crate::catalog::Node;\n")];
    let new = [("core/src/brandnew.rs", "//! A module.\n")];
    assert_eq!(check(&Tree::planted(&up)).len(), 1);
    assert_eq!(check(&Tree::planted(&down)).len(), 0);
    assert_eq!(check(&Tree::planted(&new)).len(), 1);
}

#[test]
fn planted_impurities_are_found() {
    let text = "use std::collections::{BTreeMap, HashMap};\nuse std::time::Instant;\n\
                async fn f() { g(Instant::now()) }\n";
    assert_eq!(check_purity(&Tree::planted(&[("core/src/name.rs", text)])).len(), 3);
    assert_eq!(check_purity(&Tree::planted(&[("agent/src/name.rs", text)])).len(), 0);
}
