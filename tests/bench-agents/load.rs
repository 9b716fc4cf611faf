//! The load: dnsperf, and what it says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use weft_tests::proc;

use crate::data::Data;
use crate::peers::Peer;

/// The core of the measured program.
pub(crate) const PEER_CORE: &str = "1";
/// The core of all else.
pub(crate) const LOAD_CORE: &str = "0";
/// Queries a second of the paced load.
const PACED: u32 = 5_000;

/// How a program is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    /// At a fixed rate over UDP: how long an answer takes.
    Paced,
    /// As fast as it can over TCP.
    Tcp,
    /// As fast as it can over UDP.
    Udp,
}

pub(crate) const CELLS: [Cell; 3] = [Cell::Udp, Cell::Paced, Cell::Tcp];

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    per_second: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
}

/// What asks.
pub(crate) struct Load {
    queries: PathBuf,
}

impl Cell {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Paced => "paced",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The figures that this cell is for.
    pub(crate) fn figures(self, ran: &Ran) -> Vec<(&'static str, f64)> {
        match self {
            Self::Paced => vec![
                ("UDP at 5,000/s, CPU us", ran.cpu_us),
                ("UDP at 5,000/s, p50 us", ran.p50_us),
                ("UDP at 5,000/s, p99 us", ran.p99_us),
            ],
            Self::Tcp => vec![("TCP, queries/s", ran.per_second), ("TCP, CPU us", ran.cpu_us)],
            Self::Udp => vec![("UDP, queries/s", ran.per_second), ("UDP, CPU us", ran.cpu_us)],
        }
    }
}

impl Load {
    pub(crate) fn new(folder: &Path, data: &Data) -> anyhow::Result<Self> {
        let queries = folder.join("queries");
        std::fs::write(&queries, data.queries())?;
        Ok(Self { queries })
    }

    pub(crate) fn run(&self, cell: Cell, peer: &Peer, time: Duration) -> anyhow::Result<Ran> {
        self.run_at(cell, peer.address, peer.pid, time)
    }

    /// Asks for a time, and counts what the program with that id spends.
    pub(crate) fn run_at(
        &self,
        cell: Cell,
        address: SocketAddr,
        pid: u32,
        time: Duration,
    ) -> anyhow::Result<Ran> {
        let mut command = Command::new("taskset");
        command.args(["-c", LOAD_CORE]);
        if is_real_time() {
            command.args(["chrt", "-r", "1"]);
        }
        command.arg("dnsperf").arg("-d").arg(&self.queries);
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        command.args(["-s", &ip, "-p", &port, "-l", &time.as_secs().max(1).to_string(), "-c", "8"]);
        let paced = PACED.to_string();
        match cell {
            Cell::Paced => command.args(["-Q", &paced, "-v"]),
            Cell::Tcp => command.args(["-m", "tcp", "-q", "400"]),
            Cell::Udp => command.args(["-q", "400"]),
        };
        let before = proc::cpu_seconds(pid);
        let output = command.stdin(Stdio::null()).output().context("dnsperf")?;
        let cpu = proc::cpu_seconds(pid) - before;
        ensure!(output.status.success(), "dnsperf: {}", String::from_utf8_lossy(&output.stderr));
        read(&String::from_utf8_lossy(&output.stdout), cpu)
    }
}

/// Reads what dnsperf prints at its end, and each answer's time where it tells it.
fn read(text: &str, cpu: f64) -> anyhow::Result<Ran> {
    let mut times = Vec::new();
    let mut values = BTreeMap::new();
    let mut codes = "";
    for line in text.lines() {
        if line.starts_with("> ") {
            times.extend(line.split_whitespace().last().and_then(|it| it.parse::<f64>().ok()));
        } else if let Some((name, value)) = line.trim().split_once(':') {
            let number = value.split_whitespace().next().and_then(|it| it.parse::<f64>().ok());
            if name == "Response codes" {
                codes = value;
            }
            values.insert(name, number.unwrap_or_default());
        }
    }
    let value = |name: &str| values.get(name).copied().unwrap_or_default();
    let completed = value("Queries completed");
    ensure!(completed > 0.0, "no answers: {text}");
    let lost = value("Queries lost");
    ensure!(lost < completed / 100.0, "{lost} queries were lost");
    // Whoever answers something else does other work.
    let known = codes.matches("NOERROR").count() + codes.matches("NXDOMAIN").count();
    ensure!(known == 2 && codes.matches(',').count() == 1, "other answers than asked for: {codes}");
    times.sort_by(f64::total_cmp);
    let quantile = |share: f64| {
        let at = ((times.len() as f64) * share) as usize;
        times.get(at).copied().unwrap_or_default() * 1e6
    };
    Ok(Ran {
        per_second: value("Queries per second"),
        cpu_us: cpu / completed * 1e6,
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
    })
}

fn is_real_time() -> bool {
    std::env::var_os("BENCH_RR").is_some()
}

/// Puts a process with all its threads on a core.
pub(crate) fn pin(pid: u32, core: &str) -> anyhow::Result<()> {
    let pid = pid.to_string();
    let run = |program: &str, args: &[&str]| -> anyhow::Result<()> {
        let done = Command::new(program).args(args).stdout(Stdio::null()).status();
        ensure!(done.with_context(|| format!("running {program}"))?.success(), "{program} failed");
        Ok(())
    };
    run("taskset", &["-a", "-p", "-c", core, &pid])?;
    if is_real_time() && core == PEER_CORE {
        run("chrt", &["-a", "-r", "-p", "1", &pid])?;
    }
    Ok(())
}
