//! `weft event`: fires a user event, or lists the last ones.
//!
//! **Source**: Consul: commands/event.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use http::Method;
use weft_proto::json::event::EventBody;

use crate::client::{ApiArgs, encode};
use crate::output::{OutputArgs, Table, print, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  Tell all hosts with an instance of web:
    weft event --name deploy --service '^web$' 1.2.3
  See what was fired:
    weft event --list
  Run a program for each:
    weft watch --type event --name deploy ./deploy.sh";

/// Flags of `weft event`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EventArgs {
    /// What comes with the event
    payload: Option<String>,
    /// What the event says
    #[arg(long, required_unless_present = "list")]
    name: Option<String>,
    /// Only for nodes whose names match this regular expression
    #[arg(long, value_name = "REGEX")]
    node: Option<String>,
    /// Only for nodes with an instance of a service whose name matches
    #[arg(long, value_name = "REGEX")]
    service: Option<String>,
    /// Only for nodes with such an instance that has a matching tag
    #[arg(long, value_name = "REGEX", requires = "service")]
    tag: Option<String>,
    /// List the last events instead
    #[arg(long, conflicts_with = "payload")]
    list: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: EventArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    let filters = [("node", &args.node), ("service", &args.service), ("tag", &args.tag)];
    let mut query: Vec<String> = filters
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|it| format!("{name}={}", encode(it))))
        .collect();
    if args.list {
        query.extend(args.name.as_ref().map(|name| format!("name={}", encode(name))));
        let answer = client.get(&format!("/v1/event/list?{}", query.join("&"))).await?.ok()?;
        let events: Vec<EventBody> = answer.json()?;
        if args.output.json {
            print_json(&events)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new(&["LTime", "ID", "Name", "Node", "Service", "Tag"]);
        for event in events {
            let EventBody { id, name, node_filter, service_filter, tag_filter, ltime, .. } = event;
            let place = ltime.to_string();
            table.row([place, id, name, node_filter, service_filter, tag_filter]);
        }
        print(table.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(name) = args.name.as_deref().filter(|name| !name.is_empty()) else {
        bail!("say what the event says: weft event --name NAME");
    };
    let path = format!("/v1/event/fire/{}?{}", encode(name), query.join("&"));
    let payload = args.payload.unwrap_or_default();
    let event: EventBody = client.call(Method::PUT, &path, payload).await?.ok()?.json()?;
    match args.output.json {
        true => print_json(&event)?,
        false => print_line(&format!("Event ID: {}", event.id))?,
    }
    Ok(ExitCode::SUCCESS)
}
