//! `weft top`: who calls whom through the proxies of a host, how often, and how well.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;
use weft_core::traffic::flow::FlowRate;
use weft_proto::json::flows::FlowsBody;

use crate::client::{ApiArgs, encode};
use crate::follow::{Lines, Taken, follow};
use crate::output::{CLEAR, Table, write_piece};

const EXAMPLES: &str = "\
Examples:
  Who calls whom on this host, the busiest first:
    weft top
  What goes in and out of web, over ten seconds each:
    weft top web --interval 10
  Once, for scripts: calls of which more than one in a hundred fails:
    weft top --once --json | jq '.Flows[] | select(.SuccessRate < 0.99)'";

/// Flags of `weft top`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArgs {
    /// Only what goes in and out of this service
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// Seconds over which is counted
    #[arg(long, value_name = "SECONDS", default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=60))]
    interval: u32,
    /// Rows at most
    #[arg(long, value_name = "NUMBER", default_value_t = 40)]
    rows: usize,
    /// Show one interval, and end
    #[arg(long)]
    once: bool,
    /// Print each interval as a JSON object on a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: TopArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    let service = args.service.as_deref().unwrap_or_default();
    let path = format!("/v1/agent/flows?service={}&interval={}", encode(service), args.interval);
    let is_screen = io::stdout().is_terminal() && !args.once;
    let mut lines = Lines::default();
    follow(&client, &path, |piece| {
        let whole = lines.take(piece);
        for line in whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if show(line, &args, is_screen)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

fn show(line: &[u8], args: &TopArgs, is_screen: bool) -> Taken {
    let mut body: FlowsBody = serde_json::from_slice(line)?;
    if args.json {
        body.flows.truncate(args.rows);
        write_piece(format!("{}\n", serde_json::to_string(&body)?).as_bytes())?;
    } else {
        let clear = if is_screen { CLEAR } else { "" };
        write_piece(format!("{clear}{}", text(&body, args.rows)).as_bytes())?;
    }
    Ok(if args.once { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
}

/// The time, and a table of what goes on.
fn text(body: &FlowsBody, rows: usize) -> String {
    let FlowsBody { time, interval_seconds, flows } = body;
    let mut text = format!("{time}, over {interval_seconds} s\n");
    if flows.is_empty() {
        text.push_str("Nothing goes through the proxies of this host, or nothing that this token may see.\n\n");
        return text;
    }
    let mut table = Table::new(&[
        "Direction",
        "From",
        "To",
        "Route",
        "Protocol",
        "Req/s",
        "Success",
        "p50",
        "p95",
        "p99",
        "Open",
        "Conn/s",
        "Out B/s",
        "In B/s",
    ]);
    for flow in flows.iter().take(rows) {
        table.row(cells(flow));
    }
    text.push_str(&table.text());
    if flows.len() > rows {
        text.push_str(&format!(
            "({} more with less to do; --rows shows them)\n",
            flows.len() - rows
        ));
    }
    text.push('\n');
    text
}

fn cells(flow: &FlowRate) -> [String; 14] {
    let name = &flow.name;
    let some = |value: f64| if value > 0.0 { format!("{value:.1}") } else { String::new() };
    let whole = |value: f64| if value > 0.0 { format!("{value:.0}") } else { String::new() };
    let millis = |value: Option<f64>| value.map(|it| format!("{it:.1}ms")).unwrap_or_default();
    let number = |value: u64| if value == 0 { String::new() } else { value.to_string() };
    [
        name.direction.as_str().to_owned(),
        name.source.clone(),
        name.destination.clone(),
        number(name.route.into()),
        name.protocol.to_string(),
        some(flow.requests_per_second),
        flow.success_rate.map(percent).unwrap_or_default(),
        millis(flow.p50_ms),
        millis(flow.p95_ms),
        millis(flow.p99_ms),
        number(flow.open_connections),
        some(flow.connections_per_second),
        whole(flow.sent_bytes_per_second),
        whole(flow.received_bytes_per_second),
    ]
}

/// Never 100 while anything failed.
fn percent(share: f64) -> String {
    let hundredths = (share * 10_000.0).floor() / 100.0;
    format!("{hundredths:.2}%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::config_entry::Protocol;
    use weft_core::traffic::flow::{FlowName, FlowSide};

    fn flow(source: &str) -> FlowRate {
        FlowRate {
            name: FlowName {
                direction: FlowSide::Outbound,
                source: source.to_owned(),
                destination: "web".to_owned(),
                target: "web.default.dc1.internal.mesh".to_owned(),
                route: 2,
                protocol: Protocol::Http,
            },
            requests_per_second: 12.34,
            success_rate: Some(0.999_99),
            p50_ms: Some(1.25),
            p95_ms: Some(4.0),
            p99_ms: Some(4.96),
            open_connections: 0,
            connections_per_second: 0.0,
            sent_bytes_per_second: 0.0,
            received_bytes_per_second: 0.0,
        }
    }

    #[test]
    fn a_row_shows_who_calls_whom_and_one_failure_is_seen() {
        let body = FlowsBody {
            time: "2026-01-31T12:00:00.000Z".to_owned(),
            interval_seconds: 2,
            flows: vec![flow("shop"), flow("desk")],
        };
        let shown = text(&body, 1);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "2026-01-31T12:00:00.000Z, over 2 s");
        let cells: Vec<&str> = lines[2].split_whitespace().collect();
        let expected = [
            "outbound", "shop", "web", "2", "http", "12.3", "99.99%", "1.2ms", "4.0ms", "5.0ms",
            "-", "-", "-", "-",
        ];
        assert_eq!(cells, expected);
        assert_eq!(lines[3], "(1 more with less to do; --rows shows them)");
        let nothing = FlowsBody { flows: Vec::new(), ..body };
        assert!(text(&nothing, 1).contains("Nothing goes through"));
    }
}
