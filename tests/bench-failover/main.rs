//! How long a cluster of three is without a leader after `kill -9` of the one it had.
//!
//! Measured from the kill to the first write that is acknowledged, through a server that
//! survived. `weft-failover [KILLS]`; 50 when left out.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use weft_tests::Servers;

/// Lines of each server's log that are shown of a case that took too long.
const LINES_SHOWN: usize = 40;

/// Kills when nothing else is said: enough for the 98th percentile.
const KILLS_DEFAULT: usize = 50;
/// The figures that are promised, at default settings.
const MEDIAN_MAX: Duration = Duration::from_millis(1_500);
const P99_MAX: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let kills = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let mut servers = Servers::start(3);
    servers.wait_members(0, 3, 0);
    let mut times: Vec<Duration> = Vec::new();
    for number in 0..kills.unwrap_or(KILLS_DEFAULT) {
        let leader = servers.leader(0);
        let other = (leader + 1) % 3;
        servers.all[other].put("warm", "1").unwrap_or_default();
        let killed = Instant::now();
        servers.all[leader].process.kill();
        let mut refusals = Vec::new();
        while let Err(reason) = servers.all[other].put(&format!("kill/{number}"), "1") {
            refusals.push((killed.elapsed(), reason));
        }
        let took = killed.elapsed();
        if took > P99_MAX {
            explain(number, took, &refusals, &servers);
        }
        times.push(took);
        servers.all[leader].restart();
        servers.wait_members(leader, 3, 0);
    }
    times.sort_unstable();
    let at = |share: f64| {
        let last = times.len().saturating_sub(1);
        // Nearest rank; the figures are few enough to be exact.
        times[((times.len() as f64 * share).ceil() as usize).saturating_sub(1).min(last)]
    };
    let (median, p99) = (at(0.5), at(0.99));
    println!(
        "{} kills of the leader: first write after {:?} (median), {:?} (p90), {p99:?} (p99), \
         {:?} at most",
        times.len(),
        median,
        at(0.9),
        at(1.0),
    );
    if median <= MEDIAN_MAX && p99 <= P99_MAX { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shows of a case that took too long what the writes were told, and what the servers say.
fn explain(number: usize, took: Duration, refusals: &[(Duration, String)], servers: &Servers) {
    eprintln!("kill {number}: the first write was acknowledged after {took:?}");
    for (at, reason) in refusals {
        eprintln!("  after {at:?} a write was told: {reason}");
    }
    for server in &servers.all {
        let log = server.process.log();
        let from = log.lines().count().saturating_sub(LINES_SHOWN);
        eprintln!("  {}:", server.name);
        for line in log.lines().skip(from) {
            eprintln!("    {line}");
        }
    }
}
