//! Where dependencies come from, which are banned, who may use the wrapped ones, and whether
//! their licences allow shipping the binary under Apache-2.0.
//!
//! Sources and wrappers are read from `Cargo.lock`; bans and licences from `cargo tree`, which
//! knows what is really built: the lock file also lists what a feature nobody uses would bring.

use std::collections::BTreeSet;
use std::process::Command;

use crate::tree::{Tree, Violation};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Licences that ask for no more than a notice.
const LICENCES: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Licences that are fine for one library, with the reason.
const LICENCE_EXCEPTIONS: [(&str, &str, &str); 4] = [
    ("imbl", "MPL-2.0+", "file-level copyleft, used unmodified: its sources stay on crates.io"),
    ("imbl-sized-chunks", "MPL-2.0+", "part of imbl, the same reason"),
    ("bitmaps", "MPL-2.0+", "part of imbl, the same reason"),
    ("aws-lc-sys", "OpenSSL", "the notice-only part of aws-lc's licence; shipped in NOTICE"),
];

/// Libraries that must not enter the graph.
const BANNED: [(&str, &str); 5] = [
    ("ring", "aws-lc-rs is the one cryptographic provider: switch the feature"),
    ("openssl", "rustls is the one TLS library"),
    ("openssl-sys", "rustls is the one TLS library"),
    ("native-tls", "rustls is the one TLS library"),
    ("rustls-native-certs", "trust comes from the mesh's own roots, not from the machine"),
];

/// Libraries that only one of our crates may depend on.
const WRAPPED: [(&str, &str); 5] = [
    ("openraft", "weft-server"),
    ("sled", "weft-runtime"),
    ("hickory-server", "weft-agent"),
    ("hickory-proto", "weft-agent"),
    ("quinn", "weft-proxy"),
];

/// One package of `Cargo.lock`.
#[derive(Debug, Default)]
struct Locked {
    name: String,
    source: Option<String>,
    dependencies: Vec<String>,
}

/// Sources and wrappers, from `Cargo.lock`.
pub(crate) fn check_lock(tree: &Tree) -> Vec<Violation> {
    judge_lock(&tree.read("Cargo.lock"))
}

fn judge_lock(lock: &str) -> Vec<Violation> {
    let packages = parse_lock(lock);
    let mut found = Vec::new();
    if packages.is_empty() {
        found.push(Violation::at("Cargo.lock", "no packages: commit the lock file"));
    }
    for package in &packages {
        let place = format!("Cargo.lock: {}", package.name);
        if package.source.as_deref().is_some_and(|source| source != CRATES_IO) {
            found.push(Violation::at(&*place, "take dependencies from crates.io only"));
        }
        let is_ours = package.source.is_none();
        for (wrapped, door) in WRAPPED {
            let uses = package.dependencies.iter().any(|name| name == wrapped);
            if is_ours && uses && package.name != door {
                found.push(Violation::at(&*place, format!("only {door} may depend on {wrapped}")));
            }
        }
    }
    found
}

fn parse_lock(lock: &str) -> Vec<Locked> {
    let mut packages: Vec<Locked> = Vec::new();
    for line in lock.lines().map(str::trim) {
        if line == "[[package]]" {
            packages.push(Locked::default());
            continue;
        }
        let Some(package) = packages.last_mut() else { continue };
        if let Some(name) = line.strip_prefix("name = ") {
            package.name = unquote(name);
        } else if let Some(source) = line.strip_prefix("source = ") {
            package.source = Some(unquote(source));
        } else if line.starts_with('"') {
            let entry = unquote(line.trim_end_matches(','));
            package.dependencies.push(entry.split(' ').next().unwrap_or_default().to_owned());
        }
    }
    packages
}

fn unquote(text: &str) -> String {
    text.trim().trim_matches('"').to_owned()
}

/// Bans and licences of everything that is built or run by a build on this platform.
pub(crate) fn check_built(tree: &Tree) -> Vec<Violation> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--locked", "--offline", "--edges=normal,build,dev"])
        .args(["--prefix=none", "--format={p}|{l}"])
        .current_dir(&tree.root)
        .output()
        .expect("cargo is there, since it built this test");
    assert!(
        output.status.success(),
        "cargo tree failed; run `cargo fetch --locked` first:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    judge_built(&String::from_utf8_lossy(&output.stdout))
}

fn judge_built(listing: &str) -> Vec<Violation> {
    let lines: BTreeSet<&str> = listing.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let mut found = Vec::new();
    for (package, licence) in lines.iter().filter_map(|line| line.split_once('|')) {
        let name = package.split(' ').next().unwrap_or_default();
        if let Some((_, advice)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            found.push(Violation::at(
                name,
                format!("banned: {advice}; `cargo tree -i {name}` shows who brings it"),
            ));
        }
        found.extend(judge_licence(name, licence));
    }
    found
}

fn judge_licence(name: &str, expression: &str) -> Option<Violation> {
    let is_fine = |licence: &str| {
        LICENCES.contains(&licence)
            || LICENCE_EXCEPTIONS.iter().any(|(who, what, _)| *who == name && *what == licence)
    };
    let text = expression.replace(['(', ')'], " ").replace('/', " OR ");
    // Every part of an AND must be fine; of an OR one part is enough. Within one expression OR
    // binds weaker than AND, and the old `A/B` form means OR.
    let fine = if expression.contains('(') {
        text.split(" AND ").all(|all| all.split(" OR ").any(|one| is_fine(one.trim())))
    } else {
        text.split(" OR ").any(|any| any.split(" AND ").all(|one| is_fine(one.trim())))
    };
    (!fine).then(|| {
        Violation::at(
            name,
            format!(
                "licence `{expression}` is not on the list: choose another crate, or add an \
                 exception with its reason to tests/tidy/supply.rs"
            ),
        )
    })
}

#[test]
fn planted_packages_are_found() {
    let package = |name: &str, rest: &str| format!("[[package]]\nname = \"{name}\"\n{rest}");
    let registry = format!("source = \"{CRATES_IO}\"\n");
    let count = |lock: &str| judge_lock(lock).len();
    assert_eq!(count(""), 1);
    assert_eq!(count(&package("serde", &registry)), 0);
    assert_eq!(count(&package("x", "source = \"git+https://example.org/x\"\n")), 1);
    assert_eq!(count(&package("weft-agent", "dependencies = [\n \"openraft\",\n]\n")), 1);
    assert_eq!(count(&package("weft-server", "dependencies = [\n \"openraft 0.9.25\",\n]\n")), 0);
}

#[test]
fn a_planted_banned_library_is_found() {
    assert_eq!(judge_built("ring v0.17.14|Apache-2.0 AND ISC\nserde v1.0.0|MIT\n").len(), 1);
    assert_eq!(judge_built("serde v1.0.0|MIT (*)\nserde v1.0.0|MIT\n").len(), 0);
    assert_eq!(judge_built("x v1.0.0|GPL-3.0\n").len(), 1);
}

#[test]
fn planted_licences_are_judged() {
    for fine in ["MIT", "MIT OR GPL-3.0", "MIT/Apache-2.0", "ISC AND (Apache-2.0 OR GPL-2.0)"] {
        assert!(judge_licence("x", fine).is_none(), "{fine}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND SSPL-1.0", "MPL-2.0+"] {
        assert!(judge_licence("x", bad).is_some(), "{bad}");
    }
    assert!(judge_licence("imbl", "MPL-2.0+").is_none());
}
