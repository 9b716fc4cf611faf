//! `weft server`.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use weft_server::config::{Config, FileConfig};
use weft_server::{Server, ServerHandle};

use crate::args::{ConfigArgs, ProcessArgs};
use crate::cmd::setup::server::ServerCommand;
use crate::config::{self, Form, Loaded};
use crate::credentials;
use crate::failure::Failure;
use crate::lifecycle::{DRAIN_LIMIT_DEFAULT, Door, Process, Serving, Threads, start_logging};

const EXAMPLES: &str = "\
Examples:
  Set this host up as the first server, and start it as a service; or as a further one:
    weft server init
    weft server join weft1-...
  Run the first server of a mesh here; it makes the certificate authority and prints a join token:
    weft server --data-dir /var/lib/weft/server --advertise-addr 10.0.0.1:8300
  The token is kept in the data directory too:
    cat /var/lib/weft/server/join-token
  From configuration files, as under systemd:
    weft server --config /etc/weft/server.d
  Then join the host's agent:
    weft agent --data-dir /var/lib/weft/agent --join-token-file /var/lib/weft/server/join-token";

/// How long the service manager is kept waiting for a leader: some elections. A server without a majority
/// answers stale reads, so it counts as started then, and whoever upgrades servers one by one goes on.
const LEADER_LIMIT: Duration = Duration::from_secs(30);

/// How the server's files are read.
pub(crate) const FORM: Form = Form { lists: &[], aliases: &[], apart: &[] };

/// Flags of `weft server`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct ServerArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ServerCommand>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Where the log, snapshots and sealed keys are kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// This server's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The datacenter [default: dc1]
    #[arg(long, value_name = "NAME")]
    datacenter: Option<String>,
    /// Where agents and other servers are served
    #[arg(long, value_name = "IP:PORT")]
    bind_addr: Option<String>,
    /// Under which address they reach this server
    #[arg(long, value_name = "HOST:PORT")]
    advertise_addr: Option<String>,
    /// Where the HTTP API is served without TLS, on loopback [default: nowhere; agents have it]
    #[arg(long, value_name = "IP:PORT")]
    http_addr: Option<String>,
    /// A join token for servers: joins that mesh instead of founding one
    #[arg(long, value_name = "TOKEN", conflicts_with = "join_token_file")]
    join: Option<String>,
    /// A file with such a token
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) fn run(args: &ServerArgs) -> Result<ExitCode, Failure> {
    let Loaded { mut settings, log, mut origins, .. } =
        config::load::<FileConfig>(&args.config.files, FORM)?;
    let given = args.clone();
    origins.set(("--data-dir", "data_dir"), given.data_dir, &mut settings.data_dir);
    origins.set(("--node-name", "node_name"), given.node_name, &mut settings.node_name);
    origins.set(("--datacenter", "datacenter"), given.datacenter, &mut settings.datacenter);
    origins.set(("--bind-addr", "bind_addr"), given.bind_addr, &mut settings.bind_addr);
    origins.set(
        ("--advertise-addr", "advertise_addr"),
        given.advertise_addr,
        &mut settings.advertise_addr,
    );
    origins.set(("--http-addr", "http.addr"), given.http_addr, &mut settings.http.addr);
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
    if settings.join.is_none() {
        credentials::fill(&mut settings.join_token_file, "server-join-token");
    }
    credentials::fill(&mut settings.acl.tokens.initial_management_file, "management-token");
    start_logging(&args.process, &log)?;
    let config =
        Config::resolve(settings).map_err(|faults| Failure::Config(origins.name(faults)))?;
    let process = Process {
        name: "server",
        args: &args.process,
        doors: doors(&config),
        threads: Threads::Many,
        drain_limit: args.process.drain_limit.unwrap_or(DRAIN_LIMIT_DEFAULT),
    };
    let is_first = !config.data_dir.join("join-token").exists();
    let done =
        if config.join.is_some() { "This server joined a mesh" } else { "A mesh was founded" };
    process.run(|tasks| async move {
        let handle = Server::start(config, tasks).await?;
        if is_first && handle.join_token_path().exists() {
            welcome(done, &handle);
        }
        let ready = serde_json::json!({
            "rpc": handle.rpc_addr().to_string(),
            "http": handle.http_addr().map(|address| address.to_string()),
            "https": handle.https_addr().map(|address| address.to_string()),
            "telemetry": handle.telemetry_addr().map(|address| address.to_string()),
            "cluster_id": handle.cluster_id(),
            "join_token_file": handle.join_token_path(),
        });
        let (leaving, led) = (handle.clone(), handle.clone());
        let farewell = Box::pin(async move { leaving.hand_over().await });
        // Only the service manager waits for this: what needs no leader is served from now on.
        let settled = Box::pin(async move { led.led(LEADER_LIMIT).await });
        Ok(Serving {
            farewell: Some(farewell),
            settled: Some(settled),
            ..Serving::new(handle, ready)
        })
    })
}

/// Where a server listens.
fn doors(config: &Config) -> Vec<Door> {
    let door = |address: SocketAddr, setting| Door { address: address.to_string(), setting };
    let telemetry = config
        .telemetry_addr
        .map(|address| door(address, "telemetry_addr in a configuration file"));
    let http = config.http.addr.map(|address| door(address, "--http-addr (http.addr in a file)"));
    let https = config.http.https.as_ref();
    let https = https.map(|https| door(https.addr, "https.addr in a configuration file"));
    [door(config.bind_addr, "--bind-addr (bind_addr in a file)")]
        .into_iter()
        .chain([telemetry, http, https].into_iter().flatten())
        .collect()
}

/// Tells how hosts join. The token itself is for a person's eyes, not for a log.
fn welcome(done: &str, handle: &ServerHandle) {
    let path = handle.join_token_path();
    let token = std::fs::read_to_string(path).ok().filter(|_| std::io::stdout().is_terminal());
    let join = match token {
        Some(token) => format!("--join {}", token.trim()),
        None => format!("--join-token-file {}", path.display()),
    };
    let text = format!(
        "{done}. Its join token is in {}; hosts join within a day with\n\n  \
         weft agent {join}\n\n",
        path.display()
    );
    // Nobody may be reading; the file is there all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
