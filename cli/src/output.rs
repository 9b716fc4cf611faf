//! What commands print: tables and trees for people, JSON for scripts.

use std::io::{self, Write};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

/// Puts the cursor to the upper left, and clears what is below it: for views that are drawn again.
pub(crate) const CLEAR: &str = "\x1b[H\x1b[J";
/// Spaces between two columns.
const GAP: usize = 2;

/// How a command prints its answer.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// Print the API's JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Columns with a header, as wide as their widest cell.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes a table of a header alone.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|&title| title.to_owned()).collect()] }
    }

    /// Adds a row; an empty cell shows as `-`, and so does one that is missing.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let columns = self.rows.first().map_or(0, Vec::len);
        let cells = cells.into_iter().chain(std::iter::repeat(String::new())).take(columns);
        let shown = |cell: String| if cell.is_empty() { "-".to_owned() } else { cell };
        self.rows.push(cells.map(shown).collect());
    }

    /// Writes it as text; the last column has no blanks behind it.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |at: usize| {
            self.rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let blanks = width - cell.chars().count() + GAP;
                line.push_str(cell);
                line.push_str(&" ".repeat(blanks));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Lines below each other, with branches drawn before them.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    line: String,
    branches: Vec<Tree>,
}

impl Tree {
    /// Makes a tree of one line.
    pub(crate) fn new(line: String) -> Self {
        Self { line, branches: Vec::new() }
    }

    /// Adds a branch below those that are there.
    pub(crate) fn push(&mut self, branch: Tree) {
        self.branches.push(branch);
    }

    /// Writes it as text.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.line);
        self.write_branches("", &mut text);
        text
    }

    fn write_branches(&self, before: &str, text: &mut String) {
        for (left, branch) in (0..self.branches.len()).rev().zip(&self.branches) {
            let (mark, below) = if left == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            text.push_str(&format!("{before}{mark}{}\n", branch.line));
            branch.write_branches(&format!("{before}{below}"), text);
        }
    }
}

/// Returns a value of an answer as people read it: a text without quotes, nothing for null.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Returns one field of a record, [`shown`].
pub(crate) fn text(record: &Value, field: &str) -> String {
    shown(&record[field])
}

/// Prints a text as it is.
///
/// # Errors
/// When standard output cannot be written; a reader that is gone is no error.
pub(crate) fn print(text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot print")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a piece to standard output at once.
///
/// # Errors
/// Those of the operating system, also when the reader is gone.
pub(crate) fn write_piece(piece: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(piece)?;
    out.flush()
}

/// Prints a line.
///
/// # Errors
/// As [`print`](fn@print).
pub(crate) fn print_line(line: &str) -> anyhow::Result<()> {
    print(format!("{line}\n"))
}

/// Prints indented JSON.
///
/// # Errors
/// As [`print`](fn@print).
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    print_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["Node", "Address", "DC"]);
        table.row(["web-1".to_owned(), "10.0.0.1".to_owned(), "dc1".to_owned()]);
        table.row(["é".to_owned()]);
        assert_eq!(table.text(), "Node   Address   DC\nweb-1  10.0.0.1  dc1\né      -         -\n");
    }
}
