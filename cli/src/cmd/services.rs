//! `weft services`: the services of this host's agent, and what other clusters may see.
//!
//! **Source**: Consul: commands/services.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};
use weft_proto::text;

use crate::client::{ApiArgs, ApiClient, encode};
use crate::output::print_line;

const EXAMPLES: &str = "\
Examples:
  From a file with a service or several, or from flags:
    weft services register web.hcl
    weft services register --name web --port 8080 --tag v1
  And away again:
    weft services deregister web.hcl
    weft services deregister --id web
  Let another cluster see it:
    weft services export --name web --consumer-peers cluster-2";

/// Flags of `weft services`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServicesArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Take services off this host's agent
    Deregister(DeregisterArgs),
    /// Let other clusters see a service
    Export(ExportArgs),
    /// Register services with this host's agent
    Register(RegisterArgs),
}

#[derive(Debug, Args)]
struct RegisterArgs {
    /// Files with services, as HCL or JSON
    #[arg(value_name = "FILE", required_unless_present = "name")]
    files: Vec<String>,
    /// The instance's id [default: its name]
    #[arg(long)]
    id: Option<String>,
    /// The service's name
    #[arg(long, conflicts_with = "files")]
    name: Option<String>,
    /// Where it listens [default: the address of the host]
    #[arg(long)]
    address: Option<String>,
    /// The port it listens on
    #[arg(long)]
    port: Option<u16>,
    /// A tag; repeatable
    #[arg(long)]
    tag: Vec<String>,
    /// Metadata; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    meta: Vec<String>,
}

#[derive(Debug, Args)]
struct DeregisterArgs {
    /// Files with services, as they were registered
    #[arg(value_name = "FILE", required_unless_present = "id")]
    files: Vec<String>,
    /// The instance's id
    #[arg(long, conflicts_with = "files")]
    id: Option<String>,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// The service
    #[arg(long)]
    name: String,
    /// The peerings that may see it, joined by commas
    #[arg(long, value_name = "PEERS", value_delimiter = ',', required = true)]
    consumer_peers: Vec<String>,
}

pub(crate) async fn run(args: ServicesArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    match args.what {
        What::Deregister(args) => deregister(&client, &args).await?,
        What::Export(args) => export(&client, &args).await?,
        What::Register(args) => register(&client, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn register(client: &ApiClient, args: &RegisterArgs) -> anyhow::Result<()> {
    let services = match &args.name {
        Some(name) => vec![from_flags(name, args)],
        None => from_files(&args.files)?,
    };
    for service in services {
        let path = "/v1/agent/service/register";
        client.call(Method::PUT, path, service.to_string()).await?.ok()?;
        print_line(&format!("Registered service: {}", name_of(&service)))?;
    }
    Ok(())
}

fn from_flags(name: &str, args: &RegisterArgs) -> Value {
    let meta = args.meta.iter().map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), Value::from(value))
    });
    let mut service = json!({
        "Name": name,
        "Tags": args.tag,
        "Meta": meta.collect::<Map<String, Value>>(),
    });
    if let Some(id) = &args.id {
        service["ID"] = id.as_str().into();
    }
    if let Some(address) = &args.address {
        service["Address"] = address.as_str().into();
    }
    if let Some(port) = args.port {
        service["Port"] = port.into();
    }
    service
}

/// Reads the services of files: `service` or `services` in them, or the file itself is one.
fn from_files(files: &[String]) -> anyhow::Result<Vec<Value>> {
    let mut services = Vec::new();
    for file in files {
        let content =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let value = text::parse(file, &content).map_err(|fault| anyhow::anyhow!("{fault}"))?;
        let held = value.as_object().into_iter().flatten();
        let held: Vec<&Value> = held
            .filter(|(key, _)| matches!(key.to_ascii_lowercase().as_str(), "service" | "services"))
            .map(|(_, value)| value)
            .collect();
        if held.is_empty() {
            services.push(value);
            continue;
        }
        for value in held {
            match value {
                Value::Array(items) => services.extend(items.iter().cloned()),
                one => services.push(one.clone()),
            }
        }
    }
    if services.is_empty() {
        bail!("there is no service in {}", files.join(", "));
    }
    Ok(services)
}

async fn deregister(client: &ApiClient, args: &DeregisterArgs) -> anyhow::Result<()> {
    let ids: Vec<String> = match &args.id {
        Some(id) => vec![id.clone()],
        None => from_files(&args.files)?.iter().map(id_of).collect(),
    };
    for id in ids {
        let path = format!("/v1/agent/service/deregister/{}", encode(&id));
        client.call(Method::PUT, &path, "").await?.ok()?;
        print_line(&format!("Deregistered service: {id}"))?;
    }
    Ok(())
}

/// A field of a service, whatever the case of its name.
fn field<'a>(service: &'a Value, name: &str) -> Option<&'a str> {
    let fields = service.as_object()?;
    let (_, value) = fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    value.as_str().filter(|text| !text.is_empty())
}

fn name_of(service: &Value) -> String {
    field(service, "name").or_else(|| field(service, "service")).unwrap_or_default().to_owned()
}

fn id_of(service: &Value) -> String {
    field(service, "id").map_or_else(|| name_of(service), str::to_owned)
}

/// Adds the service to the one list of exported ones, if nobody else changes it meanwhile.
async fn export(client: &ApiClient, args: &ExportArgs) -> anyhow::Result<()> {
    let path = "/v1/config/exported-services/default";
    let present = client.get(path).await?.found()?;
    let mut entry: Value = match &present {
        Some(answer) => answer.json()?,
        None => json!({ "Kind": "exported-services", "Name": "default", "Services": [] }),
    };
    let index = entry["ModifyIndex"].as_u64().unwrap_or(0);
    let services = entry["Services"].as_array_mut().context("the entry has no list of services")?;
    let at = services.iter().position(|service| service["Name"] == args.name.as_str());
    let at = at.unwrap_or_else(|| {
        services.push(json!({ "Name": args.name, "Consumers": [] }));
        services.len() - 1
    });
    let consumers =
        services[at]["Consumers"].as_array_mut().context("the service has no list of consumers")?;
    for peer in &args.consumer_peers {
        if !consumers.iter().any(|consumer| consumer["Peer"] == peer.as_str()) {
            consumers.push(json!({ "Peer": peer }));
        }
    }
    let path = format!("/v1/config?cas={index}");
    let written = client.call(Method::PUT, &path, entry.to_string()).await?.ok()?;
    if !written.json::<bool>()? {
        bail!("someone else changed the exported services at the same moment; try again");
    }
    written.headers("x-weft-warning").for_each(|warning| eprintln!("Warning: {warning}"));
    let peers = args.consumer_peers.join(", ");
    print_line(&format!("Exported service: {} to {peers}", args.name))
}
