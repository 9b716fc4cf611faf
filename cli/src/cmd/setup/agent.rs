//! `weft agent join`: this host becomes a member, and its agent is started.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use weft_agent::config::{Config, DnsSection, FileConfig, HttpSection};
use weft_runtime::task::TaskTree;

use super::files::{Place, Role, hand_over, hcl, write_new};
use super::{SetupArgs, unit};
use crate::cmd::check::host::Given;
use crate::cmd::check::{self, ports};
use crate::output::{print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  With the token that `weft server init` printed:
    weft agent join weft1-...
  From a file, so that it stands in no shell's history:
    weft agent join --token-file /root/join-token
  In an image, or where something else starts the agent:
    weft agent join --token-file token --no-start";

/// What `weft agent` does besides running the agent.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum AgentCommand {
    /// Make this host a member: check it, join, write its configuration, start the agent
    Join(AgentJoinArgs),
}

/// Flags of `weft agent join`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AgentJoinArgs {
    /// The join token
    #[arg(value_name = "TOKEN", required_unless_present = "token_file")]
    token: Option<String>,
    /// A file with the join token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// This host's name in the catalog [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The IP address under which other hosts reach this one
    #[arg(long, value_name = "IP")]
    advertise_addr: Option<String>,
    /// Where the HTTP API listens, or "off" [default: 127.0.0.1:8500]
    #[arg(long, value_name = "IP:PORT")]
    http_addr: Option<String>,
    /// Where DNS listens, or "off" [default: 127.0.0.1:8600]
    #[arg(long, value_name = "IP:PORT")]
    dns_addr: Option<String>,
    #[command(flatten)]
    setup: SetupArgs,
}

pub(crate) async fn run(command: &AgentCommand, tasks: TaskTree) -> anyhow::Result<ExitCode> {
    let AgentCommand::Join(args) = command;
    let (setup, place) = (&args.setup, args.setup.place());
    place.refuse_second(Role::Agent)?;
    let token = check::join_token(args.token.as_deref(), args.token_file.as_deref())?;
    let token = token.context("give the join token, or --token-file")?;
    let config = config(args, &place, token.clone())?;
    let mut findings = ports::check(&check::agent_doors(&config));
    findings.extend(check::join_with(&token, Role::Agent).await);
    let given = Given { name: args.node_name.as_deref(), address: args.advertise_addr.as_deref() };
    setup.look(Role::Agent, given, findings)?;
    let member = weft_agent::join::join(&config, &tasks).await?;
    let membership = member.membership();
    let (node, datacenter) = (&membership.node, &membership.datacenter);
    setup.tell(&format!("\n{node} is a member of {datacenter} now."))?;
    let path = place.config(Role::Agent);
    let data_dir = config.data_dir.display().to_string();
    let settings = [
        ("data_dir", Some(data_dir)),
        ("node_name", args.node_name.clone()),
        ("advertise_addr", args.advertise_addr.clone()),
    ];
    let head = "The agent of this host, as `weft agent join` wrote it. Services of this host may stand here too,\n\
                or are registered over the HTTP API.";
    let mut text = hcl(head, &settings);
    for (section, addr) in [("http", &args.http_addr), ("dns", &args.dns_addr)] {
        if let Some(addr) = addr {
            text.push_str(&format!("{section} {{\n  addr = {}\n}}\n", json!(addr)));
        }
    }
    write_new(&path, &text)?;
    hand_over(&config.data_dir)?;
    let has_started = !setup.no_start && unit::can_start(Role::Agent);
    if has_started {
        unit::start(Role::Agent)?;
    }
    if setup.json {
        print_json(&json!({
            "Node": node, "Datacenter": datacenter, "Servers": member.servers,
            "Config": path, "Started": has_started,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    next(has_started, &path)?;
    Ok(ExitCode::SUCCESS)
}

fn next(has_started: bool, config: &std::path::Path) -> anyhow::Result<()> {
    if has_started {
        print_line(
            "Its agent runs (weft-agent.service). See that all is well, and register a service:",
        )?;
    } else {
        print_line("Start its agent, see that all is well, and register a service:")?;
        print_line(&format!("\n  weft agent --config {}", config.display()))?;
    }
    print_line("\n  weft check\n  weft services register --name web --port 8080")
}

fn config(args: &AgentJoinArgs, place: &Place, token: String) -> anyhow::Result<Config> {
    let settings = FileConfig {
        data_dir: Some(place.state(Role::Agent).display().to_string()),
        node_name: args.node_name.clone(),
        advertise_addr: args.advertise_addr.clone(),
        join: Some(token),
        http: HttpSection { addr: args.http_addr.clone(), ..HttpSection::default() },
        dns: DnsSection { addr: args.dns_addr.clone(), ..DnsSection::default() },
        ..FileConfig::default()
    };
    Config::resolve(settings).map_err(|faults| check::all(&faults))
}
