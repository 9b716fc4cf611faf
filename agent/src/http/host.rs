//! `/v1/agent/host`: the host as its system tells of itself.
//!
//! **Source**: Consul: api-docs/agent#retrieve-host-information; proc(5).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use weft_runtime::clock;

pub(super) fn shown() -> Value {
    let memory = table("/proc/meminfo");
    // The system counts in KiB.
    let bytes = |name: &str| memory.get(name).copied().unwrap_or(0).saturating_mul(1024);
    let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
    let used = total.saturating_sub(available);
    let percent = if total == 0 { 0.0 } else { used as f64 * 100.0 / total as f64 };
    let uptime = text("/proc/uptime");
    let uptime = uptime.split('.').next().and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    let now = clock::wall();
    let release = text("/etc/os-release");
    let said = |name: &str| {
        let values = release.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        values.map(|value| value.trim_matches('"').to_owned()).next().unwrap_or_default()
    };
    json!({
        "Memory": { "total": total, "available": available, "used": used,
            "usedPercent": percent, "free": bytes("MemFree") },
        "CPU": processors(),
        "Host": {
            "hostname": weft_runtime::net::host_name().unwrap_or_default(),
            "uptime": uptime,
            "bootTime": now.unix_seconds().saturating_sub(uptime),
            "os": std::env::consts::OS,
            "platform": said("ID"),
            "platformVersion": said("VERSION_ID"),
            "kernelVersion": text("/proc/sys/kernel/osrelease").trim(),
            "kernelArch": std::env::consts::ARCH,
        },
        "CollectionTime": now.0.saturating_mul(1_000_000),
        "Errors": null,
    })
}

/// What the system says in a file; nothing where it has none.
fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(path)).unwrap_or_default()
}

/// Reads lines `Name:  number unit`.
fn table(path: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
    };
    text(path).lines().filter_map(line).collect()
}

fn processors() -> Vec<Value> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let info = text("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map(|(_, name)| name.trim().to_owned()).unwrap_or_default();
    (0..count).map(|at| json!({ "cpu": at, "cores": 1, "modelName": model })).collect()
}
