//! `weft proxy`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use weft_core::limits;
use weft_core::time::Span;
use weft_proxy::Proxy;
use weft_proxy::config::{Config, FileConfig};
use weft_runtime::http::HttpClient;

use crate::args::{ConfigArgs, ProcessArgs};
use crate::config::{self, Form, Loaded};
use crate::failure::Failure;
use crate::lifecycle::{Door, Process, Serving, Threads, start_logging};

const EXAMPLES: &str = "\
Examples:
  Run the sidecar of a service that is registered with the agent of this host:
    weft proxy --sidecar-for web-1
  The agent's HTTP API is elsewhere than on 127.0.0.1:8500:
    WEFT_HTTP_ADDR=127.0.0.1:9500 weft proxy --sidecar-for web-1
  The registration must ask for a sidecar:
    curl -X PUT 127.0.0.1:8500/v1/agent/service/register -d \\
      '{\"Name\":\"web\",\"ID\":\"web-1\",\"Port\":8080,\"Connect\":{\"SidecarService\":{}}}'";

/// The agent is on this host: an answer takes milliseconds.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// What the proxy's own drain is given on top, to end by itself.
const DRAIN_MARGIN: Duration = Duration::from_secs(2);

/// How the proxy's files are read.
pub(crate) const FORM: Form = Form { lists: &[], aliases: &[], apart: &[] };

/// Flags of `weft proxy`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The id of the service instance whose sidecar this is
    #[arg(long, value_name = "SERVICE-ID")]
    sidecar_for: Option<String>,
    /// The id of the sidecar's own registration, instead of --sidecar-for
    #[arg(long, value_name = "PROXY-ID", conflicts_with = "sidecar_for")]
    proxy_id: Option<String>,
    /// The agent's HTTP API, which tells where proxies are configured: ip:port or unix:///path
    #[arg(long, value_name = "ADDR", env = "WEFT_HTTP_ADDR", default_value = "127.0.0.1:8500")]
    http_addr: String,
    /// The agent's socket for proxies, instead of asking the HTTP API for it
    #[arg(long, value_name = "PATH")]
    agent_socket: Option<String>,
    /// Where metrics and state are shown; port 0 takes a free one [default: 127.0.0.1:19000]
    #[arg(long, value_name = "IP:PORT")]
    admin_addr: Option<String>,
    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "COUNT")]
    workers: Option<u32>,
    /// Log each request on standard output: off, text or json [default: off]
    #[arg(long, value_name = "FORM")]
    access_log: Option<String>,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) fn run(args: &ProxyArgs) -> Result<ExitCode, Failure> {
    let Loaded { mut settings, log, mut origins, .. } =
        config::load::<FileConfig>(&args.config.files, FORM)?;
    let given = args.clone();
    origins.set(("--sidecar-for", "sidecar_for"), given.sidecar_for, &mut settings.sidecar_for);
    origins.set(("--proxy-id", "proxy_id"), given.proxy_id, &mut settings.proxy_id);
    origins.set(("--agent-socket", "agent_socket"), given.agent_socket, &mut settings.agent_socket);
    origins.set(("--admin-addr", "admin_addr"), given.admin_addr, &mut settings.admin_addr);
    origins.set(("--workers", "workers"), given.workers, &mut settings.workers);
    origins.set(("--access-log", "access_log"), given.access_log, &mut settings.access_log);
    let drain_limit = args.process.drain_limit.map(Span);
    origins.set(("--drain-limit", "drain_limit"), drain_limit, &mut settings.drain_limit);
    start_logging(&args.process, &log)?;
    let is_named = settings.sidecar_for.is_some() || settings.proxy_id.is_some();
    if is_named && settings.agent_socket.is_none() && settings.snapshot_file.is_none() {
        settings.agent_socket = Some(ask_agent(&args.http_addr)?);
    }
    let config =
        Config::resolve(settings).map_err(|faults| Failure::Config(origins.name(faults)))?;
    let process = Process {
        name: "proxy",
        args: &args.process,
        doors: vec![Door {
            address: config.admin_addr.to_string(),
            setting: "--admin-addr (admin_addr in a file)",
        }],
        // The data path brings its own threads.
        threads: Threads::One,
        drain_limit: config.drain_limit + DRAIN_MARGIN,
    };
    process.run(|tasks| async move {
        let mut handle = Proxy::start(config, tasks).await?;
        handle.ready().await?;
        let ready = serde_json::json!({ "admin": handle.admin_addr().to_string() });
        Ok(Serving { handle, ready, farewell: None, on_hangup: None })
    })
}

/// Asks the agent where proxies are configured.
fn ask_agent(http_addr: &str) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let client = HttpClient::new(ASK_LIMIT, limits::API_BODY_BYTES_MAX);
    let (client, host) = match http_addr.strip_prefix("unix://") {
        Some(path) => (client.over_unix(path), "localhost"),
        None => (client, http_addr.strip_prefix("http://").unwrap_or(http_addr)),
    };
    let url = format!("http://{}/v1/agent/self", host.trim_end_matches('/'));
    let advice = || {
        format!(
            "no agent answers at {http_addr}: start `weft agent` on this host, or say where its \
             HTTP API is with --http-addr or WEFT_HTTP_ADDR"
        )
    };
    let answer = runtime.block_on(client.get(&url)).with_context(advice)?;
    let about: Result<serde_json::Value, _> = answer.json();
    let socket =
        about.ok().and_then(|about| about["Weft"]["ProxySocket"].as_str().map(str::to_owned));
    match socket {
        Some(socket) if answer.status.is_success() => Ok(socket),
        _ => Err(anyhow!(
            "what answers at {http_addr} is no agent of Weft (status {}): say where its HTTP API \
             is with --http-addr or WEFT_HTTP_ADDR",
            answer.status.as_u16()
        )
        .into()),
    }
}
