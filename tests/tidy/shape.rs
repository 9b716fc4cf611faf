//! Sizes, names and heads of files.

use crate::tree::{SourceFile, Tree, Violation, body_of, line_of};

/// The most lines of one file outside its tests: beyond it nobody reads top-down.
const FILE_LINES_MAX: usize = 600;
/// The most lines of one function: what fits a tall screen.
const FUNCTION_LINES_MAX: usize = 70;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 9] =
    ["utils", "util", "common", "helpers", "helper", "misc", "shared", "stuff", "lib_internal"];

/// Files and functions within their bounds.
pub(crate) fn check_sizes(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in &tree.sources {
        // A test file counts whole: its tests are its production.
        let lines = match file.production_lines() {
            0 => file.is_test_line.len(),
            lines => lines,
        };
        if lines > FILE_LINES_MAX {
            found.push(Violation::at(
                &*file.path,
                format!("{lines} lines, at most {FILE_LINES_MAX}: split it by noun"),
            ));
        }
        found.extend(long_functions(file));
    }
    found
}

fn long_functions(file: &SourceFile) -> Vec<Violation> {
    let code = &file.layers.code;
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let starts_word =
            code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let name: String =
            code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !starts_word || name.is_empty() {
            continue;
        }
        let Some((_, end)) = body_of(code, at) else { continue };
        let lines = line_of(code, end) - line_of(code, at) + 1;
        if lines > FUNCTION_LINES_MAX {
            found.push(Violation::at(
                file.place(line_of(code, at)),
                format!(
                    "`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}: name its stages \
                     and give each a function"
                ),
            ));
        }
    }
    found
}

/// Each file opens with `//!`, and its name and its folders' names mean something.
pub(crate) fn check_names(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in &tree.sources {
        let first = file.text.lines().map(str::trim).find(|line| !line.is_empty());
        let head = first.and_then(|line| line.strip_prefix("//!")).unwrap_or_default();
        if head.split_whitespace().count() < 2 {
            found.push(Violation::at(
                &*file.path,
                "open the file with a `//!` sentence: what lives here and what never does",
            ));
        }
        let bad = file
            .path
            .split('/')
            .map(|part| part.trim_end_matches(".rs"))
            .find(|part| EMPTY_NAMES.contains(part));
        if let Some(name) = bad {
            found.push(Violation::at(
                &*file.path,
                format!("`{name}` names nothing: call it by the concept inside"),
            ));
        }
        for (line, text) in file.layers.code.lines().enumerate() {
            let is_empty_name =
                |name: &str| EMPTY_NAMES.contains(&name.trim_matches([';', ' ', '{', '}']));
            if text.split_once("mod ").is_some_and(|(_, name)| is_empty_name(name)) {
                found.push(Violation::at(
                    file.place(line),
                    "this module's name names nothing: call it by the concept inside",
                ));
            }
        }
    }
    found
}

#[test]
fn planted_giants_are_found() {
    let long_body = format!("//! Head words.\nfn big() {{\n{}}}\n", "    a();\n".repeat(70));
    let long_file = format!("//! Head words.\n{}", "const A: u8 = 1;\n".repeat(600));
    let tested = format!(
        "//! Head words.\n#[cfg(test)]\nmod tests {{\n{}}}\n",
        "    const A: u8 = 1;\n".repeat(700)
    );
    assert_eq!(check_sizes(&Tree::planted(&[("agent/src/a.rs", &long_body)])).len(), 1);
    assert_eq!(check_sizes(&Tree::planted(&[("agent/src/a.rs", &long_file)])).len(), 1);
    assert_eq!(check_sizes(&Tree::planted(&[("agent/src/a.rs", &tested)])).len(), 0);
}

#[test]
fn planted_empty_names_and_missing_heads_are_found() {
    let names = |path: &str, text: &str| check_names(&Tree::planted(&[(path, text)])).len();
    // A file, a folder, a module in a file, no head, and a head that says nothing.
    assert_eq!(names("agent/src/utils.rs", "//! Useful things.\n"), 1);
    assert_eq!(names("agent/src/common/a.rs", "//! Useful things.\n"), 1);
    assert_eq!(names("agent/src/a.rs", "//! Head words.\nmod helpers {}\n"), 1);
    assert_eq!(names("agent/src/a.rs", "use x;\n"), 1);
    assert_eq!(names("agent/src/a.rs", "//! placeholder\n"), 1);
    assert_eq!(names("agent/src/a.rs", "//! Head words.\nmod tests;\n"), 0);
}
