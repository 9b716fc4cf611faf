//! `make bench`: our proxy pair beside its peers on the same work, in interleaved rounds.
//!
//! client → A (plaintext in) → mTLS 1.3 → B (checks who calls) → plaintext → backend. All proxies
//! have one thread and share one core; the load and the backend share another. So a rate is what
//! one core gives for both proxies of a pair. Every figure is the median over rounds, and only
//! ratios within one run mean something: machines and their neighbours differ.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `BENCH_ROUNDS` | rounds over all pairs | 3 |
//! | `BENCH_SECONDS` | length of one measurement | 2.5 |
//! | `BENCH_WORK` | `handshakes`: new connections between proxies alone; `http2`: HTTP/2 and gRPC all the way alone; `short`: short TCP connections alone; `quic`: QUIC beside TCP alone (`make bench-quic`); `features`: our pair with one thing switched on at a time (`make bench-features`) | all |
//! | `BENCH_ONLY` | pairs whose name contains this text | all |
//! | `BENCH_RR` | measure in the real-time class (root; when other work disturbs) | off |
//! | `BENCH_JSON` | where the figures are written | `<target>/bench/result.json` |

mod backend;
mod certificates;
mod features;
mod h2;
mod load;
mod measure;
mod pairs;
mod process;
mod report;
mod transports;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use pairs::{Layer, PAIRS, Pair, Rig};

/// What the environment asks for.
struct Wanted {
    rounds: usize,
    cell: Duration,
    only: String,
    /// Whether only new connections are measured.
    is_handshakes: bool,
    /// Whether only HTTP/2 all the way is measured.
    is_http2: bool,
    /// Whether only short TCP connections are measured.
    is_short: bool,
    /// Whether our own pair is measured with one thing switched on at a time, and nothing else.
    is_features: bool,
    /// Whether QUIC is measured beside TCP, and nothing else.
    is_quic: bool,
    json: PathBuf,
}

impl Wanted {
    fn from_environment() -> anyhow::Result<Self> {
        let read =
            |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.into());
        let target = read("CARGO_TARGET_DIR", "target");
        Ok(Self {
            rounds: read("BENCH_ROUNDS", "3").parse().context("BENCH_ROUNDS is a number")?,
            cell: Duration::try_from_secs_f64(
                read("BENCH_SECONDS", "2.5").parse().context("BENCH_SECONDS is a number")?,
            )?,
            only: read("BENCH_ONLY", ""),
            is_handshakes: read("BENCH_WORK", "") == "handshakes",
            is_http2: read("BENCH_WORK", "") == "http2",
            is_short: read("BENCH_WORK", "") == "short",
            is_features: read("BENCH_WORK", "") == "features",
            is_quic: read("BENCH_WORK", "") == "quic",
            json: read("BENCH_JSON", &format!("{target}/bench/result.json")).into(),
        })
    }
}

fn main() -> anyhow::Result<()> {
    let wanted = Wanted::from_environment()?;
    let began = Instant::now();
    process::pin_self()?;
    let folder = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    let rig = Rig {
        folder: folder.path().to_owned(),
        certificates: certificates::make(folder.path())?,
        backend: backend::start()?,
    };
    if wanted.is_quic {
        return transports::run(&rig, wanted.cell, &wanted.json);
    }
    if wanted.is_features {
        return features::run(&rig, (wanted.rounds, wanted.cell), &wanted.only, &wanted.json);
    }
    let mut report = report::Report::new(wanted.rounds, wanted.cell);
    // The rig's own row comes first in the table.
    report.of(report::NO_PROXY, "");
    if !wanted.is_short && !wanted.is_http2 {
        http(&wanted, &rig, &mut report, began)?;
    }
    if !wanted.is_handshakes && !wanted.is_short {
        http2(&wanted, &rig, &mut report, began)?;
    }
    if !wanted.is_handshakes && !wanted.is_short && !wanted.is_http2 {
        tcp(&wanted, &rig, &mut report, began)?;
    }
    if !wanted.is_handshakes && !wanted.is_http2 {
        short(&wanted, &rig, &mut report, began)?;
    }
    report.seconds = began.elapsed().as_secs();
    println!("{}", report.text());
    report.write_json(&wanted.json)?;
    Ok(())
}

fn progress(began: Instant, what: &str) {
    eprintln!("[{:4} s] {what}", began.elapsed().as_secs());
}

/// Starts the wanted pairs; what cannot be started is named and left out.
fn start_pairs(wanted: &Wanted, rig: &Rig, layer: Layer, report: &mut report::Report) -> Vec<Pair> {
    let mut running = Vec::new();
    for (name, start) in PAIRS {
        let is_left_out = match layer {
            Layer::Http => false,
            Layer::Http2 => name.contains("h1 between"),
            // Two ways of HTTP between them are one way of bytes.
            Layer::Short | Layer::Tcp => name.contains("h2 between"),
        };
        if is_left_out || !name.contains(&wanted.only) {
            continue;
        }
        match pairs::start(start, rig, layer) {
            Ok(pair) => running.push(pair),
            Err(error) => report.skip(layer, name, &format!("{error:#}")),
        }
    }
    running
}

fn http(
    wanted: &Wanted,
    rig: &Rig,
    report: &mut report::Report,
    began: Instant,
) -> anyhow::Result<()> {
    progress(began, "starting the HTTP pairs");
    let running = start_pairs(wanted, rig, Layer::Http, report);
    for pair in running.iter().filter(|_| !wanted.is_handshakes) {
        progress(began, &format!("memory: {}", pair.name));
        let figures = report.of(pair.name, &pair.version);
        measure::memory(pair, figures).with_context(|| pair.name)?;
    }
    for round in 1..=wanted.rounds {
        let label = |name: &str| format!("round {round} of {}: {name}", wanted.rounds);
        if !wanted.is_handshakes {
            progress(began, &label("no proxy"));
            let figures = report.of(report::NO_PROXY, "");
            measure::requests(rig.backend.http, || 0.0, wanted.cell, figures)?;
        }
        for pair in &running {
            progress(began, &label(pair.name));
            let figures = report.of(pair.name, &pair.version);
            if !wanted.is_handshakes {
                measure::requests(pair.front, || pair.cpu_seconds(), wanted.cell, figures)
                    .with_context(|| pair.name)?;
            }
            measure::handshakes(pair, &rig.certificates.shop, wanted.cell, figures)
                .with_context(|| pair.name)?;
        }
    }
    Ok(())
}

fn http2(
    wanted: &Wanted,
    rig: &Rig,
    report: &mut report::Report,
    began: Instant,
) -> anyhow::Result<()> {
    progress(began, "starting the pairs for HTTP/2");
    let running = start_pairs(wanted, rig, Layer::Http2, report);
    for round in 1..=wanted.rounds {
        progress(began, &format!("HTTP/2, round {round} of {}", wanted.rounds));
        let figures = report.of(report::NO_PROXY, "");
        measure::http2(rig.backend.http2, || 0.0, wanted.cell, figures)?;
        for pair in &running {
            let figures = report.of(pair.name, &pair.version);
            measure::http2(pair.front, || pair.cpu_seconds(), wanted.cell, figures)
                .with_context(|| pair.name)?;
        }
    }
    Ok(())
}

fn tcp(
    wanted: &Wanted,
    rig: &Rig,
    report: &mut report::Report,
    began: Instant,
) -> anyhow::Result<()> {
    progress(began, "starting the TCP pairs");
    let running = start_pairs(wanted, rig, Layer::Tcp, report);
    for round in 1..=wanted.rounds {
        progress(began, &format!("bytes, round {round} of {}", wanted.rounds));
        let figures = report.of(report::NO_PROXY, "");
        measure::bytes(rig.backend.firehose, || 0.0, wanted.cell, figures)?;
        for pair in &running {
            let figures = report.of(pair.name, &pair.version);
            measure::bytes(pair.front, || pair.cpu_seconds(), wanted.cell, figures)
                .with_context(|| pair.name)?;
        }
    }
    Ok(())
}

fn short(
    wanted: &Wanted,
    rig: &Rig,
    report: &mut report::Report,
    began: Instant,
) -> anyhow::Result<()> {
    progress(began, "starting the TCP pairs for short connections");
    let running = start_pairs(wanted, rig, Layer::Short, report);
    for round in 1..=wanted.rounds {
        progress(began, &format!("short connections, round {round} of {}", wanted.rounds));
        let figures = report.of(report::NO_PROXY, "");
        measure::short(rig.backend.http, || 0.0, wanted.cell, figures)?;
        for pair in &running {
            let figures = report.of(pair.name, &pair.version);
            measure::short(pair.front, || pair.cpu_seconds(), wanted.cell, figures)
                .with_context(|| pair.name)?;
        }
    }
    Ok(())
}
