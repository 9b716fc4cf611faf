//! `make bench-servers`: our servers beside Consul's and etcd's on the same work, in interleaved
//! rounds, with real syncs to disk on all sides.
//!
//! Every cell is measured for each kind before the next cell, so that a slow minute of the
//! machine falls on all. Figures are medians over rounds; only ratios within one run mean
//! something. Peers come from `tests/bench-servers/fetch-peers.sh`; one that is not there is
//! named and left out.
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `--servers` | sizes of clusters | `1,3` |
//! | `--rounds` | rounds over all cells | 3 |
//! | `--seconds` | length of one measurement | 3 |
//! | `--only` | cells whose name contains this text | all |
//! | `--kinds` | of `weft,consul,etcd` | all |
//! | `--data` | a folder on a real disk | `<target>/bench-servers` |
//! | `--peers` | where the peers' programs are | `<target>/peers` |
//! | `--weft` | our program | the `weft` beside this one |
//! | `--json` | print figures as JSON instead of a table | off |

mod cells;
mod load;
mod peers;
mod report;
mod watchers;
mod wire;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use cells::{WORK, Work};
use peers::{Cluster, KINDS, Kind, Programs};
use report::Report;
use weft_tests::process::weft;

/// How long each kind of work runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// Changes that watchers are woken by in a round.
const CHANGES: u64 = 20;
/// The name of the watchers' row.
const WATCH: &str = "500 watchers of a service";
const MEMORY: &str = "memory after all of it";

/// What the command line asks for.
struct Options {
    servers: Vec<usize>,
    rounds: usize,
    cell: Duration,
    only: String,
    kinds: Vec<Kind>,
    data: PathBuf,
    programs: Programs,
    is_json: bool,
}

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
        let target = PathBuf::from(target);
        let mut options = Self {
            servers: vec![1, 3],
            rounds: 3,
            cell: Duration::from_secs(3),
            only: String::new(),
            kinds: KINDS.to_vec(),
            data: target.join("bench-servers"),
            programs: Programs { weft: weft(), peers: target.join("peers") },
            is_json: false,
        };
        while let Some(name) = args.next() {
            if name == "--json" {
                options.is_json = true;
                continue;
            }
            let value = args.next().with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--servers" => options.servers = numbers(&value)?,
                "--rounds" => options.rounds = value.parse().context("--rounds is a number")?,
                "--seconds" => {
                    let seconds = value.parse().context("--seconds is a number")?;
                    options.cell = Duration::try_from_secs_f64(seconds)?;
                }
                "--only" => options.only = value,
                "--kinds" => {
                    options.kinds.retain(|kind| value.split(',').any(|it| it == kind.name()));
                }
                "--data" => options.data = value.into(),
                "--peers" => options.programs.peers = value.into(),
                "--weft" => options.programs.weft = value.into(),
                other => bail!("there is no option {other}; see the head of main.rs"),
            }
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }
}

fn numbers(text: &str) -> anyhow::Result<Vec<usize>> {
    text.split(',').map(|word| word.trim().parse().context("--servers 1,3")).collect()
}

fn main() -> anyhow::Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    std::fs::create_dir_all(&options.data)?;
    let disk = disk_of(&options.data)?;
    let began = Instant::now();
    let mut report = Report::default();
    for servers in &options.servers {
        measure(*servers, &options, &mut report, began)?;
    }
    report.conditions = conditions(&options, &disk, began.elapsed());
    match options.is_json {
        true => println!("{:#}", report.json()),
        false => println!("{}", report.text()),
    }
    Ok(())
}

/// Starts the clusters of one size, and goes over all cells in rounds.
fn measure(
    servers: usize,
    options: &Options,
    report: &mut Report,
    began: Instant,
) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&options.data)?;
    let mut clusters = Vec::new();
    for kind in &options.kinds {
        progress(began, &format!("starting {servers} of {}", kind.name()));
        match Cluster::start(*kind, servers, folder.path(), &options.programs) {
            Ok(cluster) => {
                report.version(*kind, &cluster.version);
                clusters.push(cluster);
            }
            Err(error) => report.skip(kind.name(), &format!("{error:#}")),
        }
    }
    for round in 1..=options.rounds {
        for work in WORK.iter().filter(|work| options.wants(work.name)) {
            // With one server any server is the leader.
            if servers == 1 && work.name.contains("any server") {
                continue;
            }
            progress(began, &format!("round {round} of {}: {}", options.rounds, work.name));
            for cluster in &mut clusters {
                cluster.find_leader()?;
                if let Err(error) = run(cluster, servers, work, options.cell, report) {
                    let what = format!("{} of {}", work.name, cluster.kind.name());
                    report.skip(&what, &format!("{error:#}"));
                }
            }
        }
        if options.wants(WATCH) {
            progress(began, &format!("round {round} of {}: {WATCH}", options.rounds));
            for cluster in clusters.iter().filter(|cluster| cluster.kind != Kind::Etcd) {
                if let Err(error) = watch(cluster, servers, report) {
                    report.skip(
                        &format!("{WATCH} of {}", cluster.kind.name()),
                        &format!("{error:#}"),
                    );
                }
            }
        }
    }
    for cluster in &clusters {
        report.note((servers, MEMORY), cluster.kind, "rss_mb", cluster.rss_mb());
    }
    Ok(())
}

fn run(
    cluster: &Cluster,
    servers: usize,
    work: &Work,
    time: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    if (work.request)(cluster.kind, 0, 0).is_none() {
        return Ok(());
    }
    let warmed = load::saturate(cluster, work, work.clients, WARM_UP)?;
    if let Some(failure) = warmed.failure {
        bail!("{failure}");
    }
    let before = cluster.cpu_seconds();
    let seen = load::saturate(cluster, work, work.clients, time)?;
    let cpu = cluster.cpu_seconds() - before;
    ensure!(seen.failure.is_none(), "{}", seen.failure.unwrap_or_default());
    let answers = seen.latencies.total().max(1) as f64;
    let row = (servers, work.name);
    let mut note = |figure, value| report.note(row, cluster.kind, figure, value);
    note("per_s", answers / seen.seconds);
    note("p50_ms", seen.latencies.quantile_us(0.5) / 1e3);
    note("p99_ms", seen.latencies.quantile_us(0.99) / 1e3);
    note("cpu_us", cpu * 1e6 / answers);
    Ok(())
}

fn watch(cluster: &Cluster, servers: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut woken = watchers::wake(cluster, CHANGES)?;
    woken.first.sort_by(f64::total_cmp);
    woken.last.sort_by(f64::total_cmp);
    let at = |values: &[f64], share: f64| {
        let place = ((values.len() as f64) * share).ceil() as usize;
        values.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    let mut note = |figure, value| report.note((servers, WATCH), cluster.kind, figure, value);
    note("first_ms", at(&woken.first, 0.5));
    note("last_p50_ms", at(&woken.last, 0.5));
    note("last_p99_ms", at(&woken.last, 0.99));
    note("p50_ms", woken.each.quantile_us(0.5) / 1e3);
    note("p99_ms", woken.each.quantile_us(0.99) / 1e3);
    Ok(())
}

fn progress(began: Instant, what: &str) {
    eprintln!("[{:4} s] {what}", began.elapsed().as_secs());
}

/// What the folder lies on; a disk in memory has no syncs to measure.
fn disk_of(folder: &Path) -> anyhow::Result<String> {
    let output = Command::new("findmnt").args(["-no", "FSTYPE", "-T"]).arg(folder).output()?;
    let kind = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(
        kind != "tmpfs" && kind != "ramfs",
        "{} lies in memory; name a folder on a disk with --data",
        folder.display()
    );
    Ok(kind)
}

fn conditions(options: &Options, disk: &str, took: Duration) -> String {
    let read = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default()
    };
    format!(
        "{}, Linux {}, {} cores, data on {disk}, {} rounds of {} s a cell, {} s in all, values of \
         256 B, one connection a client; mutual TLS between our servers, none between the peers'",
        read("date", &["-u", "+%Y-%m-%d %H:%M"]),
        read("uname", &["-r"]),
        read("nproc", &[]),
        options.rounds,
        options.cell.as_secs_f64(),
        took.as_secs(),
    )
}
