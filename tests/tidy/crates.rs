//! Which crate may import which, read from the manifests and from the source of `cli`.

use crate::paths::mentions;
use crate::tree::{Tree, Violation};

/// What one crate may depend on.
struct Direction {
    folder: &'static str,
    ours: &'static [&'static str],
    /// The libraries allowed, where the list is closed.
    others: Option<&'static [&'static str]>,
}

const DIRECTIONS: [Direction; 8] = [
    Direction {
        folder: "core",
        ours: &[],
        others: Some(&[
            "bytes",
            "imbl",
            "ipnet",
            "rand_core",
            "regex",
            "serde",
            "serde_json",
            "thiserror",
            "tracing",
        ]),
    },
    Direction {
        folder: "proto",
        ours: &["weft-core"],
        others: Some(&[
            "base64",
            "bytes",
            "hcl-rs",
            "prost",
            "prost-types",
            "protox",
            "rmp-serde",
            "serde",
            "serde_json",
            "thiserror",
            "tonic",
            "tonic-prost",
            "tonic-prost-build",
        ]),
    },
    Direction { folder: "runtime", ours: &["weft-core"], others: None },
    Direction {
        folder: "server",
        ours: &["weft-core", "weft-proto", "weft-runtime"],
        others: None,
    },
    Direction { folder: "agent", ours: &["weft-core", "weft-proto", "weft-runtime"], others: None },
    Direction { folder: "proxy", ours: &["weft-core", "weft-proto", "weft-runtime"], others: None },
    Direction { folder: "k8s", ours: &["weft-core", "weft-proto", "weft-runtime"], others: None },
    Direction {
        folder: "cli",
        ours: &[
            "weft-core",
            "weft-proto",
            "weft-runtime",
            "weft-server",
            "weft-agent",
            "weft-proxy",
            "weft-k8s",
        ],
        others: None,
    },
];

/// Where the command may name a process crate: it starts them there and knows them nowhere else.
const PROCESS_DOORS: [&str; 2] = ["cli/src/cmd/", "cli/src/demo/"];

/// Manifests name only what the direction allows.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (folder, manifest) in &tree.manifests {
        let Some(direction) = DIRECTIONS.iter().find(|d| d.folder == folder) else { continue };
        for name in dependencies(manifest, &["[dependencies]", "[build-dependencies]"]) {
            if name.starts_with("weft") {
                if !direction.ours.contains(&name.as_str()) {
                    found.push(Violation::at(
                        format!("{folder}/Cargo.toml"),
                        format!(
                            "`{folder}` must not depend on `{name}`: imports go downward only; \
                             move what both need to core, proto or runtime"
                        ),
                    ));
                }
            } else if direction.others.is_some_and(|list| !list.contains(&name.as_str())) {
                found.push(Violation::at(
                    format!("{folder}/Cargo.toml"),
                    format!(
                        "`{folder}` has a closed list of libraries and `{name}` is not on it: do \
                         the work in `runtime` or a process, or add it to tests/tidy/crates.rs \
                         with the reason in ARCHITECTURE.md"
                    ),
                ));
            }
        }
    }
    found.extend(check_command(tree));
    found
}

fn check_command(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.sources.iter().filter(|f| f.path.starts_with("cli/src/")) {
        if PROCESS_DOORS.iter().any(|door| file.path.starts_with(door)) {
            continue;
        }
        for mention in mentions(file) {
            let head = mention.path.split("::").next().unwrap_or_default();
            if ["weft_server", "weft_agent", "weft_proxy"].contains(&head)
                && file.is_production(mention.line)
            {
                found.push(Violation::at(
                    file.place(mention.line),
                    format!(
                        "`{}` outside cli/src/cmd/ and cli/src/demo/: the command starts \
                         processes there and speaks the public API everywhere else",
                        mention.path
                    ),
                ));
            }
        }
    }
    found
}

/// Every member has `[lints] workspace = true`, and the workspace keeps its lints.
pub(crate) fn check_lints(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (folder, manifest) in &tree.manifests {
        let takes = manifest.lines().skip_while(|l| l.trim() != "[lints]").nth(1);
        if takes.map(str::trim) != Some("workspace = true") {
            found.push(Violation::at(
                format!("{folder}/Cargo.toml"),
                "add `[lints]` with `workspace = true`: every crate keeps the same lints",
            ));
        }
    }
    let workspace = tree.read("Cargo.toml");
    for lint in ["unsafe_code = \"deny\"", "missing_docs = \"warn\"", "unwrap_used = \"deny\""] {
        if !tree.root.as_os_str().is_empty() && !workspace.contains(lint) {
            found.push(Violation::at("Cargo.toml", format!("put `{lint}` back under the lints")));
        }
    }
    found
}

/// The names under the given headings of a manifest.
fn dependencies(manifest: &str, headings: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = headings.contains(&line);
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            names.push(line[..end].trim_matches('"').to_owned());
        }
    }
    names
}

#[test]
fn a_planted_upward_dependency_is_found() {
    let lints = "[lints]\nworkspace = true\n";
    let check_one = |path: &str, text: &str| check(&Tree::planted(&[(path, text)])).len();
    assert_eq!(check_one("agent/Cargo.toml", "[dependencies]\nweft-server.workspace = true\n"), 1);
    assert_eq!(check_one("core/Cargo.toml", "[dependencies]\ntokio = \"1\"\n"), 1);
    assert_eq!(check_one("core/Cargo.toml", "[dependencies]\nserde.workspace = true\n"), 0);
    assert_eq!(check_one("agent/Cargo.toml", "[dev-dependencies]\nweft-server = \"1\"\n"), 0);
    assert_eq!(check_one("cli/src/output.rs", "use weft_agent::Agent;\n"), 1);
    assert_eq!(check_one("cli/src/cmd/agent.rs", "use weft_agent::Agent;\n"), 0);
    assert_eq!(check_lints(&Tree::planted(&[("agent/Cargo.toml", "[package]\n")])).len(), 1);
    assert_eq!(check_lints(&Tree::planted(&[("agent/Cargo.toml", lints)])).len(), 0);
}
