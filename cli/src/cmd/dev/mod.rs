//! `weft dev`: server, agent and sidecars in one process, for trying out and developing.
//!
//! Nothing here is special to development but the wiring: the parts are those of production,
//! with everything on loopback and calls allowed until an intention says otherwise.

mod banner;
mod folder;
mod sidecars;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use weft_agent::{Agent, AgentHandle};
use weft_proto::text::Fault;
use weft_runtime::net;
use weft_runtime::task::TaskTree;
use weft_server::{Server, ServerHandle};

use self::folder::Folder;
use crate::args::ProcessArgs;
use crate::config::LogSection;
use crate::failure::Failure;
use crate::lifecycle::{Door, Process, Serving, Threads, start_logging};

const EXAMPLES: &str = "\
Examples:
  Start a mesh; Ctrl-C ends it and removes its data:
    weft dev
  Keep the data, and start from it again:
    weft dev --data-dir ./mesh
  Beside another one, on ports that are free:
    weft dev --http-addr 127.0.0.1:9500 --dns-addr 127.0.0.1:9600 --server-addr 127.0.0.1:9300
  Register a service with a sidecar; the sidecar runs in this process:
    curl -X PUT 127.0.0.1:8500/v1/agent/service/register -d \\
      '{\"Name\":\"web\",\"Port\":8080,\"Connect\":{\"SidecarService\":{}}}'";

/// How long everything may take to end: who presses Ctrl-C wants the prompt back.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// The node's name in the catalog.
const NODE: &str = "dev";

/// Flags of `weft dev`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DevArgs {
    /// Keep everything in this directory instead of a temporary one
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the HTTP API listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8500")]
    http_addr: SocketAddr,
    /// Where DNS listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8600")]
    dns_addr: SocketAddr,
    /// Where the server listens for the agent
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8300")]
    server_addr: SocketAddr,
    #[command(flatten)]
    process: ProcessArgs,
}

/// What runs; kept until the end.
struct Mesh {
    _server: ServerHandle,
    _agent: AgentHandle,
}

pub(crate) fn run(args: &DevArgs) -> Result<ExitCode, Failure> {
    // Without a wish, only what is wrong: the banner says the rest.
    let quiet = LogSection { level: Some("warn".to_owned()), format: None };
    start_logging(&args.process, &quiet)?;
    check_loopback(args)?;
    let door = |address: SocketAddr, setting| Door { address: address.to_string(), setting };
    let process = Process {
        name: "dev",
        args: &args.process,
        doors: vec![
            door(args.http_addr, "--http-addr"),
            door(args.dns_addr, "--dns-addr"),
            door(args.server_addr, "--server-addr"),
        ],
        threads: Threads::Many,
        drain_limit: args.process.drain_limit.unwrap_or(DRAIN_LIMIT),
    };
    let folder = match &args.data_dir {
        Some(path) => Folder::kept(path)?,
        None => Folder::temporary(&std::env::temp_dir())?,
    };
    // A temporary folder goes when all that writes to it has ended, however it ended.
    process.run(|tasks| start(args, folder.path(), tasks))
}

/// Calls are allowed by default here, so that nothing may be reached from other hosts.
fn check_loopback(args: &DevArgs) -> Result<(), Failure> {
    let addresses = [
        ("--http-addr", args.http_addr),
        ("--dns-addr", args.dns_addr),
        ("--server-addr", args.server_addr),
    ];
    let faults: Vec<Fault> = addresses
        .iter()
        .filter(|(_, address)| !address.ip().is_loopback())
        .map(|(flag, address)| {
            let reason = format!("{address} is not on loopback, where alone `weft dev` listens");
            Fault::new(*flag, reason)
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(Failure::Config(faults)) }
}

async fn start(args: &DevArgs, folder: &Path, tasks: TaskTree) -> anyhow::Result<Serving<Mesh>> {
    let server = start_server(args, folder, &tasks).await?;
    let agent = start_agent(args, folder, &server, &tasks).await?;
    sidecars::follow(&agent, &tasks);
    let http = agent.http_addr().ok_or_else(|| anyhow!("the agent has no HTTP API"))?;
    let dns = agent.dns_addr().ok_or_else(|| anyhow!("the agent does not answer DNS"))?;
    banner::print(&banner::Addresses { http, dns, server: server.rpc_addr() }, folder);
    let ready = serde_json::json!({
        "http": http.to_string(),
        "dns": dns.to_string(),
        "rpc": server.rpc_addr().to_string(),
        "data_dir": folder,
    });
    let handle = Mesh { _server: server, _agent: agent };
    Ok(Serving::new(handle, ready))
}

async fn start_server(
    args: &DevArgs,
    folder: &Path,
    tasks: &TaskTree,
) -> anyhow::Result<ServerHandle> {
    let address = known(args.server_addr).await?.to_string();
    let config = weft_server::config::Config::resolve(weft_server::config::FileConfig {
        node_name: Some(NODE.to_owned()),
        data_dir: Some(folder.join("server")),
        bind_addr: Some(address.clone()),
        advertise_addr: Some(address),
        default_intention_policy: Some("allow".to_owned()),
        ..Default::default()
    })
    .map_err(|faults| anyhow!(Fault::line(&faults)))?;
    Ok(Server::start(config, tasks.child("server")).await?)
}

async fn start_agent(
    args: &DevArgs,
    folder: &Path,
    server: &ServerHandle,
    tasks: &TaskTree,
) -> anyhow::Result<AgentHandle> {
    let token = server
        .mint_join_token(weft_core::ca::MemberRole::Agent)
        .await
        .context("cannot make a join token")?;
    let mut settings = weft_agent::config::FileConfig {
        node_name: Some(NODE.to_owned()),
        data_dir: Some(text(&folder.join("agent"))),
        join: Some(token.to_string()),
        // With kept data the server may be elsewhere than at the last start.
        servers: vec![server.rpc_addr().to_string()],
        bind_addr: Some("127.0.0.1".to_owned()),
        advertise_addr: Some("127.0.0.1".to_owned()),
        ..Default::default()
    };
    settings.http.addr = Some(args.http_addr.to_string());
    settings.dns.addr = Some(args.dns_addr.to_string());
    let config = weft_agent::config::Config::resolve(settings)
        .map_err(|faults| anyhow!(Fault::line(&faults)))?;
    Ok(Agent::start(config, tasks.child("agent")).await?)
}

/// Returns the address with a port: the server writes it into join tokens before it listens.
async fn known(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    if address.port() != 0 {
        return Ok(address);
    }
    let probe = net::bind_tcp(address).await?;
    probe.local_addr().context("a bound socket has no address")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
