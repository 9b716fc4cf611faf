//! `make bench-agents`: the DNS of our agent beside unbound, BIND, dnsmasq and Consul, on the same
//! names and queries in one run, while the names change.
//!
//! 2,000 services with 3 instances; 70 % of the queries ask for A, 20 % for SRV, 10 % for names
//! that are not there; ten times a second an instance moves. The measured program has core 1, the
//! load (dnsperf) and all else core 0. Rounds are interleaved, figures are medians over them; only
//! ratios within one run mean something. A peer that is not installed is named and left out. At
//! the end, without peers: an agent at rest, and one with ten thousand checks.
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `--rounds` | rounds over all peers | 3 |
//! | `--seconds` | length of one measurement | 5 |
//! | `--services` | services, with 3 instances each | 2000 |
//! | `--kinds` | of `weft,unbound,bind,dnsmasq,consul` | all |
//! | `--cells` | of `udp,paced,tcp,host` | all |
//! | `--peers` | where Consul is (`tests/bench-servers/fetch-peers.sh`) | `<target>/peers` |
//!
//! `BENCH_RR=1` puts measured program and load into the real-time class, for machines with other
//! work.

mod data;
mod host;
mod load;
mod peers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use data::Data;
use load::{Cell, Load};
use peers::{KINDS, Kind, Peer};

/// The time from one change of the names to the next.
const CHANGE_INTERVAL: Duration = Duration::from_millis(100);
/// How long each program is asked before it is measured: caches are warm in practice.
const WARM_UP: Duration = Duration::from_secs(2);

/// What the command line asks for.
struct Options {
    rounds: usize,
    seconds: u64,
    services: usize,
    kinds: Vec<Kind>,
    cells: Vec<Cell>,
    peers: PathBuf,
    has_host: bool,
}

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
        let mut options = Self {
            rounds: 3,
            seconds: 5,
            services: 2_000,
            kinds: KINDS.to_vec(),
            cells: load::CELLS.to_vec(),
            peers: PathBuf::from(target).join("peers"),
            has_host: true,
        };
        while let Some(name) = args.next() {
            let value = args.next().with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--rounds" => options.rounds = value.parse().context("--rounds is a number")?,
                "--seconds" => options.seconds = value.parse().context("--seconds is a number")?,
                "--services" => options.services = value.parse().context("--services: a number")?,
                "--kinds" => {
                    options.kinds.retain(|kind| value.split(',').any(|it| it == kind.name()));
                }
                "--cells" => {
                    options.cells.retain(|cell| value.split(',').any(|it| it == cell.name()));
                    options.has_host = value.split(',').any(|it| it == "host");
                }
                "--peers" => options.peers = value.into(),
                other => bail!("there is no option {other}; see the head of main.rs"),
            }
        }
        Ok(options)
    }
}

/// Figures by what was measured, and of whom.
type Figures = BTreeMap<(&'static str, Kind), Vec<f64>>;

fn main() -> anyhow::Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    if !options.cells.is_empty() {
        compare(&options)?;
    }
    if options.has_host {
        host::measure()?;
    }
    Ok(())
}

/// Asks the DNS of all programs in turn.
fn compare(options: &Options) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = Data::new(options.services);
    let load = Load::new(folder.path(), &data)?;
    let mut peers = Vec::new();
    for kind in &options.kinds {
        match Peer::start(*kind, &data, (folder.path(), &options.peers)) {
            Ok(peer) => peers.push(peer),
            Err(error) => eprintln!("SKIPPED {}: {error:#}", kind.name()),
        }
    }
    load::pin(std::process::id(), load::LOAD_CORE)?;
    let mut figures = Figures::new();
    for round in 0..options.rounds {
        for cell in &options.cells {
            for peer in &mut peers {
                if *cell == Cell::Tcp && peer.kind == Kind::Dnsmasq {
                    // It starts a process for each connection, which nobody counts.
                    continue;
                }
                if round == 0 {
                    // What comes of it is told when it counts.
                    let _ = load.run(*cell, peer, WARM_UP);
                }
                let ran = measure(*cell, peer, (&load, &data, options.seconds), &mut figures);
                match ran {
                    Err(error) if peer.kind != Kind::Weft => {
                        eprintln!("{} cannot keep up: {error:#}", peer.kind.name());
                    }
                    ran => ran?,
                }
            }
        }
    }
    print(&figures, options);
    Ok(())
}

/// Measures one program while its names change.
fn measure(
    cell: Cell,
    peer: &mut Peer,
    (load, data, seconds): (&Load, &Data, u64),
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let is_done = AtomicBool::new(false);
    let (address, kind, pid) = (peer.address, peer.kind, peer.pid);
    let changer = peer.changer()?;
    let ran = std::thread::scope(|scope| {
        let (is_done, data) = (&is_done, data);
        let changes = scope.spawn(move || {
            let (mut changer, began, mut count) = (changer, Instant::now(), 0_u32);
            while !is_done.load(Ordering::Relaxed) {
                changer.change(data, count)?;
                count += 1;
                let next = began + CHANGE_INTERVAL * count;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            anyhow::Ok(count)
        });
        let ran = load.run_at(cell, address, pid, Duration::from_secs(seconds));
        is_done.store(true, Ordering::Relaxed);
        let changes = changes.join().expect("no panic").context("changing names")?;
        anyhow::ensure!(changes > 0, "nothing changed");
        ran
    })?;
    eprintln!("{:<8} {:<6} {ran:?}", kind.name(), cell.name());
    for (figure, value) in cell.figures(&ran) {
        figures.entry((figure, kind)).or_default().push(value);
    }
    figures.entry(("RSS MB", kind)).or_default().push(weft_tests::proc::rss_mb(pid));
    Ok(())
}

fn median(figures: &Figures, figure: &'static str, kind: Kind) -> Option<f64> {
    let mut values = figures.get(&(figure, kind))?.clone();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn print(figures: &Figures, options: &Options) {
    let mut names: Vec<&'static str> = figures.keys().map(|(figure, _)| *figure).collect();
    names.dedup();
    print!("{:<28}", "");
    options.kinds.iter().for_each(|kind| print!("{:>10}", kind.name()));
    println!("{:>14}{:>11}", "weft/unbound", "weft/bind");
    for name in names {
        print!("{name:<28}");
        let of = |kind| median(figures, name, kind);
        for kind in &options.kinds {
            let shown = of(*kind).map_or("-".to_owned(), |value| format!("{value:.1}"));
            print!("{shown:>10}");
        }
        let ratio = |peer| Some(of(Kind::Weft)? / of(peer)?);
        let shown = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |it| format!("{it:.2}"));
        println!("{:>14}{:>11}", shown(ratio(Kind::Unbound)), shown(ratio(Kind::Bind)));
    }
    let Options { rounds, seconds, services, .. } = options;
    println!(
        "Conditions: {services} services x 3 instances, 70 % A, 20 % SRV, 10 % no such name, {} \
         changes a second; {rounds} rounds of {seconds} s",
        1_000 / CHANGE_INTERVAL.as_millis()
    );
}
