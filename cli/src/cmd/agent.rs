//! `weft agent`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use weft_agent::Agent;
use weft_agent::config::{Config, FileConfig, Reread, read_definitions};

use crate::args::{ConfigArgs, ProcessArgs};
use crate::cmd::setup::agent::AgentCommand;
use crate::config::{self, Form, Loaded, Readable};
use crate::credentials;
use crate::failure::Failure;
use crate::lifecycle::{
    DRAIN_LIMIT_DEFAULT, Door, OnSignal, Process, Serving, Threads, start_logging,
};

const EXAMPLES: &str = "\
Examples:
  Make this host a member and start its agent as a service:
    weft agent join weft1-...
  Join a mesh for the first time and run here, with the token that `weft server` printed:
    weft agent --data-dir /var/lib/weft/agent --join weft1-...
  Start again; identity and services are in the data directory:
    weft agent --data-dir /var/lib/weft/agent
  From configuration files, as under systemd:
    weft agent --config /etc/weft/agent.d
  With certificates for programs that have a SPIFFE library (docs/workload-api.md), in a file:
    workload_api {
      socket = \"/run/weft/workload.sock\"
      entry {
        service = \"web\"
        unit    = \"web.service\"
      }
    }
  Services and checks in those files take effect again by:
    weft reload
  Then register a service and find it:
    curl -X PUT 127.0.0.1:8500/v1/agent/service/register -d '{\"Name\":\"web\",\"Port\":8080}'
    dig @127.0.0.1 -p 8600 web.service.mesh SRV";

/// How the agent's files are read: services may stand in any of them.
pub(crate) const FORM: Form = Form {
    lists: &["servers"],
    aliases: &[("service", "services"), ("check", "checks")],
    apart: &["services", "checks"],
};

/// Flags of `weft agent`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct AgentArgs {
    #[command(subcommand)]
    pub(crate) command: Option<AgentCommand>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Where identity, services and check states are kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The join token; needed only as long as the data directory holds no identity
    #[arg(long, value_name = "TOKEN", conflicts_with = "join_token_file")]
    join: Option<String>,
    /// A file with the join token
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<String>,
    /// A server, as host:port, instead of those that the join answer named; repeatable
    #[arg(long = "server", value_name = "HOST:PORT")]
    servers: Vec<String>,
    /// This host's name in the catalog [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The IP address at which local proxies listen for other hosts
    #[arg(long, value_name = "IP")]
    bind_addr: Option<String>,
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
    process: ProcessArgs,
}

pub(crate) fn run(args: &AgentArgs) -> Result<ExitCode, Failure> {
    let Loaded { mut settings, log, mut origins, apart } =
        config::load::<FileConfig>(&args.config.files, FORM)?;
    let (given, by_files) = (args.clone(), settings.clone());
    origins.set(("--data-dir", "data_dir"), given.data_dir, &mut settings.data_dir);
    if given.join.is_some() || given.join_token_file.is_some() {
        // The flag stands for either setting of the files.
        (settings.join, settings.join_token_file) = (None, None);
    }
    origins.set(("--join", "join"), given.join, &mut settings.join);
    origins.set(
        ("--join-token-file", "join_token_file"),
        given.join_token_file,
        &mut settings.join_token_file,
    );
    origins.set_list(("--server", "servers"), given.servers, &mut settings.servers);
    origins.set(("--node-name", "node_name"), given.node_name, &mut settings.node_name);
    origins.set(("--bind-addr", "bind_addr"), given.bind_addr, &mut settings.bind_addr);
    origins.set(
        ("--advertise-addr", "advertise_addr"),
        given.advertise_addr,
        &mut settings.advertise_addr,
    );
    origins.set(("--http-addr", "http.addr"), given.http_addr, &mut settings.http.addr);
    origins.set(("--dns-addr", "dns.addr"), given.dns_addr, &mut settings.dns.addr);
    if settings.join.is_none() {
        credentials::fill(&mut settings.join_token_file, "join-token");
    }
    let tokens = &mut settings.acl.tokens;
    credentials::fill(&mut tokens.default_file, "default-token");
    credentials::fill(&mut tokens.agent_file, "agent-token");
    credentials::fill(&mut tokens.dns_file, "dns-token");
    start_logging(&args.process, &log)?;
    let mut config =
        Config::resolve(settings).map_err(|faults| Failure::Config(origins.name(faults)))?;
    config.definitions = read_definitions(&apart);
    config.settings = Arc::new(by_files.clone());
    config.reread = reread(&args.config.files, by_files);
    let process = Process {
        name: "agent",
        args: &args.process,
        doors: doors(&config),
        threads: Threads::Many,
        drain_limit: args.process.drain_limit.unwrap_or(DRAIN_LIMIT_DEFAULT),
    };
    let workload_socket = config.workload_api.as_ref().map(|api| api.socket.clone());
    let http_socket = config.http.socket.as_ref().map(|socket| socket.path.clone());
    process.run(|tasks| async move {
        let handle = Agent::start(config, tasks).await?;
        let shown = |address: Option<std::net::SocketAddr>| address.map(|it| it.to_string());
        let ready = serde_json::json!({
            "http": shown(handle.http_addr()),
            "https": shown(handle.https_addr()),
            "http_socket": http_socket,
            "dns": shown(handle.dns_addr()),
            "proxy_socket": handle.proxy_socket(),
            "workload_socket": workload_socket,
        });
        let reloader = handle.reloader().clone();
        let on_hangup: OnSignal = Box::new(move || {
            let reloader = reloader.clone();
            // It logs what is wrong; nobody waits for the outcome of a signal.
            Box::pin(async move { drop(reloader.reload().await) })
        });
        Ok(Serving { on_hangup: Some(on_hangup), ..Serving::new(handle, ready) })
    })
}

/// How the files are read again: what is right in them counts, and where settings are not clear,
/// those of the start.
fn reread(files: &[PathBuf], at_start: FileConfig) -> Option<Reread> {
    if files.is_empty() {
        return None;
    }
    let files = files.to_owned();
    let read = move || {
        let Readable { settings, apart, faults } =
            config::load_what_is_right::<FileConfig>(&files, FORM);
        let mut definitions = read_definitions(&apart);
        definitions.faults.extend(faults);
        Ok((settings.unwrap_or_else(|| at_start.clone()), definitions))
    };
    Some(Reread::new(read))
}

/// Where an agent listens.
pub(crate) fn doors(config: &Config) -> Vec<Door> {
    let http = config.http.addr.map(|address| (address, "--http-addr (http.addr in a file)"));
    let dns = config.dns.addrs.iter();
    let dns = dns.map(|address| (*address, "--dns-addr (dns.addr in a file)"));
    let doors = http.into_iter().chain(dns);
    doors.map(|(address, setting)| Door { address: address.to_string(), setting }).collect()
}
