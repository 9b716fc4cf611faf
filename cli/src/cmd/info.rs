//! `weft info`: where one stands, on a page.
//!
//! **Source**: Consul: commands/info.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::client::{ApiArgs, ApiClient};
use crate::output::{OutputArgs, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  The agent or server at hand, and the servers:
    weft info
  Of another one:
    weft info --http-addr 10.0.0.1:8500";

/// Flags of `weft info`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: InfoArgs) -> anyhow::Result<ExitCode> {
    let info = collect(&args.api.client()?).await?;
    if args.output.json {
        print_json(&info)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (section, values) in &info {
        print_line(&format!("{section}:"))?;
        for (name, value) in values.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            print_line(&format!("    {name} = {value}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks for what there is: an agent tells of itself, servers of the cluster.
async fn collect(client: &ApiClient) -> anyhow::Result<Map<String, Value>> {
    let mut info = Map::new();
    info.insert("build".to_owned(), json!({ "version": env!("CARGO_PKG_VERSION") }));
    let leader: String = client.get("/v1/status/leader").await?.ok()?.json()?;
    let peers: Vec<String> = client.get("/v1/status/peers").await?.ok()?.json()?;
    info.insert(
        "raft".to_owned(),
        json!({ "leader": leader, "num_peers": peers.len(), "peers": peers.join(" ") }),
    );
    // What follows is there or not, by who answers and what the token may see.
    if let Ok(answer) = client.get("/v1/agent/self").await?.ok() {
        let own: Value = answer.json()?;
        let config = &own["Config"];
        let agent = ["NodeName", "NodeID", "Datacenter", "Version"]
            .into_iter()
            .filter(|field| !config[field].is_null())
            .map(|field| (field.to_owned(), config[field].clone()))
            .collect();
        info.insert("agent".to_owned(), Value::Object(agent));
    }
    if let Ok(answer) = client.get("/v1/operator/autopilot/state").await?.ok() {
        let state: Value = answer.json()?;
        info.insert(
            "autopilot".to_owned(),
            json!({
                "healthy": state["Healthy"],
                "failure_tolerance": state["FailureTolerance"],
                "voters": state["Voters"].as_array().map_or(0, Vec::len),
            }),
        );
    }
    if let Ok(answer) = client.get("/v1/operator/usage").await?.ok() {
        let usage: Value = answer.json()?;
        for (datacenter, counts) in usage["Usage"].as_object().into_iter().flatten() {
            info.insert(
                format!("catalog of {datacenter}"),
                json!({
                    "nodes": counts["Nodes"],
                    "services": counts["Services"],
                    "instances": counts["ServiceInstances"],
                    "index": usage["Index"],
                }),
            );
        }
    }
    Ok(info)
}
