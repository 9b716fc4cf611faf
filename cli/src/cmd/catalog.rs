//! `weft catalog`: what the mesh knows.
//!
//! **Source**: Consul: commands/catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::client::{ApiArgs, ApiClient, encode};
use crate::output::{OutputArgs, Table, print, print_json, text};

const EXAMPLES: &str = "\
Examples:
  Hosts, and those of one service:
    weft catalog nodes
    weft catalog nodes --service web
  Services with their tags:
    weft catalog services --tags
  For scripts:
    weft catalog nodes --json | jq -r '.[].Address'";

/// Flags of `weft catalog`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CatalogArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the datacenters
    Datacenters(OutputArgs),
    /// List the hosts
    Nodes(NodesArgs),
    /// List the names of services
    Services(ServicesArgs),
}

#[derive(Debug, Args)]
struct NodesArgs {
    /// Only hosts with an instance of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only hosts that this expression holds for, such as 'Meta.zone == "a"'
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Only hosts with this metadata; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    node_meta: Vec<String>,
    /// The nearest to this host first; _agent for that of the agent
    #[arg(long, value_name = "NODE")]
    near: Option<String>,
    /// Show tagged addresses and metadata
    #[arg(long)]
    detailed: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct ServicesArgs {
    /// Only services on this host
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only services on hosts with this metadata; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    node_meta: Vec<String>,
    /// Show tags
    #[arg(long)]
    tags: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: CatalogArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    match args.what {
        What::Datacenters(output) => datacenters(&client, output).await?,
        What::Nodes(args) => nodes(&client, &args).await?,
        What::Services(args) => services(&client, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn datacenters(client: &ApiClient, output: OutputArgs) -> anyhow::Result<()> {
    let names: Vec<String> = client.get("/v1/catalog/datacenters").await?.ok()?.json()?;
    if output.json {
        return print_json(&names);
    }
    print(names.iter().map(|name| format!("{name}\n")).collect::<String>())
}

async fn nodes(client: &ApiClient, args: &NodesArgs) -> anyhow::Result<()> {
    let path = match &args.service {
        Some(service) => format!("/v1/catalog/service/{}", encode(service)),
        None => "/v1/catalog/nodes".to_owned(),
    };
    let mut query = meta_query(&args.node_meta);
    let filter = args.filter.as_ref().map(|text| format!("filter={}", encode(text)));
    let near = args.near.as_ref().map(|node| format!("near={}", encode(node)));
    query.extend(filter.into_iter().chain(near));
    let nodes: Vec<Value> = client.get(&with_query(&path, &query)).await?.ok()?.json()?;
    if args.output.json {
        return print_json(&nodes);
    }
    if nodes.is_empty() {
        eprintln!("No nodes match.");
        return Ok(());
    }
    let mut table = match args.detailed {
        true => Table::new(&["Node", "ID", "Address", "DC", "TaggedAddresses", "Meta"]),
        false => Table::new(&["Node", "ID", "Address", "DC"]),
    };
    let mut seen = BTreeSet::new();
    for node in &nodes {
        // A host with several instances of the service is one host.
        if !seen.insert(text(node, "Node")) {
            continue;
        }
        let id = text(node, "ID");
        let id = if args.detailed { id } else { id.chars().take(8).collect() };
        // An instance of a service says its own metadata under the short name.
        let meta = if args.service.is_some() { "NodeMeta" } else { "Meta" };
        table.row([
            text(node, "Node"),
            id,
            text(node, "Address"),
            text(node, "Datacenter"),
            pairs(&node["TaggedAddresses"]),
            pairs(&node[meta]),
        ]);
    }
    print(table.text())
}

async fn services(client: &ApiClient, args: &ServicesArgs) -> anyhow::Result<()> {
    let query = meta_query(&args.node_meta);
    let services: BTreeMap<String, Vec<String>> = match &args.node {
        None => client.get(&with_query("/v1/catalog/services", &query)).await?.ok()?.json()?,
        Some(node) => {
            let path = format!("/v1/catalog/node/{}", encode(node));
            let answer: Value = client.get(&with_query(&path, &query)).await?.ok()?.json()?;
            let on_node = answer["Services"].as_object().into_iter().flat_map(|it| it.values());
            let mut found = BTreeMap::<String, Vec<String>>::new();
            for service in on_node {
                let tags = service["Tags"].as_array().into_iter().flatten();
                let tags = tags.filter_map(Value::as_str).map(str::to_owned);
                let known = found.entry(text(service, "Service")).or_default();
                known.extend(tags);
                known.sort();
                known.dedup();
            }
            found
        }
    };
    if args.output.json {
        return print_json(&services);
    }
    if services.is_empty() {
        eprintln!("No services match.");
        return Ok(());
    }
    if !args.tags {
        return print(services.keys().map(|name| format!("{name}\n")).collect::<String>());
    }
    let mut table = Table::new(&["Service", "Tags"]);
    for (name, tags) in services {
        table.row([name, tags.join(",")]);
    }
    print(table.text())
}

/// `--node-meta key=value` as the API's `node-meta=key:value`.
fn meta_query(pairs: &[String]) -> Vec<String> {
    let query = |pair: &String| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        format!("node-meta={}", encode(&format!("{key}:{value}")))
    };
    pairs.iter().map(query).collect()
}

fn with_query(path: &str, query: &[String]) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

fn pairs(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    let shown = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    shown.collect::<Vec<_>>().join(",")
}
