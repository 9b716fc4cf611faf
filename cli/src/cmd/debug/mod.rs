//! `weft debug`: one archive of what support asks for first, without secrets.
//!
//! **Source**: Consul: commands/debug. Differs: no profile of the process.

mod pack;

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use weft_core::time::Span;
use weft_runtime::clock;
use weft_runtime::store::write_file;

use crate::client::{ApiArgs, ApiClient};
use crate::output::print_line;
use pack::Archive;

/// The longest time that is looked at: the archive is held in memory.
const DURATION_MAX: Duration = Duration::from_secs(3600);
/// The shortest time between two looks.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Bytes of the archive before it is compressed; more is left out and told.
const BYTES_MAX: usize = 128 << 20;
/// Bytes of one page.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Bytes of the end of a log.
const LOG_BYTES_MAX: u64 = 8 << 20;

const EXAMPLES: &str = "\
Examples:
  Look at the mesh for two minutes, every half minute:
    weft debug
  Look once, with the end of the agent's log:
    weft debug --duration 0s --log-file /var/log/weft/agent.log
  Look closely at a server:
    weft debug --http-addr 10.0.0.1:8500 --duration 5m --interval 5s --output server1.tar.gz";

/// What is asked at every look, and the file for the answer. None of these answers has a secret
/// in it.
const AT_EVERY_LOOK: [(&str, &str); 9] = [
    ("metrics.json", "/v1/agent/metrics"),
    ("metrics.prom", "/v1/agent/metrics?format=prometheus"),
    ("leader.json", "/v1/status/leader"),
    ("peers.json", "/v1/status/peers"),
    ("raft-configuration.json", "/v1/operator/raft/configuration?stale"),
    ("autopilot-state.json", "/v1/operator/autopilot/state"),
    ("agent-checks.json", "/v1/agent/checks"),
    ("agent-proxies.json", "/v1/agent/proxies"),
    ("critical.json", "/v1/health/state/critical?stale"),
];

/// What is asked once, at the start.
const ONCE: [(&str, &str); 9] = [
    ("agent-self.json", "/v1/agent/self"),
    ("agent-host.json", "/v1/agent/host"),
    ("agent-services.json", "/v1/agent/services"),
    ("agent-members.json", "/v1/agent/members"),
    ("autopilot-configuration.json", "/v1/operator/autopilot/configuration"),
    ("usage.json", "/v1/operator/usage"),
    ("digest.json", "/v1/operator/raft/digest?stale"),
    ("join-tokens.json", "/v1/operator/join-tokens"),
    ("nodes.json", "/v1/catalog/nodes?stale"),
];

/// Flags of `weft debug`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DebugArgs {
    /// How long to look, at most 1h; 0s looks once
    #[arg(long, value_name = "TIME", default_value = "2m")]
    duration: Span,
    /// The time between two looks, at least 1s
    #[arg(long, value_name = "TIME", default_value = "30s")]
    interval: Span,
    /// The file to write; it must not be there [default: weft-debug-TIME.tar.gz]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A log whose end goes into the archive; may be given several times
    #[arg(long, value_name = "FILE")]
    log_file: Vec<PathBuf>,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: DebugArgs) -> anyhow::Result<ExitCode> {
    let (duration, interval) = (args.duration.0, args.interval.0);
    if duration > DURATION_MAX || interval < INTERVAL_MIN {
        bail!("--duration is at most 1h and --interval at least 1s");
    }
    let client = args.api.client()?;
    let now = clock::wall().unix_seconds();
    let output = args.output.unwrap_or_else(|| format!("weft-debug-{now}.tar.gz").into());
    if output.exists() {
        bail!("{} is there already; name another file with --output", output.display());
    }
    // Known before anybody waits for minutes.
    let reachable = client.get("/v1/status/leader").await.map(drop);
    reachable.context("nothing was written")?;
    let mut archive = Archive::new(format!("weft-debug-{now}"), now, BYTES_MAX);
    let looks = 1 + duration.as_millis() / interval.as_millis();
    print_line(&format!("Looking {looks} time(s), every {} s …", interval.as_secs()))?;
    archive.add("host.json", &text(&host())?)?;
    let mut silent = add_pages(&mut archive, &client, "", &ONCE).await?;
    for look in 0..looks {
        if look > 0 {
            tokio::time::sleep(interval).await;
        }
        let part = format!("{look:04}/");
        let index =
            json!({ "Time": clock::wall().rfc3339(), "LoadAverage": read("/proc/loadavg") });
        archive.add(&format!("{part}look.json"), &text(&index)?)?;
        silent += add_pages(&mut archive, &client, &part, &AT_EVERY_LOOK).await?;
        print_line(&format!("  look {} of {looks}", look + 1))?;
    }
    for (at, log) in args.log_file.iter().enumerate() {
        let end = end_of(log).with_context(|| format!("cannot read {}", log.display()))?;
        archive.add(&format!("log-{at}.txt"), &end)?;
    }
    let left_out = archive.left_out();
    write_file(&output, 0o600, &archive.finish()?)
        .with_context(|| format!("cannot write {}", output.display()))?;
    if left_out > 0 {
        print_line(&format!("{left_out} file(s) were left out, as the archive was full."))?;
    }
    if silent > 0 {
        print_line(&format!("{silent} page(s) were not answered; their files say why."))?;
    }
    print_line(&format!(
        "Wrote {}. It holds no secrets, but names your hosts and services: read it with `tar xzf` \
         before you pass it on.",
        output.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Adds pages; returns how many were not answered.
async fn add_pages(
    archive: &mut Archive,
    client: &ApiClient,
    folder: &str,
    pages: &[(&str, &str)],
) -> anyhow::Result<usize> {
    let mut silent = 0;
    for (file, page) in pages {
        // A page that does not answer is worth knowing, too.
        let answer = client.get(page).await.and_then(crate::client::ApiAnswer::ok);
        let content = match answer {
            Ok(answer) if answer.body().len() <= PAGE_BYTES_MAX => answer.body().to_vec(),
            Ok(answer) => {
                text(&json!({ "Error": format!("{} bytes are too many", answer.body().len()) }))?
            }
            Err(error) => {
                silent += 1;
                text(&json!({ "Error": format!("{error:#}") }))?
            }
        };
        archive.add(&format!("{folder}{file}"), &content)?;
    }
    Ok(silent)
}

fn host() -> Value {
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Kernel": read("/proc/sys/kernel/osrelease"),
        "LoadAverage": read("/proc/loadavg"),
        "Uptime": read("/proc/uptime"),
        "Memory": read("/proc/meminfo").lines().take(5).collect::<Vec<_>>(),
        "OpenFiles": read("/proc/sys/fs/file-nr"),
        "Pressure": {
            "CPU": read("/proc/pressure/cpu"),
            "IO": read("/proc/pressure/io"),
            "Memory": read("/proc/pressure/memory"),
        },
        "Cores": std::thread::available_parallelism().map_or(0, usize::from),
    })
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn end_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_MAX)))?;
    let mut end = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut end)?;
    Ok(end)
}

fn text(value: &Value) -> anyhow::Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).context("cannot write JSON")
}
