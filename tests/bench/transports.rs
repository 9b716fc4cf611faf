//! QUIC beside TCP between our two proxies, on a wire that loses packets.
//!
//! Runs in a network of its own (`unshare --net`), where the kernel may be told to lose some of what goes
//! between the proxies and to send it in pieces of an Ethernet's size.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use serde_json::{Value, json};
use weft_core::config_entry::{CongestionControl, HopTransport, MeshTransport};
use weft_tests::tools;

use crate::load;
use crate::measure::measured;
use crate::pairs::{self, Layer, Pair, Rig};

/// What is compared.
const OVER: [(&str, MeshTransport, CongestionControl); 3] = [
    ("tcp", MeshTransport::Tcp, CongestionControl::Unset),
    ("quic, cubic", MeshTransport::Quic, CongestionControl::Cubic),
    ("quic, bbr", MeshTransport::Quic, CongestionControl::Bbr),
];
/// Whether packets have an Ethernet's size, and how many of a hundred are lost.
const WIRES: [(bool, u32); 4] = [(false, 0), (true, 0), (true, 1), (true, 3)];
const CONNECTIONS: usize = 64;
const SHORT_LANES: u32 = 8;
const SHORT_RATE: f64 = 1_000.0;

/// Measures everything once and prints a table.
pub(crate) fn run(rig: &Rig, time: Duration, json: &Path) -> anyhow::Result<()> {
    // Two lines of headings, then one for each link.
    let links = std::fs::read_to_string("/proc/net/dev")?.lines().count();
    ensure!(links == 3, "this runs in a network of its own: make bench-quic");
    nft("add table inet bench")?;
    nft("add chain inet bench wire { type filter hook input priority 0 ; }")?;
    let mut rows = Vec::new();
    println!("{}", HEADINGS.map(|heading| format!("{heading:>11}")).join(" "));
    for layer in [Layer::Http, Layer::Short, Layer::Tcp] {
        for (name, mesh_transport, congestion_control) in OVER {
            let transport = HopTransport { mesh_transport, congestion_control };
            let pair = pairs::start_over(rig, layer, transport)?;
            settle(mesh_transport)?;
            for (is_ethernet, lost) in WIRES {
                set_wire(pair.back, is_ethernet, lost)?;
                let figures =
                    measure(&pair, layer, time).with_context(|| format!("{name}, {lost} % lost"));
                set_wire(pair.back, false, 0)?;
                // What cannot be had is a figure as well.
                let figures = figures.unwrap_or_else(|error| vec![json!(format!("{error:#}"))]);
                let size = if is_ethernet { 1_500 } else { 65_536 };
                rows.push(json!({
                    "work": word(layer), "over": name, "packet_bytes": size, "lost_percent": lost,
                    "figures": figures,
                }));
                println!("{}", line(word(layer), name, (size, lost), &figures));
            }
        }
    }
    let text = serde_json::to_string_pretty(&rows)?;
    if let Some(folder) = json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(json, text).with_context(|| format!("writing {}", json.display()))
}

const HEADINGS: [&str; 9] =
    ["work", "over", "packet B", "lost %", "per s", "CPU us each", "p50 us", "p99 us", "errors"];

fn word(layer: Layer) -> &'static str {
    match layer {
        Layer::Http | Layer::Http2 => "requests",
        Layer::Short => "short",
        Layer::Tcp => "bulk, MB",
    }
}

fn line(work: &str, over: &str, (size, lost): (u32, u32), figures: &[Value]) -> String {
    let figures = figures.iter().map(|figure| match figure.as_f64() {
        Some(number) if number < 100.0 => format!("{number:11.2}"),
        Some(number) => format!("{number:11.0}"),
        None => figure.to_string(),
    });
    let figures: Vec<String> = figures.collect();
    format!("{work:>11} {over:>11} {size:>11} {lost:>11} {}", figures.join(" "))
}

/// Rate, processor time of both proxies for each, latencies; for bytes a megabyte is one.
fn measure(pair: &Pair, layer: Layer, time: Duration) -> anyhow::Result<Vec<Value>> {
    let cpu_seconds = || pair.cpu_seconds();
    let door = pair.front;
    let (seen, cpu) = match layer {
        Layer::Http | Layer::Http2 => {
            measured(&cpu_seconds, time, |time| load::saturate(door, "/2", CONNECTIONS, time))?
        }
        Layer::Short => {
            measured(&cpu_seconds, time, |time| load::short(door, SHORT_LANES, SHORT_RATE, time))?
        }
        Layer::Tcp => measured(&cpu_seconds, time, |time| load::drink(door, time))?,
    };
    let count = match layer {
        Layer::Http | Layer::Http2 | Layer::Short => seen.latencies.total() as f64,
        Layer::Tcp => seen.bytes as f64 / 1e6,
    };
    let mut figures = vec![json!(count / seen.seconds), json!(cpu * 1e6 / count.max(1e-9))];
    if layer != Layer::Tcp {
        figures.push(json!(seen.latencies.quantile_us(0.5)));
        figures.push(json!(seen.latencies.quantile_us(0.99)));
        figures.push(json!(seen.errors));
    }
    Ok(figures)
}

/// Makes sure that the caller's proxy has opened a UDP socket of its own, if it is to speak QUIC: beside
/// the doors of both proxies it is the third.
fn settle(transport: MeshTransport) -> anyhow::Result<()> {
    let sockets = std::fs::read_to_string("/proc/net/udp")?.lines().count() - 1;
    let is_quic = transport == MeshTransport::Quic;
    ensure!(!is_quic || sockets >= 3, "QUIC is not spoken: there are {sockets} UDP sockets");
    Ok(())
}

/// Has the kernel send between the proxies in pieces of an Ethernet's size, and lose some.
fn set_wire(back: SocketAddr, is_ethernet: bool, lost: u32) -> anyhow::Result<()> {
    let (mtu, segments) = if is_ethernet { ("1500", "1") } else { ("65536", "65535") };
    command("ip", &["link", "set", "lo", "mtu", mtu, "gso_max_segs", segments])?;
    nft("flush chain inet bench wire")?;
    for end in ["dport", "sport"] {
        if lost > 0 {
            let port = back.port();
            let which = format!("meta l4proto {{ tcp, udp }} th {end} {port}");
            let rule = format!("{which} numgen random mod 100 < {lost} drop");
            nft(&format!("add rule inet bench wire {rule}"))?;
        }
    }
    Ok(())
}

fn nft(line: &str) -> anyhow::Result<()> {
    command("nft", &line.split(' ').collect::<Vec<_>>())
}

fn command(program: &str, args: &[&str]) -> anyhow::Result<()> {
    tools::find(program)
        .with_context(|| format!("{program} is not installed (Debian: nftables, iproute2)"))?;
    let done = tools::run(program, args).ok();
    done.map(drop).map_err(|said| anyhow!("{program} {}: {said}", args.join(" ")))
}
