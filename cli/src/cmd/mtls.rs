//! `weft mtls`: who still talks plaintext to services of a host, and whether strict is safe.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use weft_core::time::{Span, Timestamp};
use weft_proto::json::mtls::MtlsBody;
use weft_runtime::clock;

use crate::client::ApiArgs;
use crate::output::{OutputArgs, Table, print, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  Let web take callers that have no sidecar yet:
    weft config write mesh.hcl      # Kind = \"mesh\"; AllowEnablingPermissiveMutualTLS = true
    weft config write web.hcl       # Kind = \"service-defaults\"; MutualTLSMode = \"permissive\"
  Who of them still comes without, on this host:
    weft mtls report
  On another one, by what happened in the last week:
    weft mtls report --http-addr 10.0.0.7:8500 --window 168h";

/// Flags of `weft mtls`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MtlsArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say of each service of the agent's host who came without mutual TLS
    Report(ReportArgs),
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// For how long nobody must have come without, for strict to be safe
    #[arg(long, value_name = "TIME", default_value = "24h")]
    window: Span,
    #[command(flatten)]
    output: OutputArgs,
}

/// Whether a service can do without plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// It does already.
    IsStrict,
    /// Somebody came within the window.
    NotSafe,
    /// Nobody came within the window.
    Safe,
    /// The proxy is not there, or has not counted for as long as the window.
    Unknown,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Judged {
    verdict: Verdict,
    reason: String,
    #[serde(flatten)]
    body: MtlsBody,
}

pub(crate) async fn run(args: MtlsArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    let What::Report(ReportArgs { window, output }) = args.what;
    let found: Vec<MtlsBody> = client.get("/v1/agent/mtls").await?.ok()?.json()?;
    let now = clock::wall();
    let judged: Vec<Judged> = found.into_iter().map(|body| judge(body, window.0, now)).collect();
    if output.json {
        print_json(&judged)?;
        return Ok(ExitCode::SUCCESS);
    }
    if judged.is_empty() {
        print_line("No service of this host has a sidecar.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["Service", "Mode", "Strict is safe", "Why"]);
    for Judged { verdict, reason, body } in &judged {
        let word = match verdict {
            Verdict::IsStrict => "is strict",
            Verdict::NotSafe => "no",
            Verdict::Safe => "yes",
            Verdict::Unknown => "unknown",
        };
        let row = [body.service.as_str(), &body.mode, word, reason];
        table.row(row.map(str::to_owned));
    }
    print(table.text())?;
    Ok(ExitCode::SUCCESS)
}

fn judge(body: MtlsBody, window: Duration, now: Timestamp) -> Judged {
    let told = |verdict, reason: String| (verdict, reason);
    let recent: Vec<String> = body
        .sources
        .iter()
        .filter(|it| now.since(Timestamp(it.last_seen_ms)) < window)
        .map(|it| format!("{} ({} connections, last {})", it.source, it.connections, it.last_seen))
        .collect();
    let counted = match body.counted_since_ms {
        0 => Duration::ZERO,
        since => now.since(Timestamp(since)),
    };
    let (verdict, reason) = match body.mode.as_str() {
        "strict" => told(Verdict::IsStrict, String::new()),
        _ if !recent.is_empty() => {
            told(Verdict::NotSafe, format!("plaintext from {}", recent.join(", ")))
        }
        _ if !body.is_connected => told(Verdict::Unknown, "its proxy is not running".to_owned()),
        _ if counted < window => {
            let counted = Span(Duration::from_secs(counted.as_secs()));
            told(Verdict::Unknown, format!("nobody came, but it is counted only since {counted}"))
        }
        _ => told(Verdict::Safe, format!("nobody came within {}", Span(window))),
    };
    Judged { verdict, reason, body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_proto::json::mtls::MtlsSource;

    #[test]
    fn strict_is_safe_when_nobody_came_for_a_whole_window() {
        let hour = 3_600_000;
        for (mode, since, last, is_connected, verdict) in [
            ("strict", 0, None, true, Verdict::IsStrict),
            ("permissive", 50 * hour, None, true, Verdict::Safe),
            ("permissive", 50 * hour, Some(30), true, Verdict::Safe),
            ("permissive", 50 * hour, Some(2), true, Verdict::NotSafe),
            ("permissive", 50 * hour, Some(2), false, Verdict::NotSafe),
            ("permissive", 2 * hour, None, true, Verdict::Unknown),
            ("permissive", 0, None, true, Verdict::Unknown),
            ("permissive", 50 * hour, None, false, Verdict::Unknown),
        ] {
            let now = Timestamp(1_000 * hour);
            let sources = last.map(|hours| MtlsSource {
                source: "10.0.0.1".to_owned(),
                connections: 1,
                last_seen: String::new(),
                last_seen_ms: now.0 - hours * hour,
            });
            let body = MtlsBody {
                proxy_id: "web-1-sidecar-proxy".to_owned(),
                service: "web".to_owned(),
                mode: mode.to_owned(),
                is_connected,
                counted_since: String::new(),
                counted_since_ms: if since == 0 { 0 } else { now.0 - since },
                sources: sources.into_iter().collect(),
            };
            let judged = judge(body, Duration::from_secs(24 * 3600), now);
            assert_eq!(judged.verdict, verdict, "{mode} {since} {last:?}: {}", judged.reason);
        }
    }
}
