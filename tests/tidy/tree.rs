//! The project's files as the rules see them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::lexer::{self, Layers};

/// The folders that hold Rust sources of this project.
const SOURCE_ROOTS: [&str; 11] = [
    "core",
    "proto",
    "runtime",
    "server",
    "agent",
    "proxy",
    "cli",
    "k8s",
    "tests",
    "packaging",
    "ui",
];

/// A breach of a rule: where, and what to do about it.
#[derive(Debug)]
pub(crate) struct Violation {
    place: String,
    advice: String,
}

impl Violation {
    /// A violation at a place such as `core/src/name.rs:12`.
    pub(crate) fn at(place: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { place: place.into(), advice: advice.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.advice)
    }
}

/// One Rust source file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Path from the project's root, with `/`.
    pub(crate) path: String,
    /// The text as it stands.
    pub(crate) text: String,
    /// The text by kind.
    pub(crate) layers: Layers,
    /// For each line, whether it belongs to a test.
    pub(crate) is_test_line: Vec<bool>,
}

impl SourceFile {
    /// Reads a text as the file at `path`.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let layers = lexer::split(text);
        let line_count = text.lines().count();
        let is_test_line = if is_test_path(path) {
            vec![true; line_count]
        } else {
            test_lines(&layers.code, line_count)
        };
        Self { path: path.to_owned(), text: text.to_owned(), layers, is_test_line }
    }

    /// `path:line`, with lines counted from 1.
    pub(crate) fn place(&self, line: usize) -> String {
        format!("{}:{}", self.path, line + 1)
    }

    /// Whether the line (from 0) ships in a program.
    pub(crate) fn is_production(&self, line: usize) -> bool {
        !self.is_test_line.get(line).copied().unwrap_or(false)
    }

    /// The number of lines outside tests.
    pub(crate) fn production_lines(&self) -> usize {
        self.is_test_line.iter().filter(|test| !**test).count()
    }
}

fn is_test_path(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
}

/// Marks the items under `#[cfg(test)]` and `#[test]`.
fn test_lines(code: &str, line_count: usize) -> Vec<bool> {
    let mut marks = vec![false; line_count];
    for marker in ["#[cfg(test)]", "#[test]", "#[tokio::test"] {
        for (start, _) in code.match_indices(marker) {
            let end = item_end(code, start + marker.len());
            let first = line_of(code, start);
            let last = line_of(code, end.saturating_sub(1));
            for mark in marks.iter_mut().take(last + 1).skip(first) {
                *mark = true;
            }
        }
    }
    marks
}

/// The line (from 0) of a byte offset.
pub(crate) fn line_of(code: &str, offset: usize) -> usize {
    code.as_bytes()[..offset.min(code.len())].iter().filter(|&&b| b == b'\n').count()
}

/// The byte offset after the item that starts at `from`: its closing brace or its semicolon.
pub(crate) fn item_end(code: &str, from: usize) -> usize {
    body_of(code, from)
        .map_or_else(|| code[from..].find(';').map_or(code.len(), |n| from + n + 1), |(_, end)| end)
}

/// The byte range of the braces of the item that starts at `from`, unless it has none.
pub(crate) fn body_of(code: &str, from: usize) -> Option<(usize, usize)> {
    let mut nesting = 0_i32;
    let mut open = None;
    for (offset, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => nesting += 1,
            b')' | b']' => nesting -= 1,
            b';' if nesting == 0 && open.is_none() => return None,
            b'{' => {
                if open.is_none() && nesting == 0 {
                    open = Some(offset);
                    nesting = 0;
                }
                nesting += 1;
            }
            b'}' => {
                nesting -= 1;
                if let (Some(start), 0) = (open, nesting) {
                    return Some((start, offset + 1));
                }
            }
            _ => {}
        }
    }
    None
}

/// All files the rules look at.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The project's root folder.
    pub(crate) root: PathBuf,
    /// Rust sources, sorted by path.
    pub(crate) sources: Vec<SourceFile>,
    /// Manifests of the members as (folder, text).
    pub(crate) manifests: Vec<(String, String)>,
}

impl Tree {
    /// Reads the project that this test was built from.
    pub(crate) fn of_this_project() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the tests package lies one folder below the project's root")
            .to_owned();
        let mut paths = Vec::new();
        for folder in SOURCE_ROOTS {
            walk(&root.join(folder), &mut paths);
        }
        paths.sort();
        let mut sources: Vec<SourceFile> = paths
            .iter()
            .map(|path| {
                let text = fs::read_to_string(path).expect("a source file is readable text");
                SourceFile::new(&relative(&root, path), &text)
            })
            .collect();
        mark_test_modules(&mut sources);
        let manifests = SOURCE_ROOTS
            .iter()
            .filter_map(|folder| {
                let text = fs::read_to_string(root.join(folder).join("Cargo.toml")).ok()?;
                Some(((*folder).to_owned(), text))
            })
            .collect();
        Self { root, sources, manifests }
    }

    /// A tree of planted files, for the tests of the rules.
    pub(crate) fn planted(files: &[(&str, &str)]) -> Self {
        let (manifests, sources): (Vec<_>, Vec<_>) =
            files.iter().partition(|(path, _)| path.ends_with("Cargo.toml"));
        let mut sources: Vec<SourceFile> =
            sources.iter().map(|(path, text)| SourceFile::new(path, text)).collect();
        mark_test_modules(&mut sources);
        Self {
            root: PathBuf::new(),
            sources,
            manifests: manifests
                .iter()
                .map(|(path, text)| {
                    (path.trim_end_matches("/Cargo.toml").to_owned(), (*text).to_owned())
                })
                .collect(),
        }
    }

    /// The text of another file of the project.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }
}

/// A file whose `mod` line stands under `#[cfg(test)]` belongs to tests as a whole.
fn mark_test_modules(sources: &mut [SourceFile]) {
    let homes: Vec<String> = sources.iter().flat_map(test_modules).collect();
    for file in sources {
        let stem = file.path.trim_end_matches(".rs");
        if homes.iter().any(|home| stem == home || stem.starts_with(&format!("{home}/"))) {
            file.is_test_line.fill(true);
        }
    }
}

/// Paths without `.rs` of the modules that a file declares for tests only.
fn test_modules(file: &SourceFile) -> Vec<String> {
    let code = &file.layers.code;
    let stem = file.path.trim_end_matches(".rs");
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    let home = if ["lib", "main", "mod"].contains(&name) { folder } else { stem };
    code.match_indices("#[cfg(test)]")
        .filter_map(|(at, marker)| {
            let item = code[at + marker.len()..].split_once(';')?.0;
            let (before, module) = item.rsplit_once("mod ")?;
            (!before.contains('{')).then(|| format!("{home}/{}", module.trim()))
        })
        .collect()
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != "node_modules" {
            walk(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn test_items_are_told_from_production() {
    let file = SourceFile::new(
        "core/src/a.rs",
        "fn a() {\n    b();\n}\n\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\nfn d() {}\n",
    );
    assert_eq!(file.production_lines(), 5);
    assert!(file.is_production(8) && !file.is_production(6));
    let named = SourceFile::new("core/src/a.rs", "#[cfg(test)]\nmod tests;\nfn d() {}\n");
    assert_eq!(named.production_lines(), 1);
}

#[test]
fn files_of_test_modules_belong_to_tests() {
    let tree = Tree::planted(&[
        ("core/src/a/mod.rs", "#[cfg(test)]\npub(crate) mod stand_in;\nmod real;\n"),
        ("core/src/a/stand_in.rs", "fn a() {}\n"),
        ("core/src/a/real.rs", "fn a() {}\n"),
    ]);
    assert_eq!(tree.sources[1].production_lines(), 0);
    assert_eq!(tree.sources[2].production_lines(), 1);
}
