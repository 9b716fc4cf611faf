//! `weft ps`: the proxies of a host, what each has in force, and what is wrong with it.

use std::process::ExitCode;

use clap::Args;
use weft_proto::json::proxies::{ProxyBody, ProxyState};

use crate::client::ApiArgs;
use crate::output::{OutputArgs, Table, print, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  Which proxies of this host run, and does each have the newest configuration:
    weft ps
  The same of one service, on another host:
    weft ps web --http-addr 10.0.0.7:8500
  Which do not serve as they should, for scripts:
    weft ps --json | jq -r '.[] | select(.State != \"in-force\") | .ProxyID'";

/// Flags of `weft ps`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PsArgs {
    /// Show the proxies of this service alone
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: PsArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    let mut found: Vec<ProxyBody> = client.get("/v1/agent/proxies").await?.ok()?.json()?;
    if let Some(service) = &args.service {
        found.retain(|proxy| proxy.service == *service);
    }
    if args.output.json {
        print_json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        print_line(match args.service {
            Some(_) => {
                "No proxy of that service is registered on this host, or none that this token may see."
            }
            None => "No proxy is registered on this host, or none that this token may see.",
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    print(text(&found))?;
    Ok(ExitCode::SUCCESS)
}

/// A table, and below it a line for each thing that is wrong.
fn text(found: &[ProxyBody]) -> String {
    let mut table = Table::new(&[
        "Proxy",
        "Service",
        "State",
        "Shape",
        "PID",
        "Weft",
        "Generation",
        "In force",
        "Since",
        "Certificate until",
    ]);
    for proxy in found {
        let number = |number: u64| if number == 0 { String::new() } else { number.to_string() };
        let has_run = !proxy.version.is_empty();
        table.row([
            proxy.proxy_id.clone(),
            proxy.service.clone(),
            word(proxy.state).to_owned(),
            proxy.shape.clone(),
            proxy.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            proxy.version.clone(),
            if has_run { proxy.generation.to_string() } else { String::new() },
            number(proxy.acknowledged),
            proxy.acknowledged_at.clone(),
            proxy.leaf_valid_before.clone(),
        ]);
    }
    let mut text = table.text();
    for line in found.iter().flat_map(faults) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn word(state: ProxyState) -> &'static str {
    match state {
        ProxyState::Disconnected => "disconnected",
        ProxyState::InForce => "in force",
        ProxyState::ListenersMissing => "listeners missing",
        ProxyState::NeverConnected => "never connected",
        ProxyState::Pending => "pending",
        ProxyState::Refused => "refused",
        ProxyState::Waiting => "waiting",
    }
}

/// What is wrong with a proxy, each in a line.
fn faults(proxy: &ProxyBody) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(refused) = &proxy.refused {
        let (version, at, reason) = (refused.version, &refused.at, &refused.reason);
        lines.push(format!("refused configuration {version} at {at}: {reason}"));
    }
    lines.extend(proxy.missing_listeners.iter().map(|it| format!("listener missing: {it}")));
    lines.extend(proxy.problems.iter().cloned());
    if !proxy.last_seen.is_empty() {
        lines.push(format!("last seen at {}", proxy.last_seen));
    }
    lines.into_iter().map(|line| format!("{}: {line}", proxy.proxy_id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_proto::json::proxies::RefusedBody;

    #[test]
    fn what_is_wrong_stands_below_the_table() {
        let proxy = ProxyBody {
            proxy_id: "web-1-sidecar-proxy".to_owned(),
            service: "web".to_owned(),
            state: ProxyState::Refused,
            shape: "sidecar".to_owned(),
            pid: Some(42),
            version: "0.1.0".to_owned(),
            generation: 1,
            connected_since: String::new(),
            last_seen: String::new(),
            configuration: 8,
            acknowledged: 7,
            acknowledged_at: "2026-01-31T12:00:00.000Z".to_owned(),
            refused: Some(RefusedBody {
                version: 8,
                reason: "the leaf cannot be used".to_owned(),
                at: "2026-01-31T12:00:01.000Z".to_owned(),
            }),
            missing_listeners: vec!["127.0.0.1:80: in use".to_owned()],
            problems: vec!["upstream db: it has no chain".to_owned()],
            leaf_valid_before: String::new(),
        };
        let text = text(&[proxy]);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let first = "web-1-sidecar-proxy  web      refused  sidecar  42   0.1.0  1           7";
        assert!(lines[0].starts_with(first), "{text}");
        assert_eq!(
            lines[1..],
            [
                "web-1-sidecar-proxy: refused configuration 8 at 2026-01-31T12:00:01.000Z: the leaf \
                 cannot be used",
                "web-1-sidecar-proxy: listener missing: 127.0.0.1:80: in use",
                "web-1-sidecar-proxy: upstream db: it has no chain",
            ]
        );
    }
}
