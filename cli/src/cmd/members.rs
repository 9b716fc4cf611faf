//! `weft members`: the hosts and servers of the mesh, and whether they answer.
//!
//! **Source**: Consul: commands/members. Differs: a host with a server and an agent has two
//! lines, as the two are two processes here.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::client::{ApiArgs, ApiClient};
use crate::output::{OutputArgs, Table, print, print_json, text};

const EXAMPLES: &str = "\
Examples:
  Everyone:
    weft members
  Only those that do not answer:
    weft members --status failed
  For scripts:
    weft members --json | jq -r '.[] | select(.Type == \"server\").Address'";

/// Flags of `weft members`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MembersArgs {
    /// Only members with this status: alive, failed
    #[arg(long, value_name = "STATUS", value_parser = ["alive", "failed"])]
    status: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: MembersArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    let mut members = servers(&client).await?;
    members.extend(agents(&client).await?);
    members.retain(|member| args.status.as_deref().is_none_or(|status| member["Status"] == status));
    if args.output.json {
        print_json(&members)?;
    } else {
        let columns = ["Node", "Address", "Status", "Type", "Build", "DC"];
        let mut table = Table::new(&columns);
        for member in &members {
            table.row(columns.map(|column| text(member, column)));
        }
        print(table.text())?;
    }
    // As Consul's: a filter that finds nobody is a failure to scripts.
    Ok(if members.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

async fn servers(client: &ApiClient) -> anyhow::Result<Vec<Value>> {
    let state: Value = client.get("/v1/operator/autopilot/state").await?.ok()?.json()?;
    let datacenters: Vec<String> = client.get("/v1/catalog/datacenters").await?.ok()?.json()?;
    let datacenter = datacenters.first().cloned().unwrap_or_default();
    let servers = state["Servers"].as_object().into_iter().flatten();
    Ok(servers
        .map(|(_, server)| {
            json!({
                "Node": server["Name"],
                "Address": server["Address"],
                "Status": server["NodeStatus"],
                "Type": "server",
                "Build": server["Version"],
                "DC": datacenter,
            })
        })
        .collect())
}

async fn agents(client: &ApiClient) -> anyhow::Result<Vec<Value>> {
    let nodes: Vec<Value> = client.get("/v1/catalog/nodes").await?.ok()?.json()?;
    let checks: Vec<Value> = client.get("/v1/health/state/any").await?.ok()?.json()?;
    let leases = || checks.iter().filter(|check| check["CheckID"] == "serfHealth");
    let known: BTreeSet<String> = leases().map(|check| text(check, "Node")).collect();
    let failed: BTreeSet<String> = leases()
        .filter(|check| check["Status"] == "critical")
        .map(|check| text(check, "Node"))
        .collect();
    Ok(nodes
        .iter()
        // A node without a lease has no agent: it was registered by hand.
        .filter(|node| known.contains(&text(node, "Node")))
        .map(|node| {
            let is_failed = failed.contains(&text(node, "Node"));
            json!({
                "Node": node["Node"],
                "Address": node["Address"],
                "Status": if is_failed { "failed" } else { "alive" },
                "Type": "client",
                "Build": "",
                "DC": node["Datacenter"],
            })
        })
        .collect())
}
