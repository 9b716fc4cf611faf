//! `weft server init` and `weft server join`: this host becomes a server, the first or another one.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use weft_runtime::net::outward_address;
use weft_server::config::FileConfig;

use super::files::{Place, Role, Setting, hand_over, hcl, write_new};
use super::{SetupArgs, unit};
use crate::cmd::check::finding::Finding;
use crate::cmd::check::host::Given;
use crate::cmd::check::{self, ports};
use crate::output::{print_json, print_line};

const INIT_EXAMPLES: &str = "\
Examples:
  The first server of a mesh; it prints what to type on the other hosts:
    weft server init
  Under an address that others can reach, in a datacenter of your name:
    weft server init --advertise-addr 10.0.0.1 --datacenter fra1";

const JOIN_EXAMPLES: &str = "\
Examples:
  With the token for servers that `weft server init` printed:
    weft server join weft1-...
  From a file, so that it stands in no shell's history:
    weft server join --token-file /root/server-join-token";

/// The port of the servers' RPC.
const PORT: u16 = 8300;
/// How long the first server may take until it has its tokens written.
const FOUND_LIMIT: Duration = Duration::from_secs(60);
const FOUND_PAUSE: Duration = Duration::from_millis(100);

/// What `weft server` does besides running a server.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ServerCommand {
    /// Make this host the first server of a new mesh: check it, write its configuration, start it
    Init(ServerInitArgs),
    /// Make this host a further server of a mesh
    Join(ServerJoinArgs),
}

/// Flags of `weft server init`.
#[derive(Debug, Clone, Args)]
#[command(after_help = INIT_EXAMPLES)]
pub(crate) struct ServerInitArgs {
    /// The datacenter
    #[arg(long, value_name = "NAME", default_value = "dc1")]
    datacenter: String,
    #[command(flatten)]
    host: HostArgs,
}

/// Flags of `weft server join`.
#[derive(Debug, Clone, Args)]
#[command(after_help = JOIN_EXAMPLES)]
pub(crate) struct ServerJoinArgs {
    /// The join token, of the role server
    #[arg(value_name = "TOKEN", required_unless_present = "token_file")]
    token: Option<String>,
    /// A file with the join token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    host: HostArgs,
}

/// What is said of the host.
#[derive(Debug, Clone, Args)]
struct HostArgs {
    /// This server's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The address under which agents and other servers reach this one, with a port if it is not 8300
    /// [default: the address of the way out]
    #[arg(long, value_name = "HOST[:PORT]")]
    advertise_addr: Option<String>,
    /// Where agents and other servers are served [default: 0.0.0.0:8300]
    #[arg(long, value_name = "IP:PORT")]
    bind_addr: Option<String>,
    #[command(flatten)]
    setup: SetupArgs,
}

impl HostArgs {
    fn given(&self) -> Given<'_> {
        Given { name: self.node_name.as_deref(), address: self.advertise_addr.as_deref() }
    }
}

pub(crate) async fn run(command: &ServerCommand) -> anyhow::Result<ExitCode> {
    match command {
        ServerCommand::Init(args) => init(args).await,
        ServerCommand::Join(args) => join(args).await,
    }
}

async fn init(args: &ServerInitArgs) -> anyhow::Result<ExitCode> {
    let (setup, place) = (&args.host.setup, args.host.setup.place());
    place.refuse_second(Role::Server)?;
    setup.look(Role::Server, args.host.given(), doors(&args.host)?)?;
    let address = advertised(args.host.advertise_addr.as_deref(), outward_address())?;
    let settings =
        settings(&args.host, &place, &address, ("datacenter", Some(args.datacenter.clone())));
    let head = "The first server of the mesh, as `weft server init` wrote it.";
    let has_started = begin(setup, head, &settings)?;
    let state = place.state(Role::Server);
    let (agents, servers) = (state.join("join-token"), state.join("server-join-token"));
    if !has_started {
        return told_to_start(setup, &place, &[("agent", &agents), ("server", &servers)]);
    }
    wait_for(&[&agents, &servers]).await?;
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path);
        text.map(|text| text.trim().to_owned())
            .with_context(|| format!("cannot read {}", path.display()))
    };
    if setup.json {
        print_json(&json!({
            "Config": place.config(Role::Server), "Started": true, "Address": address,
            "AgentJoinToken": read(&agents)?, "ServerJoinToken": read(&servers)?,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    // The token itself is for a person's eyes, not for a log.
    let shown = |path: &Path| match std::io::stdout().is_terminal() {
        true => read(path),
        false => Ok(format!("--token-file {}", path.display())),
    };
    print_line(&format!(
        "\nA mesh was founded; its first server is {address} (weft-server.service).\n\n\
         Every host joins with this, this one too:\n\n  weft agent join {}\n\n\
         Two more servers, so that one may fail, each with this:\n\n  weft server join {}\n\n\
         The tokens are good for a day; others are made by `weft operator join-token create`.",
        shown(&agents)?,
        shown(&servers)?,
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn join(args: &ServerJoinArgs) -> anyhow::Result<ExitCode> {
    let (setup, place) = (&args.host.setup, args.host.setup.place());
    place.refuse_second(Role::Server)?;
    let token = check::join_token(args.token.as_deref(), args.token_file.as_deref())?;
    let token = token.context("give the join token, or --token-file")?;
    let mut findings = doors(&args.host)?;
    findings.extend(check::join_with(&token, Role::Server).await);
    setup.look(Role::Server, args.host.given(), findings)?;
    let address = advertised(args.host.advertise_addr.as_deref(), outward_address())?;
    let path = place.config_dir.join("server-join-token");
    write_new(&path, &format!("{token}\n"))?;
    let file = ("join_token_file", Some(path.display().to_string()));
    let settings = settings(&args.host, &place, &address, file);
    let head =
        "A server of the mesh, as `weft server join` wrote it. The join token is of use once.";
    if !begin(setup, head, &settings)? {
        return told_to_start(setup, &place, &[]);
    }
    if setup.json {
        let config = place.config(Role::Server);
        print_json(&json!({ "Config": config, "Started": true, "Address": address }))?;
    } else {
        print_line(&format!(
            "\nThis host is a server of the mesh at {address} (weft-server.service). See who leads, from a \
             host with an agent:\n\n  weft operator raft list-peers"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks at where this server is to listen.
fn doors(host: &HostArgs) -> anyhow::Result<Vec<Finding>> {
    let settings = FileConfig { bind_addr: host.bind_addr.clone(), ..FileConfig::default() };
    Ok(ports::check(&check::server_doors(settings)?))
}

fn settings(host: &HostArgs, place: &Place, address: &str, more: Setting) -> [Setting; 5] {
    [
        ("data_dir", Some(place.state(Role::Server).display().to_string())),
        ("node_name", host.node_name.clone()),
        ("bind_addr", host.bind_addr.clone()),
        ("advertise_addr", Some(address.to_owned())),
        more,
    ]
}

/// Writes the configuration and starts the server, where that can be; returns whether it could.
fn begin(setup: &SetupArgs, head: &str, settings: &[Setting]) -> anyhow::Result<bool> {
    let (place, role) = (setup.place(), Role::Server);
    let state = place.state(role);
    std::fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
    hand_over(&state)?;
    write_new(&place.config(role), &hcl(head, settings))?;
    let can_start = !setup.no_start && unit::can_start(role);
    if can_start {
        unit::start(role)?;
    }
    Ok(can_start)
}

/// Says how to start what was only set up, and where the tokens will be.
fn told_to_start(
    setup: &SetupArgs,
    place: &Place,
    tokens: &[(&str, &PathBuf)],
) -> anyhow::Result<ExitCode> {
    let config = place.config(Role::Server);
    if setup.json {
        let files: serde_json::Map<String, serde_json::Value> = tokens
            .iter()
            .map(|(role, path)| (format!("{role}_join_token_file"), json!(path)))
            .collect();
        print_json(&json!({ "Config": config, "Started": false, "Tokens": files }))?;
        return Ok(ExitCode::SUCCESS);
    }
    print_line(&format!("\nSet up. Start it with\n\n  weft server --config {}", config.display()))?;
    for (role, path) in tokens {
        let hosts = if *role == "agent" { "host, this one too" } else { "further server" };
        print_line(&format!(
            "\nand then, on each {hosts}:\n\n  weft {role} join --token-file {}",
            path.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns `host:port` under which others reach this server.
fn advertised(given: Option<&str>, outward: Option<IpAddr>) -> anyhow::Result<String> {
    let Some(given) = given else {
        let address = outward.filter(|address| !address.is_loopback());
        let address = address.context(
            "this host has no route to others: give the address under which they reach it, with \
             --advertise-addr",
        )?;
        return Ok(std::net::SocketAddr::new(address, PORT).to_string());
    };
    if let Ok(address) = given.parse::<IpAddr>() {
        return Ok(std::net::SocketAddr::new(address, PORT).to_string());
    }
    match given.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) =>
        {
            Ok(given.to_owned())
        }
        Some(_) => Err(anyhow!("--advertise-addr: {given:?} is not HOST or HOST:PORT")),
        None if given.is_empty() => bail!("--advertise-addr: say a host"),
        None => Ok(format!("{given}:{PORT}")),
    }
}

/// Waits until files are there.
async fn wait_for(files: &[&PathBuf]) -> anyhow::Result<()> {
    let there = async {
        while !files.iter().all(|file| file.exists()) {
            tokio::time::sleep(FOUND_PAUSE).await;
        }
    };
    tokio::time::timeout(FOUND_LIMIT, there).await.map_err(|_| {
        anyhow!(
            "the server runs but has founded no mesh within {} s: journalctl -u weft-server says why",
            FOUND_LIMIT.as_secs()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_reached_under_what_is_given() {
        let out: Option<IpAddr> = "10.0.0.1".parse().ok();
        for (given, address) in [
            (None, "10.0.0.1:8300"),
            (Some("10.0.0.9"), "10.0.0.9:8300"),
            (Some("fd00::1"), "[fd00::1]:8300"),
            (Some("s1.example"), "s1.example:8300"),
            (Some("s1.example:9300"), "s1.example:9300"),
        ] {
            assert_eq!(advertised(given, out).expect("an address"), address);
        }
        for given in ["", ":1", "a:b", "a:0"] {
            let refused = advertised(Some(given), out).expect_err("no address").to_string();
            assert!(refused.contains("--advertise-addr"), "{refused}");
        }
        let alone = advertised(None, "127.0.0.1".parse().ok()).expect_err("alone").to_string();
        assert!(alone.contains("no route"), "{alone}");
    }
}
