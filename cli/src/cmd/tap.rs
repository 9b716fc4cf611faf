//! `weft tap`: requests and connections of a service's proxies while they happen.

use std::io;
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use weft_core::identity::SpiffeId;
use weft_core::log_format::shown_text;
use weft_core::traffic::tap::{TapEvent, TapKind, TapLatency};

use crate::client::{ApiArgs, encode};
use crate::follow::{Lines, follow};
use crate::output::write_piece;

const EXAMPLES: &str = "\
Examples:
  Watch what goes in and out of web on this host:
    weft tap web
  Only what shop gets from it with an error:
    weft tap web --from shop --status 5xx
  The next ten calls of one path, with everything that is known of each:
    weft tap web --to web --path /api/ --max 10 --json";

/// Flags of `weft tap`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TapArgs {
    /// Whose proxies are to look: those of this service on the agent's host
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Only calls of this service
    #[arg(long, value_name = "SERVICE")]
    from: Option<String>,
    /// Only calls to this service
    #[arg(long, value_name = "SERVICE")]
    to: Option<String>,
    /// Only requests with this method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Only requests whose path begins so
    #[arg(long, value_name = "START")]
    path: Option<String>,
    /// Only answers with this status: 503, 5xx, 500-599; 0 for no answer
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Only requests with this header, or with this value of it
    #[arg(long, value_name = "NAME[:VALUE]")]
    header: Option<String>,
    /// End after so many
    #[arg(long, value_name = "NUMBER")]
    max: Option<u64>,
    /// Show at most so many a second; what is left out is counted
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    rate: u32,
    /// Print each as a JSON object on a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// One line of the answer.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Event(Box<TapEvent>),
    #[serde(rename_all = "PascalCase")]
    Missed {
        missed: u64,
    },
}

pub(crate) async fn run(args: TapArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    let (mut lines, mut left) = (Lines::default(), args.max);
    let take = |piece: &[u8]| {
        let whole = lines.take(piece);
        let events = show(&whole, args.json)?;
        left = left.map(|left| left.saturating_sub(events));
        Ok(if left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    follow(&client, &args.path_and_query(), take).await?;
    Ok(ExitCode::SUCCESS)
}

impl TapArgs {
    fn path_and_query(&self) -> String {
        let mut path =
            format!("/v1/agent/tap?service={}&rate={}", encode(&self.service), self.rate);
        let max = self.max.map(|max| max.to_string());
        for (name, value) in [
            ("from", &self.from),
            ("to", &self.to),
            ("method", &self.method),
            ("path", &self.path),
            ("status", &self.status),
            ("header", &self.header),
            ("max", &max),
        ] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", encode(value)));
            }
        }
        path
    }
}

/// Shows whole lines; returns how many of them are events.
fn show(lines: &[u8], json: bool) -> io::Result<u64> {
    let (mut text, mut events) = (String::new(), 0);
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line)? {
            Line::Event(event) => {
                events += 1;
                text.push_str(&shown(&event));
            }
            Line::Missed { missed } => text.push_str(&format!("({missed} more were left out)")),
        }
        text.push('\n');
    }
    write_piece(if json { lines } else { text.as_bytes() })?;
    Ok(events)
}

/// One event as a line for people.
fn shown(event: &TapEvent) -> String {
    let time = event.time.split_once('T').map_or("", |(_, time)| time.trim_end_matches('Z'));
    let (source, destination) = (service(&event.source), service(&event.destination));
    let mut line = format!("{time} {} {source} -> {destination}", event.direction);
    match event.kind {
        TapKind::Request => {
            let path = shown_text(&event.path);
            line.push_str(&format!(" {} {path} {}", shown_text(&event.method), event.status));
            if let Some(status) = event.grpc_status {
                line.push_str(&format!(" grpc={status}"));
            }
        }
        TapKind::ConnectionOpened => line.push_str(" connection opened"),
        TapKind::ConnectionClosed => line.push_str(" connection closed"),
    }
    if !event.cause.is_empty() {
        let flags = if event.flags.is_empty() { "-" } else { &event.flags };
        line.push_str(&format!(" {flags} ({})", event.cause));
    }
    if event.kind != TapKind::ConnectionOpened {
        line.push_str(&format!(" {}", millis(event.duration_us)));
        line.push_str(&event.latency.map(parts).unwrap_or_default());
        line.push_str(&format!(" {}/{} B", event.request_bytes, event.response_bytes));
    }
    for (name, value) in [("route", &event.route), ("at", &event.endpoint)] {
        if !value.is_empty() {
            line.push_str(&format!(" {name} {value}"));
        }
    }
    line
}

fn parts(latency: TapLatency) -> String {
    let all = [
        ("application", latency.application_us),
        ("network", latency.network_us),
        ("proxy", Some(latency.proxy_us)),
        ("remote proxy", latency.remote_proxy_us),
    ];
    let known = all.into_iter().filter_map(|(name, us)| Some(format!("{name} {}", millis(us?))));
    format!(" [{}]", known.collect::<Vec<_>>().join(", "))
}

fn millis(us: u64) -> String {
    format!("{}.{:02}ms", us / 1000, us % 1000 / 10)
}

/// The service of a SPIFFE ID.
fn service(id: &str) -> String {
    let parsed = id.parse::<SpiffeId>().ok();
    let name = parsed.and_then(|id| id.service_name().map(ToString::to_string));
    name.unwrap_or_else(|| "?".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::log_format::LogRecord;

    #[test]
    fn an_event_is_one_line_whatever_the_caller_wrote() {
        let record = LogRecord {
            direction: "inbound",
            protocol: Some("HTTP/1.1"),
            method: "GET".into(),
            path: "/a\u{1b}[2J\n".into(),
            status: 503,
            cause: Some("request-timeout"),
            peer: Some("spiffe://mesh/ns/default/dc/dc1/svc/shop".into()),
            ..LogRecord::default()
        };
        let own = ("web", "spiffe://mesh/ns/default/dc/dc1/svc/web");
        let mut event = TapEvent::of(TapKind::Request, &record, own);
        event.duration_us = 12_345;
        event.latency = Some(TapLatency {
            application_us: Some(12_000),
            network_us: None,
            proxy_us: 345,
            remote_proxy_us: None,
        });
        assert_eq!(
            shown(&event),
            "00:00:00.000 inbound shop -> web GET /a\\u{1b}[2J\\n 503 UT (request-timeout) \
             12.34ms [application 12.00ms, proxy 0.34ms] 0/0 B"
        );
        let line = serde_json::to_string(&event).expect("JSON");
        assert!(matches!(serde_json::from_str(&line), Ok(Line::Event(_))));
        let missed = "{\"Kind\":\"missed\",\"Missed\":3}";
        assert!(matches!(serde_json::from_str(missed), Ok(Line::Missed { missed: 3 })));
    }
}
