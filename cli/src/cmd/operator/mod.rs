//! `weft operator`: what those do who run the servers.
//!
//! **Source**: Consul: commands/operator.

mod join_token;

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::client::{ApiArgs, ApiClient, encode};
use crate::output::{OutputArgs, Table, print, print_json, print_line, shown};

use join_token::JoinToken;

const EXAMPLES: &str = "\
Examples:
  The servers, and who leads:
    weft operator raft list-peers
  A token with which three servers can join within ten minutes:
    weft operator join-token create --role server --uses 3 --ttl 10m > token
  Hand leadership over before the leader's host is worked on:
    weft operator raft transfer-leader
  Take a server out that will not come back:
    weft operator raft remove-peer --address 10.0.0.3:8300
  What autopilot sees, and its settings:
    weft operator autopilot state
    weft operator autopilot set-config --server-stabilization-time 30s
  How much is in the catalog:
    weft operator usage instances";

/// Flags of `weft operator`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct OperatorArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The care of servers by themselves
    #[command(subcommand)]
    Autopilot(Autopilot),
    /// Tokens with which hosts become members
    #[command(subcommand)]
    JoinToken(JoinToken),
    /// The members of consensus
    #[command(subcommand)]
    Raft(Raft),
    /// How much is in the catalog
    #[command(subcommand)]
    Usage(Usage),
}

#[derive(Debug, Subcommand)]
enum Autopilot {
    /// Show the settings
    GetConfig(OutputArgs),
    /// Change settings; those that are not named stay
    SetConfig(SetConfigArgs),
    /// Show what it sees
    State(OutputArgs),
}

#[derive(Debug, Subcommand)]
enum Raft {
    /// List the servers
    ListPeers(OutputArgs),
    /// Remove a server that will not come back
    RemovePeer(RemovePeerArgs),
    /// Hand leadership over
    TransferLeader(TransferArgs),
}

#[derive(Debug, Subcommand)]
enum Usage {
    /// Count nodes, services and instances
    Instances(OutputArgs),
}

#[derive(Debug, Args)]
struct SetConfigArgs {
    /// Whether servers that failed are removed
    #[arg(long, value_name = "BOOL")]
    cleanup_dead_servers: Option<bool>,
    /// The longest silence of a healthy server, such as 200ms
    #[arg(long, value_name = "TIME")]
    last_contact_threshold: Option<String>,
    /// How many entries a healthy server may be behind
    #[arg(long, value_name = "NUMBER")]
    max_trailing_logs: Option<u64>,
    /// Servers below which none is removed
    #[arg(long, value_name = "NUMBER")]
    min_quorum: Option<u64>,
    /// How long a new server must be healthy before it gets a vote, such as 10s
    #[arg(long, value_name = "TIME")]
    server_stabilization_time: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct RemovePeerArgs {
    /// Its address, as list-peers shows it
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Its id, as list-peers shows it
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

#[derive(Debug, Args)]
struct TransferArgs {
    /// The server that is to lead [default: the one that is least behind]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

pub(crate) async fn run(args: OperatorArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    match args.what {
        What::Autopilot(Autopilot::GetConfig(output)) => get_config(&client, output).await?,
        What::Autopilot(Autopilot::SetConfig(args)) => set_config(&client, args).await?,
        What::Autopilot(Autopilot::State(output)) => state(&client, output).await?,
        What::JoinToken(what) => join_token::run(&client, what).await?,
        What::Raft(Raft::ListPeers(output)) => list_peers(&client, output).await?,
        What::Raft(Raft::RemovePeer(args)) => remove_peer(&client, args).await?,
        What::Raft(Raft::TransferLeader(args)) => transfer(&client, args).await?,
        What::Usage(Usage::Instances(output)) => usage(&client, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

const CONFIGURATION: &str = "/v1/operator/autopilot/configuration";

async fn get_config(client: &ApiClient, output: OutputArgs) -> anyhow::Result<()> {
    let config: Value = client.get(CONFIGURATION).await?.ok()?.json()?;
    if output.json {
        return print_json(&config);
    }
    for field in [
        "CleanupDeadServers",
        "LastContactThreshold",
        "MaxTrailingLogs",
        "MinQuorum",
        "ServerStabilizationTime",
    ] {
        print_line(&format!("{field} = {}", shown(&config[field])))?;
    }
    Ok(())
}

async fn set_config(client: &ApiClient, args: SetConfigArgs) -> anyhow::Result<()> {
    let mut config: Value = client.get(CONFIGURATION).await?.ok()?.json()?;
    let changes = [
        ("CleanupDeadServers", args.cleanup_dead_servers.map(Value::from)),
        ("LastContactThreshold", args.last_contact_threshold.map(Value::from)),
        ("MaxTrailingLogs", args.max_trailing_logs.map(Value::from)),
        ("MinQuorum", args.min_quorum.map(Value::from)),
        ("ServerStabilizationTime", args.server_stabilization_time.map(Value::from)),
    ];
    let cas = config["ModifyIndex"].as_u64().unwrap_or_default();
    for (field, value) in changes {
        if let Some(value) = value {
            config[field] = value;
        }
    }
    let path = format!("{CONFIGURATION}?cas={cas}");
    let written: bool = client.call(Method::PUT, &path, config.to_string()).await?.ok()?.json()?;
    if !written {
        bail!("someone else changed the settings at the same moment; look at them and try again");
    }
    print_line("Configuration updated!")
}

async fn state(client: &ApiClient, output: OutputArgs) -> anyhow::Result<()> {
    let state: Value = client.get("/v1/operator/autopilot/state").await?.ok()?.json()?;
    if output.json {
        return print_json(&state);
    }
    print_line(&format!("Healthy:           {}", shown(&state["Healthy"])))?;
    print_line(&format!("Failure Tolerance: {}", shown(&state["FailureTolerance"])))?;
    print_line(&format!("Leader:            {}\n", shown(&state["Leader"])))?;
    // One name differs between the API and what people are shown.
    let fields = [
        "Name",
        "ID",
        "Address",
        "Status",
        "Healthy",
        "LastContact",
        "LastTerm",
        "LastIndex",
        "StableSince",
        "Version",
    ];
    let mut table = Table::new(&fields.map(|field| if field == "Name" { "Node" } else { field }));
    for server in state["Servers"].as_object().into_iter().flatten().map(|(_, server)| server) {
        table.row(fields.map(|field| shown(&server[field])));
    }
    print(table.text())
}

async fn list_peers(client: &ApiClient, output: OutputArgs) -> anyhow::Result<()> {
    let configuration: Value = client.get("/v1/operator/raft/configuration").await?.ok()?.json()?;
    if output.json {
        return print_json(&configuration);
    }
    let mut table = Table::new(&["Node", "ID", "Address", "State", "Voter", "RaftProtocol"]);
    for server in configuration["Servers"].as_array().into_iter().flatten() {
        let state = match (&server["Leader"], &server["ReadReplica"]) {
            (Value::Bool(true), _) => "leader",
            (_, Value::Bool(true)) => "read-replica",
            (_, _) => "follower",
        };
        table.row([
            shown(&server["Node"]),
            shown(&server["ID"]),
            shown(&server["Address"]),
            state.to_owned(),
            shown(&server["Voter"]),
            shown(&server["ProtocolVersion"]),
        ]);
    }
    print(table.text())
}

async fn remove_peer(client: &ApiClient, args: RemovePeerArgs) -> anyhow::Result<()> {
    let (name, value) = match (&args.id, &args.address) {
        (Some(id), _) => ("id", id),
        (None, Some(address)) => ("address", address),
        (None, None) => bail!("name a server with --id or --address"),
    };
    let path = format!("/v1/operator/raft/peer?{name}={}", encode(value));
    client.call(Method::DELETE, &path, "").await?.ok()?;
    print_line(&format!("Removed peer with {name} {value:?}"))
}

async fn transfer(client: &ApiClient, args: TransferArgs) -> anyhow::Result<()> {
    let mut path = "/v1/operator/raft/transfer-leader".to_owned();
    if let Some(id) = &args.id {
        path.push_str(&format!("?id={}", encode(id)));
    }
    client.call(Method::POST, &path, "").await?.ok()?;
    let leader: String = client.get("/v1/status/leader").await?.ok()?.json()?;
    print_line(&format!("Success; {leader} leads"))
}

async fn usage(client: &ApiClient, output: OutputArgs) -> anyhow::Result<()> {
    let usage: Value = client.get("/v1/operator/usage").await?.ok()?.json()?;
    if output.json {
        return print_json(&usage);
    }
    let mut table = Table::new(&["Datacenter", "Nodes", "Services", "Instances", "In the mesh"]);
    for (datacenter, counts) in usage["Usage"].as_object().into_iter().flatten() {
        let meshed = counts["ConnectServiceInstances"].as_object().into_iter().flatten();
        let meshed: u64 = meshed.filter_map(|(_, count)| count.as_u64()).sum();
        table.row([
            datacenter.clone(),
            shown(&counts["Nodes"]),
            shown(&counts["Services"]),
            shown(&counts["ServiceInstances"]),
            json!(meshed).to_string(),
        ]);
    }
    print(table.text())
}
