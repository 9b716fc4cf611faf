//! Every path that a file names, with imports unfolded and resolved.
//!
//! `use tokio::{net, task as t};` followed by `t::spawn(x)` yields `tokio::net`, `tokio::task`
//! and `tokio::task::spawn`. Macros and re-exports are not followed: the rules guard against
//! drift, not against malice.

use std::collections::BTreeMap;

use crate::tree::{SourceFile, line_of};

/// A path that occurs in a file.
#[derive(Debug, PartialEq)]
pub(crate) struct Mention {
    /// The line, from 0.
    pub(crate) line: usize,
    /// The resolved path, such as `tokio::net::TcpStream`.
    pub(crate) path: String,
}

/// All paths of a file, in order of lines.
pub(crate) fn mentions(file: &SourceFile) -> Vec<Mention> {
    let code = &file.layers.code;
    let mut found = Vec::new();
    let mut aliases = BTreeMap::new();
    let mut rest = code.clone();
    for (start, end) in use_items(code) {
        let mut leaves = Vec::new();
        unfold("", code[start..end].trim(), &mut leaves);
        for (path, alias) in leaves {
            if !alias.is_empty() && alias != "_" && alias != "*" {
                aliases.insert(alias, path.clone());
            }
            found.push(Mention { line: line_of(code, start), path });
        }
        // Blank the import, so that its pieces are not met again as expressions.
        let blank: String =
            code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        rest.replace_range(start..end, &blank);
    }
    for (line, text) in rest.lines().enumerate() {
        for path in inline_paths(text) {
            let (head, tail) = path.split_once("::").unwrap_or((path, ""));
            let resolved = match aliases.get(head) {
                Some(full) if tail.is_empty() => full.clone(),
                Some(full) => format!("{full}::{tail}"),
                None => path.to_owned(),
            };
            if resolved.contains("::") {
                found.push(Mention { line, path: resolved });
            }
        }
    }
    found.sort_by_key(|mention| mention.line);
    found
}

/// The byte ranges between `use` and `;`.
fn use_items(code: &str) -> Vec<(usize, usize)> {
    let mut items = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let before = code[..at].chars().next_back();
        let starts_item = before.is_none_or(|c| c.is_whitespace() || c == ')' || c == ';');
        if !starts_item {
            continue;
        }
        if let Some(end) = code[at..].find(';') {
            items.push((at + 4, at + end));
        }
    }
    items
}

/// Collects (path, name in scope) of a use tree.
fn unfold(prefix: &str, tree: &str, leaves: &mut Vec<(String, String)>) {
    let tree = tree.trim().trim_start_matches("::");
    if tree.is_empty() {
        return;
    }
    if let Some(open) = tree.find('{') {
        let head = tree[..open].trim().trim_end_matches("::").trim();
        let inner = tree[open + 1..].trim_end().trim_end_matches('}');
        for part in split_top(inner) {
            unfold(&join(prefix, head), part, leaves);
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(p, a)| (p, Some(a.trim())));
    let path = path.trim();
    let full = if path == "self" { prefix.to_owned() } else { join(prefix, path) };
    let last = full.rsplit("::").next().unwrap_or_default().to_owned();
    leaves.push((full, alias.map_or(last, str::to_owned)));
}

fn join(prefix: &str, path: &str) -> String {
    let path: String = path.split_whitespace().collect();
    match (prefix.is_empty(), path.is_empty()) {
        (true, _) => path,
        (_, true) => prefix.to_owned(),
        _ => format!("{prefix}::{path}"),
    }
}

/// Splits at commas outside braces; a closing brace too many ends the last part.
fn split_top(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Words of a line that may be paths: `a`, `a::b`, `a::b::c`.
fn inline_paths(line: &str) -> Vec<&str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .map(|word| word.trim_matches(':'))
        .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        .collect()
}

#[test]
fn imports_are_unfolded_and_aliases_resolved() {
    let file = SourceFile::new(
        "agent/src/a.rs",
        "use tokio::{net::{TcpStream, UdpSocket as U}, task};\n\nfn f() { task::spawn(g()); U::bind(); }\n",
    );
    let found: Vec<String> = mentions(&file).into_iter().map(|m| m.path).collect();
    for wanted in [
        "tokio::net::TcpStream",
        "tokio::net::UdpSocket",
        "tokio::task::spawn",
        "tokio::net::UdpSocket::bind",
    ] {
        assert!(found.iter().any(|path| path == wanted), "{wanted} is missing in {found:?}");
    }
}
