//! `weft check`: is this host fit for the mesh; and once it is in it, is all well?

pub(crate) mod finding;
pub(crate) mod host;
mod mesh;
pub(crate) mod ports;
pub(crate) mod servers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use weft_agent::config::{Config as AgentConfig, FileConfig as AgentFile};
use weft_core::ca::MemberRole;
use weft_proto::text::Fault;
use weft_server::config::{Config as ServerConfig, FileConfig as ServerFile};

use crate::client::ApiArgs;
use crate::cmd::setup::files::{Place, Role};
use crate::output::{OutputArgs, print_json, print_line};

use finding::{Finding, Standing};
use host::Given;
use ports::{Transport, Wanted};

const EXAMPLES: &str = "\
Examples:
  Is this host fit to join, and can it reach the servers of a join token:
    weft check --join-token-file token
  Is it fit to be a server:
    weft check --role server
  Once it has joined: agent, servers, clock, certificates, proxies, names:
    weft check
  What is amiss, for scripts; the exit code is 1 if anything is:
    weft check --json | jq -r '.Findings[] | select(.Standing == \"FAIL\") | .Fix'";

/// Flags of `weft check`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// What the host is to become, where no agent runs yet
    #[arg(long, value_enum, default_value_t = RoleArg::Agent)]
    role: RoleArg,
    /// The join token that it is to join with
    #[arg(long, value_name = "TOKEN", conflicts_with = "join_token_file")]
    join: Option<String>,
    /// A file with the join token
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// Where configuration files are
    #[arg(long, value_name = "DIR", default_value = Place::CONFIG_DIR)]
    config_dir: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    /// A host with an agent
    Agent,
    /// A server
    Server,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Agent => Self::Agent,
            RoleArg::Server => Self::Server,
        }
    }
}

pub(crate) async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    let place = Place::new(args.config_dir.clone());
    let own = match client.get("/v1/agent/self").await {
        // A refusal is an answer: somebody is there, who does not know this token.
        Ok(answer) => Some(answer.ok()?.json::<Value>()?),
        Err(_) => None,
    };
    let findings = match &own {
        Some(own) => {
            let mut findings = mesh::check(&client, own).await;
            let given = Given {
                name: own["Config"]["NodeName"].as_str(),
                address: own["DebugConfig"]["AdvertiseAddrLAN"].as_str(),
            };
            let host = host::check(&place.state(Role::Agent), given);
            findings.extend(host.into_iter().filter(is_no_clock));
            findings
        }
        None => before(&args, &place).await?,
    };
    tell(&findings, own.is_some(), &args)?;
    let is_good = !findings.iter().any(Finding::is_bad);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether it is not about the clock alone, of which the servers have told more.
fn is_no_clock(finding: &Finding) -> bool {
    finding.what != "clock" || finding.standing == Standing::Poor
}

/// Looks at a host on which no agent answers.
async fn before(args: &CheckArgs, place: &Place) -> anyhow::Result<Vec<Finding>> {
    let role = Role::from(args.role);
    let mut findings = host::check(&place.state(role), Given::default());
    let config = place.config(role);
    if config.exists() && role == Role::Agent {
        findings.push(Finding::bad(
            "agent",
            format!("{} is there, but no agent answers", config.display()),
            "systemctl status weft-agent; journalctl -u weft-agent -n 20 says why",
        ));
    } else {
        let wanted = match role {
            Role::Agent => {
                let config = AgentConfig::resolve(AgentFile::default());
                agent_doors(&config.map_err(|faults| all(&faults))?)
            }
            Role::Server => server_doors(ServerFile::default())?,
        };
        findings.extend(ports::check(&wanted));
    }
    let text = join_token(args.join.as_deref(), args.join_token_file.as_deref())?;
    if let Some(text) = text {
        findings.extend(join_with(&text, role).await);
    }
    Ok(findings)
}

/// Reads a join token from where it was given; `None` where none was.
///
/// # Errors
/// When its file cannot be read; it names the file.
pub(crate) fn join_token(
    given: Option<&str>,
    file: Option<&Path>,
) -> anyhow::Result<Option<String>> {
    let text = match (given, file) {
        (Some(text), _) => text.to_owned(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the join token from {}", path.display()))?,
        (None, None) => return Ok(None),
    };
    Ok(Some(text.trim().to_owned()))
}

/// Looks at a join token and the servers that it names.
pub(crate) async fn join_with(text: &str, role: Role) -> Vec<Finding> {
    let member = match role {
        Role::Agent => MemberRole::Agent,
        Role::Server => MemberRole::Server,
    };
    let (found, token) = servers::token(text, member);
    let mut findings = vec![found];
    if let Some(token) = token {
        findings.extend(servers::reach(&token.servers).await);
    }
    findings
}

/// Returns where a server listens by its settings, of which only those about that count.
///
/// # Errors
/// What is wrong with the settings, or that this host has no name.
pub(crate) fn server_doors(settings: ServerFile) -> anyhow::Result<Vec<Wanted>> {
    let settings = ServerFile {
        data_dir: Some(Place::default().state(Role::Server)),
        advertise_addr: Some("localhost:8300".to_owned()),
        ..settings
    };
    let config = ServerConfig::resolve(settings).map_err(|faults| all(&faults))?;
    Ok(vec![tcp(config.bind_addr, "agents and other servers", "--bind-addr")])
}

/// Returns where an agent listens.
pub(crate) fn agent_doors(config: &AgentConfig) -> Vec<Wanted> {
    let api = config.http.addr.map(|address| tcp(address, "the HTTP API", "--http-addr"));
    let mut wanted: Vec<Wanted> = api.into_iter().collect();
    for address in &config.dns.addrs {
        let over_tcp = tcp(*address, "DNS", "--dns-addr");
        wanted.push(Wanted { transport: Transport::Udp, ..over_tcp.clone() });
        wanted.push(over_tcp);
    }
    wanted
}

fn tcp(address: SocketAddr, what: &'static str, setting: &'static str) -> Wanted {
    Wanted { address, transport: Transport::Tcp, what, setting }
}

/// Writes faults of a configuration as one error.
pub(crate) fn all(faults: &[Fault]) -> anyhow::Error {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    anyhow!("{}", faults.join("; "))
}

fn tell(findings: &[Finding], is_member: bool, args: &CheckArgs) -> anyhow::Result<()> {
    if args.output.json {
        let shown: Vec<Value> = findings.iter().map(Finding::json).collect();
        return print_json(&json!({ "Member": is_member, "Findings": shown }));
    }
    for finding in findings {
        print_line(&finding.text())?;
    }
    let bad = findings.iter().filter(|finding| finding.is_bad()).count();
    let poor = findings.iter().filter(|finding| finding.standing == Standing::Poor).count();
    let next = match (bad, is_member, args.role) {
        (0, true, _) => "All that has to work does.".to_owned(),
        (0, false, RoleArg::Agent) => "Fit to join: weft agent join TOKEN".to_owned(),
        (0, false, RoleArg::Server) => {
            "Fit to be a server: weft server init for the first, weft server join TOKEN for others"
                .to_owned()
        }
        (bad, ..) => format!("{bad} to mend first; each says how."),
    };
    print_line("")?;
    if poor > 0 {
        print_line(&format!("{poor} could be better; each says how."))?;
    }
    print_line(&next)
}
