//! What the documents name is there: files behind links, targets of the Makefile.

use std::fs;

use crate::tree::{Tree, Violation};

/// Links lead to files, `make x` to targets, and no text knows a developer's machine.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let makefile = tree.read("Makefile");
    let mut found = Vec::new();
    for (path, text) in documents(tree) {
        for (line, row) in text.lines().enumerate() {
            let place = || format!("{path}:{}", line + 1);
            for target in links(row).filter(|target| !target.contains("://")) {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let file = target.split('#').next().unwrap_or_default();
                if !file.is_empty() && !tree.root.join(folder).join(file).exists() {
                    found.push(Violation::at(place(), format!("`{target}` leads nowhere")));
                }
            }
            found.extend(
                unknown_targets(row, &makefile)
                    .map(|name| Violation::at(place(), format!("`make {name}` is no target"))),
            );
        }
        found.extend(machine_path(&path, &text));
    }
    for file in &tree.sources {
        found.extend(machine_path(&file.path, &file.text));
    }
    found
}

fn documents(tree: &Tree) -> Vec<(String, String)> {
    ["", "docs"]
        .iter()
        .filter_map(|folder| fs::read_dir(tree.root.join(folder)).ok().map(|list| (folder, list)))
        .flat_map(|(folder, list)| list.flatten().map(move |entry| (*folder, entry.path())))
        .filter(|(_, path)| path.extension().is_some_and(|ext| ext == "md"))
        .filter_map(|(folder, path)| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            let path_text = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            Some((path_text, fs::read_to_string(&path).ok()?))
        })
        .collect()
}

/// The targets of `[text](target)`.
fn links(row: &str) -> impl Iterator<Item = &str> {
    row.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Names after `make ` in code, written between backticks or on an indented line.
fn unknown_targets<'a>(row: &'a str, makefile: &'a str) -> impl Iterator<Item = &'a str> {
    let is_code_line = row.starts_with("    make ");
    row.match_indices("make ")
        .filter(move |(at, _)| is_code_line || row[..*at].ends_with('`'))
        .filter_map(move |(at, _)| row[at + 5..].split(|c: char| !c.is_ascii_alphanumeric()).next())
        .filter(|name| !name.is_empty() && !makefile.contains(&format!("\n{name}:")))
}

fn machine_path(path: &str, text: &str) -> Option<Violation> {
    // Put together here, so that this file does not name them itself.
    let folders = ["home", "root", "work", "Users"].map(|name| format!("\"/{name}/"));
    let line = text.lines().position(|row| folders.iter().any(|folder| row.contains(folder)))?;
    Some(Violation::at(
        format!("{path}:{}", line + 1),
        "a path of somebody's machine: take it from an argument or a temporary folder",
    ))
}

#[test]
fn planted_dead_ends_are_found() {
    assert_eq!(
        links("see [a](b.md), [c](https://d) and (e)").collect::<Vec<_>>(),
        ["b.md", "https://d"]
    );
    let makefile = "\ntest: all\n";
    let unknown = |row: &str| unknown_targets(row, makefile).count();
    assert_eq!((unknown("run `make test`"), unknown("run `make tset`")), (0, 1));
    assert_eq!((unknown("    make tset"), unknown("we make things")), (1, 0));
    assert!(machine_path("a.rs", &format!("x\nlet a = \"/{}/me\";", "home")).is_some());
    assert!(machine_path("a.rs", "let a = \"/nowhere/me\";").is_none());
}
