//! One table with ratios and conditions, and the same as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde_json::{Value, json};

use crate::measure::{FIXED_RATE, Figures};
use crate::pairs::Layer;

/// The row without proxies: what the rig itself gives.
pub(crate) const NO_PROXY: &str = "no proxy";

/// Whether more or less of a figure is better.
#[derive(Clone, Copy, PartialEq)]
enum Better {
    Less,
    More,
}

/// One column: its heading, its figure, its decimals, its direction.
struct Column {
    heading: &'static str,
    figure: &'static str,
    decimals: usize,
    better: Better,
}

const fn column(
    heading: &'static str,
    figure: &'static str,
    decimals: usize,
    better: Better,
) -> Column {
    Column { heading, figure, decimals, better }
}

const REQUESTS: [Column; 9] = [
    column("rps 2B", "rps_2b", 0, Better::More),
    column("CPU s/100k", "cpu_s_per_100k_2b", 2, Better::Less),
    column("p50 us", "p50_us_2b", 0, Better::Less),
    column("p99 us", "p99_us_2b", 0, Better::Less),
    column("rps 10KB", "rps_10k", 0, Better::More),
    column("CPU s/100k", "cpu_s_per_100k_10k", 2, Better::Less),
    column("added p50 us", "added_p50_us", 0, Better::Less),
    column("added p99 us", "added_p99_us", 0, Better::Less),
    column("CPU s/100k", "cpu_s_per_100k_fixed", 2, Better::Less),
];

const HTTP2: [Column; 8] = [
    column("rps", "rps_h2", 0, Better::More),
    column("CPU s/100k", "cpu_s_per_100k_h2", 2, Better::Less),
    column("p50 us", "p50_us_h2", 0, Better::Less),
    column("p99 us", "p99_us_h2", 0, Better::Less),
    column("gRPC rps", "rps_grpc", 0, Better::More),
    column("CPU s/100k", "cpu_s_per_100k_grpc", 2, Better::Less),
    column("p50 us", "p50_us_grpc", 0, Better::Less),
    column("p99 us", "p99_us_grpc", 0, Better::Less),
];

const REST: [Column; 11] = [
    column("RSS A MB", "rss_mb_a", 1, Better::Less),
    column("RSS B MB", "rss_mb_b", 1, Better::Less),
    column("1k idle A", "idle_mb_per_1k_a", 1, Better::Less),
    column("1k idle B", "idle_mb_per_1k_b", 1, Better::Less),
    column("mTLS conn/s", "mtls_conn_per_s", 0, Better::More),
    column("CPU us/conn", "mtls_cpu_us_per_conn", 0, Better::Less),
    column("Gbit/s", "tcp_gbit_per_s", 2, Better::More),
    column("CPU s/GB", "tcp_cpu_s_per_gb", 2, Better::Less),
    column("short conn/s", "short_per_s", 0, Better::More),
    column("CPU us/conn", "short_cpu_us", 0, Better::Less),
    column("p50 us", "short_p50_us", 0, Better::Less),
];

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<(&'static str, Figures)>,
    versions: BTreeMap<&'static str, String>,
    skipped: Vec<String>,
    rounds: usize,
    cell: Duration,
    /// How long the run took.
    pub(crate) seconds: u64,
}

impl Report {
    /// A report without figures.
    pub(crate) fn new(rounds: usize, cell: Duration) -> Self {
        let (rows, versions, skipped) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { rows, versions, skipped, rounds, cell, seconds: 0 }
    }

    /// The figures of a pair.
    pub(crate) fn of(&mut self, name: &'static str, version: &str) -> &mut Figures {
        if !version.is_empty() {
            self.versions.insert(name, version.to_owned());
        }
        let at = self.rows.iter().position(|(row, _)| *row == name).unwrap_or_else(|| {
            self.rows.push((name, Figures::new()));
            self.rows.len() - 1
        });
        &mut self.rows[at].1
    }

    /// Names a pair that could not take part.
    pub(crate) fn skip(&mut self, layer: Layer, name: &str, reason: &str) {
        let line = format!("SKIPPED {name} ({layer:?}): {reason}");
        eprintln!("{line}");
        self.skipped.push(line);
    }

    /// The median of a figure.
    fn median(&self, row: &Figures, figure: &str) -> Option<f64> {
        let fixed = |name: &str| median(row.get(name)?);
        let direct = |name: &str| median(self.row(NO_PROXY)?.get(name)?);
        match figure {
            "added_p50_us" => Some(fixed("p50_us_fixed")? - direct("p50_us_fixed")?),
            "added_p99_us" => Some(fixed("p99_us_fixed")? - direct("p99_us_fixed")?),
            other => fixed(other),
        }
    }

    fn row(&self, name: &str) -> Option<&Figures> {
        self.rows.iter().find(|(row, _)| *row == name).map(|(_, figures)| figures)
    }

    /// The tables for people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "\nHTTP: saturation with 64 connections (2 B, 10 KB), then {FIXED_RATE:.0} requests/s; CPU \
             is that of both proxies\n{}\nHTTP/2 all the way: saturation with 64 requests at once on 8 \
             connections; 2 B, then unary calls of gRPC\n{}\nMemory; new mTLS connections into B; one TCP stream; 1,000 TCP \
             connections a second that ask once\n{}",
            self.table(&REQUESTS),
            self.table(&HTTP2),
            self.table(&REST)
        );
        for line in &self.skipped {
            text.push_str(&format!("{line}\n"));
        }
        text.push_str(&format!("{}\n", self.conditions()));
        text
    }

    fn table(&self, columns: &[Column]) -> String {
        let mut lines = vec![format!("{:26}", "")];
        for column in columns {
            lines[0].push_str(&format!("{:>13}", column.heading));
        }
        for (name, figures) in &self.rows {
            let mut line = format!("{name:26}");
            for column in columns {
                let cell = self
                    .median(figures, column.figure)
                    .filter(|_| *name != NO_PROXY || !column.figure.contains("cpu"))
                    .map_or_else(|| "-".into(), |v| format!("{v:.*}", column.decimals));
                line.push_str(&format!("{cell:>13}"));
            }
            lines.push(line);
        }
        for (name, _) in self.peers() {
            lines.push(ratios(&format!("weft / {name}"), columns, |column| {
                self.ratio(column, |peer| peer == *name)
            }));
        }
        lines.push(ratios("weft / best peer", columns, |column| self.ratio(column, |_| true)));
        lines.join("\n") + "\n"
    }

    fn peers(&self) -> impl Iterator<Item = &(&'static str, Figures)> {
        self.rows.iter().filter(|(name, _)| *name != "weft" && *name != NO_PROXY)
    }

    /// Our figure divided by the best of the peers chosen.
    fn ratio(&self, column: &Column, is_chosen: impl Fn(&str) -> bool) -> Option<f64> {
        let ours = self.median(self.row("weft")?, column.figure)?;
        let peers = self
            .peers()
            .filter(|(name, _)| is_chosen(name))
            .filter_map(|(_, figures)| self.median(figures, column.figure));
        let best = match column.better {
            Better::Less => peers.fold(f64::INFINITY, f64::min),
            Better::More => peers.fold(0.0, f64::max),
        };
        (best.is_finite() && best > 0.0).then(|| ours / best)
    }

    fn conditions(&self) -> String {
        let versions: Vec<String> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "Conditions: {} UTC, Linux {}, {} cores ({}), {} rounds of {:.1} s a cell, {} s in all, \
             real-time class {}; TLS 1.3, AES-128-GCM, X25519 in the connections counted, P-256 \
             leaves, clients verified; medians; {}",
            utc_date(),
            read("/proc/sys/kernel/osrelease"),
            read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count(),
            cpu_model(),
            self.rounds,
            self.cell.as_secs_f64(),
            self.seconds,
            if std::env::var_os("BENCH_RR").is_some() { "on" } else { "off" },
            versions.join(", ")
        )
    }

    /// Writes medians, and every round's values.
    pub(crate) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(name, figures)| {
                let medians: BTreeMap<&str, f64> = REQUESTS
                    .iter()
                    .chain(&HTTP2)
                    .chain(&REST)
                    .filter_map(|c| Some((c.figure, self.median(figures, c.figure)?)))
                    .collect();
                json!({
                    "pair": name, "version": self.versions.get(name),
                    "medians": medians, "rounds": figures,
                })
            })
            .collect();
        let whole = json!({
            "conditions": self.conditions(), "skipped": self.skipped, "pairs": rows,
        });
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, serde_json::to_string_pretty(&whole)?)
            .with_context(|| format!("writing {}", path.display()))?;
        println!("Every round's values: {}", path.display());
        Ok(())
    }
}

fn ratios(title: &str, columns: &[Column], ratio: impl Fn(&Column) -> Option<f64>) -> String {
    let mut line = format!("{title:26}");
    for column in columns {
        let cell = ratio(column).map_or_else(|| "-".into(), |r| format!("{r:.2}"));
        line.push_str(&format!("{cell:>13}"));
    }
    line
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn cpu_model() -> String {
    let text = read("/proc/cpuinfo");
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map_or("?", |(_, name)| name).to_owned()
}

/// The time of the report.
fn utc_date() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(now.as_millis()).unwrap_or_default();
    weft_core::time::Timestamp(millis).rfc3339()
}
