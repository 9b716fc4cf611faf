//! The table for people, and the same as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::peers::{KINDS, Kind};

/// Whether more or less of a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    Less,
    More,
}

/// A figure: its key, its heading, its decimals, its direction.
pub(crate) struct Figure {
    key: &'static str,
    heading: &'static str,
    decimals: usize,
    better: Better,
}

const fn figure(
    key: &'static str,
    heading: &'static str,
    decimals: usize,
    better: Better,
) -> Figure {
    Figure { key, heading, decimals, better }
}

/// Every figure, in the order of the table.
const FIGURES: [Figure; 8] = [
    figure("per_s", "per s", 0, Better::More),
    figure("p50_ms", "p50 ms", 2, Better::Less),
    figure("p99_ms", "p99 ms", 2, Better::Less),
    figure("cpu_us", "CPU us each", 1, Better::Less),
    figure("first_ms", "first answer, p50 ms", 1, Better::Less),
    figure("last_p50_ms", "last answer, p50 ms", 1, Better::Less),
    figure("last_p99_ms", "last answer, p99 ms", 1, Better::Less),
    figure("rss_mb", "RSS MB of the largest", 0, Better::Less),
];

/// What stands in a row: how many servers, what was done.
type Row = (usize, &'static str);

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    values: BTreeMap<(Row, Kind, &'static str), Vec<f64>>,
    versions: BTreeMap<Kind, String>,
    skipped: Vec<String>,
    /// How and where it was measured.
    pub(crate) conditions: String,
}

impl Report {
    /// Notes a figure of one round.
    pub(crate) fn note(&mut self, row: Row, kind: Kind, figure: &'static str, value: f64) {
        if !self.rows.contains(&row) {
            self.rows.push(row);
        }
        self.values.entry((row, kind, figure)).or_default().push(value);
    }

    /// Notes a program's version.
    pub(crate) fn version(&mut self, kind: Kind, version: &str) {
        self.versions.insert(kind, version.to_owned());
    }

    /// Names what was left out, and why.
    pub(crate) fn skip(&mut self, what: &str, reason: &str) {
        let line = format!("SKIPPED {what}: {reason}");
        if !self.skipped.contains(&line) {
            eprintln!("{line}");
            self.skipped.push(line);
        }
    }

    fn median(&self, row: Row, kind: Kind, figure: &'static str) -> Option<f64> {
        let mut values = self.values.get(&(row, kind, figure))?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// Our figure over the better one of the peers.
    fn ratio(&self, row: Row, figure: &Figure) -> Option<f64> {
        let ours = self.median(row, Kind::Weft, figure.key)?;
        let peers = KINDS.iter().filter(|kind| **kind != Kind::Weft);
        let peers = peers.filter_map(|kind| self.median(row, *kind, figure.key));
        let best = match figure.better {
            Better::Less => peers.reduce(f64::min)?,
            Better::More => peers.reduce(f64::max)?,
        };
        (best > 0.0).then(|| ours / best)
    }

    /// The table.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut servers = 0;
        for row in &self.rows {
            if row.0 != servers {
                servers = row.0;
                let title = match servers {
                    1 => "One server".to_owned(),
                    more => format!("{more} servers"),
                };
                let _ = write!(text, "\n{title:<50}");
                KINDS.iter().for_each(|kind| {
                    let _ = write!(text, "{:>10}", kind.name());
                });
                text.push_str("  weft/best\n");
            }
            for figure in &FIGURES {
                let medians = KINDS.map(|kind| self.median(*row, kind, figure.key));
                if medians.iter().all(Option::is_none) {
                    continue;
                }
                let _ = write!(text, "{:<28}{:<22}", row.1, figure.heading);
                for median in medians {
                    let shown =
                        median.map_or("-".to_owned(), |it| format!("{it:.*}", figure.decimals));
                    let _ = write!(text, "{shown:>10}");
                }
                let ratio = self.ratio(*row, figure);
                let shown = ratio.map_or("-".to_owned(), |it| format!("{it:.2}"));
                let _ = writeln!(text, "{shown:>11}");
            }
        }
        for line in &self.skipped {
            let _ = writeln!(text, "{line}");
        }
        let versions: Vec<String> =
            self.versions.iter().map(|(kind, it)| format!("{} {it}", kind.name())).collect();
        let _ = writeln!(text, "Conditions: {}; {}", self.conditions, versions.join(", "));
        text
    }

    /// The same for programs, with the values of every round.
    pub(crate) fn json(&self) -> Value {
        let cells: Vec<Value> = self
            .values
            .iter()
            .map(|((row, kind, figure), values)| {
                json!({
                    "servers": row.0, "work": row.1, "peer": kind.name(), "figure": figure,
                    "rounds": values, "median": self.median(*row, *kind, figure),
                })
            })
            .collect();
        let versions: BTreeMap<&str, &String> =
            self.versions.iter().map(|(kind, version)| (kind.name(), version)).collect();
        json!({
            "conditions": self.conditions, "versions": versions, "skipped": self.skipped,
            "cells": cells,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_compared_with_the_better_peer() {
        let mut report = Report::default();
        let row = (3, "put");
        for (kind, values) in
            [(Kind::Weft, [90.0, 100.0, 500.0]), (Kind::Consul, [10.0, 20.0, 30.0])]
        {
            values.iter().for_each(|value| report.note(row, kind, "per_s", *value));
        }
        report.note(row, Kind::Etcd, "per_s", 40.0);
        report.note(row, Kind::Etcd, "p99_ms", 4.0);
        report.note(row, Kind::Weft, "p99_ms", 1.0);
        let ratios: Vec<_> = FIGURES.iter().map(|figure| report.ratio(row, figure)).collect();
        assert_eq!(ratios[0], Some(2.5));
        assert_eq!(ratios[2], Some(0.25));
        assert_eq!(ratios[3], None);
        assert!(report.text().contains("weft/best"), "{}", report.text());
    }
}
