//! One pair, one kind of work, one figure: rates, processor time, latencies, memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::ensure;

use crate::certificates;
use crate::h2::{self, Asked};
use crate::load::{self, Seen};
use crate::pairs::Pair;

/// Client connections at saturation.
const CONNECTIONS: usize = 64;
/// Client connections at the fixed rate.
const PACED_CONNECTIONS: u32 = 16;
/// The fixed rate, in requests per second.
pub(crate) const FIXED_RATE: f64 = 2_000.0;
/// Connections that are opened to see what an idle one costs.
const IDLE_CONNECTIONS: usize = 1_000;
/// New mTLS connections at once.
const HANDSHAKE_LANES: usize = 8;
/// Short connections at once, and how many a second.
const SHORT_LANES: u32 = 8;
const SHORT_RATE: f64 = 1_000.0;
/// How long each kind of work runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(300);

/// Values of each figure, one a round.
pub(crate) type Figures = BTreeMap<&'static str, Vec<f64>>;

fn note(figures: &mut Figures, name: &'static str, value: f64) {
    figures.entry(name).or_default().push(value);
}

/// Runs some work after a warm-up, and returns what was seen and the processor time it took.
pub(crate) fn measured(
    cpu_seconds: &impl Fn() -> f64,
    time: Duration,
    work: impl Fn(Duration) -> anyhow::Result<Seen>,
) -> anyhow::Result<(Seen, f64)> {
    work(WARM_UP)?;
    let before = cpu_seconds();
    let seen = work(time)?;
    let cpu = cpu_seconds() - before;
    ensure!(
        seen.errors * 1_000 <= seen.latencies.total() || seen.bytes > 0,
        "{} errors beside {} answers",
        seen.errors,
        seen.latencies.total()
    );
    Ok((seen, cpu))
}

/// Saturation with 2 B and 10 KB, then the fixed rate with 2 B.
pub(crate) fn requests(
    door: SocketAddr,
    cpu_seconds: impl Fn() -> f64,
    time: Duration,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let (seen, cpu) =
        measured(&cpu_seconds, time, |time| load::saturate(door, "/2", CONNECTIONS, time))?;
    note(figures, "rps_2b", seen.rate());
    note(figures, "cpu_s_per_100k_2b", per_100k(cpu, &seen));
    note(figures, "p50_us_2b", seen.latencies.quantile_us(0.5));
    note(figures, "p99_us_2b", seen.latencies.quantile_us(0.99));
    let (seen, cpu) =
        measured(&cpu_seconds, time, |time| load::saturate(door, "/10k", CONNECTIONS, time))?;
    note(figures, "rps_10k", seen.rate());
    note(figures, "cpu_s_per_100k_10k", per_100k(cpu, &seen));
    let (seen, cpu) = measured(&cpu_seconds, time, |time| {
        load::pace(door, "/2", FIXED_RATE, PACED_CONNECTIONS, time)
    })?;
    note(figures, "rps_fixed", seen.rate());
    note(figures, "p50_us_fixed", seen.latencies.quantile_us(0.5));
    note(figures, "p99_us_fixed", seen.latencies.quantile_us(0.99));
    note(figures, "cpu_s_per_100k_fixed", per_100k(cpu, &seen));
    Ok(())
}

/// Saturation over HTTP/2: requests of 2 B, then unary calls of gRPC.
pub(crate) fn http2(
    door: SocketAddr,
    cpu_seconds: impl Fn() -> f64,
    time: Duration,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let (seen, cpu) = measured(&cpu_seconds, time, |time| h2::saturate(door, Asked::Http, time))?;
    note(figures, "rps_h2", seen.rate());
    note(figures, "cpu_s_per_100k_h2", per_100k(cpu, &seen));
    note(figures, "p50_us_h2", seen.latencies.quantile_us(0.5));
    note(figures, "p99_us_h2", seen.latencies.quantile_us(0.99));
    let (seen, cpu) = measured(&cpu_seconds, time, |time| h2::saturate(door, Asked::Grpc, time))?;
    note(figures, "rps_grpc", seen.rate());
    note(figures, "cpu_s_per_100k_grpc", per_100k(cpu, &seen));
    note(figures, "p50_us_grpc", seen.latencies.quantile_us(0.5));
    note(figures, "p99_us_grpc", seen.latencies.quantile_us(0.99));
    Ok(())
}

fn per_100k(cpu: f64, seen: &Seen) -> f64 {
    cpu * 100_000.0 / (seen.latencies.total().max(1) as f64)
}

/// New mTLS connections straight into B, as the caller's identity.
pub(crate) fn handshakes(
    pair: &Pair,
    caller: &certificates::Pair,
    time: Duration,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let client = certificates::client(caller, pair.alpn)?;
    load::handshake(pair.back, &client)?;
    let cpu = || pair.b.cpu_seconds();
    let work = |time| load::handshakes(pair.back, &client, HANDSHAKE_LANES, time);
    let (seen, cpu) = measured(&cpu, time, work)?;
    note(figures, "mtls_conn_per_s", seen.rate());
    note(figures, "mtls_cpu_us_per_conn", cpu * 1e6 / (seen.latencies.total().max(1) as f64));
    Ok(())
}

/// Memory at start, and what idle client connections add.
pub(crate) fn memory(pair: &Pair, figures: &mut Figures) -> anyhow::Result<()> {
    let (a, b) = (pair.a.rss_mb(), pair.b.rss_mb());
    note(figures, "rss_mb_a", a);
    note(figures, "rss_mb_b", b);
    let connections = load::idle(pair.front, IDLE_CONNECTIONS)?;
    // The last answers are out; what the proxies do after them takes a moment.
    thread::sleep(WARM_UP);
    note(figures, "idle_mb_per_1k_a", pair.a.rss_mb() - a);
    note(figures, "idle_mb_per_1k_b", pair.b.rss_mb() - b);
    drop(connections);
    thread::sleep(WARM_UP);
    Ok(())
}

/// One stream of bytes.
pub(crate) fn bytes(
    door: SocketAddr,
    cpu_seconds: impl Fn() -> f64,
    time: Duration,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let (seen, cpu) = measured(&cpu_seconds, time, |time| load::drink(door, time))?;
    note(figures, "tcp_gbit_per_s", seen.bytes as f64 * 8.0 / 1e9 / seen.seconds);
    note(figures, "tcp_cpu_s_per_gb", cpu / (seen.bytes as f64 / 1e9));
    Ok(())
}

/// TCP connections that ask once and end, through a pair that sees bytes.
pub(crate) fn short(
    door: SocketAddr,
    cpu_seconds: impl Fn() -> f64,
    time: Duration,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let work = |time| load::short(door, SHORT_LANES, SHORT_RATE, time);
    let (seen, cpu) = measured(&cpu_seconds, time, work)?;
    note(figures, "short_per_s", seen.rate());
    note(figures, "short_cpu_us", cpu * 1e6 / (seen.latencies.total().max(1) as f64));
    note(figures, "short_p50_us", seen.latencies.quantile_us(0.5));
    Ok(())
}
