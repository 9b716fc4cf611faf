//! `weft debug`: a folder of what support asks for first, without secrets.
//!
//! **Source**: Consul: commands/debug. Differs: a folder of JSON files, which `tar` packs; no
//! profile of the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use crate::client::{ApiArgs, ApiClient};
use crate::output::print_line;

const EXAMPLES: &str = "\
Examples:
  Look at the mesh now:
    weft debug
  Every ten seconds for a minute, and pack it:
    weft debug --duration 60 --interval 10 --output weft-debug && tar czf weft-debug.tar.gz weft-debug";

/// What is asked, and the file for the answer. None of these answers has a secret in it.
const PAGES: [(&str, &str); 12] = [
    ("agent-self.json", "/v1/agent/self"),
    ("agent-checks.json", "/v1/agent/checks"),
    ("agent-services.json", "/v1/agent/services"),
    ("agent-metrics.json", "/v1/agent/metrics"),
    ("leader.json", "/v1/status/leader"),
    ("peers.json", "/v1/status/peers"),
    ("raft-configuration.json", "/v1/operator/raft/configuration?stale"),
    ("autopilot-state.json", "/v1/operator/autopilot/state"),
    ("autopilot-configuration.json", "/v1/operator/autopilot/configuration"),
    ("usage.json", "/v1/operator/usage"),
    ("nodes.json", "/v1/catalog/nodes?stale"),
    ("critical.json", "/v1/health/state/critical?stale"),
];

/// Flags of `weft debug`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DebugArgs {
    /// How long to look, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    duration: u64,
    /// The time between two looks, in seconds, at least one
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// The folder to write; it must not be there; weft-debug and the time when left out
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: DebugArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    let now = weft_runtime::clock::wall().unix_seconds();
    let folder = args.output.unwrap_or_else(|| PathBuf::from(format!("weft-debug-{now}")));
    fs::create_dir(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    write(&folder.join("host.json"), &host())?;
    let looks = 1 + args.duration / args.interval;
    for look in 0..looks {
        if look > 0 {
            tokio::time::sleep(Duration::from_secs(args.interval)).await;
        }
        let part = folder.join(format!("{look:04}"));
        fs::create_dir(&part).with_context(|| format!("cannot make {}", part.display()))?;
        for (file, page) in PAGES {
            write(&part.join(file), &ask(&client, page).await)?;
        }
    }
    print_line(&format!(
        "Wrote {looks} look(s) to {}. Read it before you pass it on: it names your hosts and services.",
        folder.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A page that does not answer is worth knowing, too.
async fn ask(client: &ApiClient, page: &str) -> Value {
    let answer = match client.get(page).await.and_then(crate::client::ApiAnswer::ok) {
        Ok(answer) => answer,
        Err(error) => return json!({ "Error": format!("{error:#}") }),
    };
    answer.json().unwrap_or_else(|error| json!({ "Error": format!("{error:#}") }))
}

fn host() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Kernel": read("/proc/sys/kernel/osrelease"),
        "LoadAverage": read("/proc/loadavg"),
        "Uptime": read("/proc/uptime"),
        "Memory": read("/proc/meminfo").lines().take(5).collect::<Vec<_>>(),
        "Cores": std::thread::available_parallelism().map_or(0, usize::from),
    })
}

fn write(path: &Path, value: &Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
