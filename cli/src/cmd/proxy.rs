//! `weft proxy`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use tracing::info;
use weft_core::limits;
use weft_core::time::Span;
use weft_proxy::Proxy;
use weft_proxy::config::{Config, FileConfig, START_LIMIT_DEFAULT};
use weft_runtime::backoff::Backoff;
use weft_runtime::http::HttpClient;
use weft_runtime::{clock, entropy};

use crate::args::{ConfigArgs, ProcessArgs, duration};
use crate::config::{self, Form, Loaded};
use crate::failure::Failure;
use crate::lifecycle::{Door, Process, Serving, Threads, start_logging};

mod successor;

const EXAMPLES: &str = "\
Examples:
  Run the sidecar of a service that is registered with the agent of this host:
    weft proxy --sidecar-for web-1
  Run one proxy for all services of this host (host_proxy { enabled = true } in the agent's file):
    weft proxy --host
  Put a new version of the program, or new settings, in the place of the one that runs:
    weft proxy --sidecar-for web-1 --take-over
  The agent's HTTP API is elsewhere than on 127.0.0.1:8500:
    WEFT_HTTP_ADDR=127.0.0.1:9500 weft proxy --sidecar-for web-1
  The registration must ask for a sidecar:
    curl -X PUT 127.0.0.1:8500/v1/agent/service/register -d \\
      '{\"Name\":\"web\",\"ID\":\"web-1\",\"Port\":8080,\"Connect\":{\"SidecarService\":{}}}'";

/// The agent is on this host: an answer takes milliseconds.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// The shortest and longest pause before an agent that does not answer is asked again.
const ASK_PAUSE_MIN: Duration = Duration::from_millis(100);
const ASK_PAUSE_MAX: Duration = Duration::from_secs(2);
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
    /// Be the proxy of all services of this host, each with its own identity, instead of one's; the
    /// agent must allow it (host_proxy)
    #[arg(long, conflicts_with_all = ["sidecar_for", "proxy_id"])]
    host: bool,
    /// The agent's HTTP API, which tells where proxies are configured: ip:port or unix:///path
    #[arg(long, value_name = "ADDR", env = "WEFT_HTTP_ADDR", default_value = "127.0.0.1:8500")]
    http_addr: String,
    /// The agent's socket for proxies, instead of asking the HTTP API for it
    #[arg(long, value_name = "PATH")]
    agent_socket: Option<String>,
    /// Where metrics and state are shown; port 0 takes a free one [default: 127.0.0.1:19000]
    #[arg(long, value_name = "IP:PORT")]
    admin_addr: Option<String>,
    /// Worker threads [default: one for each core, as far as the control group's limit goes,
    /// rounded up]
    #[arg(long, value_name = "COUNT")]
    workers: Option<u32>,
    /// Take over from the running proxy of this service, without losing a connection: get its
    /// listeners, and once this process serves have that one end with its last connection. Starts
    /// as usual where none runs. On SIGUSR2 a proxy starts its own successor this way
    #[arg(long)]
    take_over: bool,
    /// How long to wait for an agent, a registration and the first configuration before the start
    /// fails [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    start_limit: Option<Duration>,
    /// How long connections may go on once another process has taken over [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    replaced_limit: Option<Duration>,
    /// How long a proxy that was told to end still takes connections, while it says that it is
    /// not ready any more [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    drain_delay: Option<Duration>,
    /// The folder of the socket over which a new process takes over [default: $RUNTIME_DIRECTORY,
    /// else weft in $XDG_RUNTIME_DIR, else one of its own in the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<String>,
    /// Log each request on standard output: off, text or json [default: as the mesh says]
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
    origins.set(("--runtime-dir", "runtime_dir"), given.runtime_dir, &mut settings.runtime_dir);
    let replaced_limit = given.replaced_limit.map(Span);
    origins.set(
        ("--replaced-limit", "replaced_limit"),
        replaced_limit,
        &mut settings.replaced_limit,
    );
    let start_limit = given.start_limit.map(Span);
    origins.set(("--start-limit", "start_limit"), start_limit, &mut settings.start_limit);
    let drain_delay = given.drain_delay.map(Span);
    origins.set(("--drain-delay", "drain_delay"), drain_delay, &mut settings.drain_delay);
    settings.take_over |= given.take_over;
    settings.host |= given.host;
    settings.runtime_dir.get_or_insert_with(runtime_dir);
    let drain_limit = args.process.drain_limit.map(Span);
    origins.set(("--drain-limit", "drain_limit"), drain_limit, &mut settings.drain_limit);
    start_logging(&args.process, &log)?;
    let limit = settings.start_limit.map_or(START_LIMIT_DEFAULT, |limit| limit.0);
    let is_named = settings.host || settings.sidecar_for.is_some() || settings.proxy_id.is_some();
    if is_named && settings.agent_socket.is_none() && settings.snapshot_file.is_none() {
        settings.agent_socket = Some(ask_agent(&args.http_addr, limit)?);
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
        // The farewell has taken the proxy's own time by then.
        drain_limit: config.drain_limit + DRAIN_MARGIN,
    };
    process.run(|tasks| async move {
        let mut handle = Proxy::start(config, tasks.clone()).await?;
        handle.ready().await?;
        let ready = serde_json::json!({ "admin": handle.admin_addr().to_string() });
        Ok(Serving {
            farewell: Some(Box::pin(handle.farewell())),
            on_user2: Some(successor::start_on_signal(tasks)),
            is_replaced: Some(Box::new(handle.replacement())),
            ..Serving::new(handle, ready)
        })
    })
}

/// Returns the folder for what lives as long as the processes of this user.
fn runtime_dir() -> String {
    let given = |name| std::env::var(name).ok().filter(|path| !path.is_empty());
    if let Some(folders) = given("RUNTIME_DIRECTORY") {
        // The service manager may have made several.
        return folders.split(':').next().unwrap_or_default().to_owned();
    }
    match given("XDG_RUNTIME_DIR") {
        Some(folder) => format!("{folder}/weft"),
        None => {
            let name = format!("weft-{}", rustix::process::geteuid().as_raw());
            std::env::temp_dir().join(name).to_string_lossy().into_owned()
        }
    }
}

/// Asks the agent where proxies are configured; one that is not there yet may come.
fn ask_agent(http_addr: &str, limit: Duration) -> Result<String, Failure> {
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
    let asking = async {
        let give_up_at = clock::instant() + limit;
        let mut backoff = Backoff::new(ASK_PAUSE_MIN, ASK_PAUSE_MAX, entropy::rng());
        let mut is_told = false;
        loop {
            match client.get(&url).await {
                Err(_) if clock::instant() < give_up_at => {
                    if !is_told {
                        info!(http_addr, "waiting for the agent");
                        is_told = true;
                    }
                    tokio::time::sleep(backoff.next()).await;
                }
                answered => return answered,
            }
        }
    };
    let answer = runtime.block_on(asking).with_context(advice)?;
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
