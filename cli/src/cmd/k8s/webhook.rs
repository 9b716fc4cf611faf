//! `weft k8s webhook`.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use weft_k8s::inject::{Settings, SidecarKind};
use weft_k8s::webhook::{ApiServer, Config, Webhook};

use crate::args::ProcessArgs;
use crate::cmd::inject::InjectSettings;
use crate::config::LogSection;
use crate::failure::Failure;
use crate::lifecycle::{DRAIN_LIMIT_DEFAULT, Door, Process, Serving, Threads, start_logging};

const EXAMPLES: &str = "\
Examples:
  In the cluster, as `weft k8s install` has it:
    weft k8s webhook --image registry.example/weft:1.0 \\
      --server weft-server.weft-system.svc:8300 --root-fingerprint 5f2c...
  Outside of it, for trying out:
    kubectl proxy --port 8001 &
    weft k8s webhook --api-server http://127.0.0.1:8001 --addr 0.0.0.0:8443";

/// Flags of `weft k8s webhook`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WebhookArgs {
    /// Where it listens for the API server
    #[arg(long, value_name = "IP:PORT", default_value = "[::]:8443")]
    addr: SocketAddr,
    /// The namespace of its Service and its Secret
    #[arg(long, short = 'n', value_name = "NAME", default_value = "weft-system")]
    namespace: String,
    /// The name of its Service
    #[arg(long, value_name = "NAME", default_value = "weft-webhook")]
    service: String,
    /// The Secret with its authorities, which it makes and renews
    #[arg(long, value_name = "NAME", default_value = "weft-webhook-authorities")]
    secret: String,
    /// Its MutatingWebhookConfiguration, in which it keeps the API server's trust
    #[arg(long, value_name = "NAME", default_value = "weft-webhook")]
    configuration: String,
    /// The API server as `kubectl proxy` offers it on loopback [default: that of the pod]
    #[arg(long, value_name = "URL")]
    api_server: Option<String>,
    #[command(flatten)]
    settings: InjectSettings,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) fn run(args: &WebhookArgs) -> Result<ExitCode, Failure> {
    start_logging(&args.process, &LogSection::default())?;
    let api = match &args.api_server {
        Some(url) => ApiServer::on_loopback(url),
        None => ApiServer::of_pod(),
    };
    let api = api.context("the webhook has no API server")?;
    let process = Process {
        name: "webhook",
        args: &args.process,
        doors: vec![Door { address: args.addr.to_string(), setting: "--addr" }],
        threads: Threads::Many,
        drain_limit: args.process.drain_limit.unwrap_or(DRAIN_LIMIT_DEFAULT),
    };
    process.run(|tasks| async move {
        let config = Config {
            addr: args.addr,
            service: args.service.clone(),
            namespace: args.namespace.clone(),
            secret: args.secret.clone(),
            configuration: args.configuration.clone(),
            settings: settings(args, &api).await,
        };
        let handle = Webhook::start(config, api, tasks).await?;
        let ready = serde_json::json!({ "https": handle.addr().to_string() });
        Ok(Serving::new(handle, ready))
    })
}

/// Returns the settings; which sidecars the cluster runs is asked unless it was said.
async fn settings(args: &WebhookArgs, api: &ApiServer) -> Settings {
    let mut settings = args.settings.settings();
    if args.settings.is_sidecar_said() {
        return settings;
    }
    match api.version().await {
        Ok((major, minor)) => {
            settings.sidecar = SidecarKind::of_version(&major, &minor);
            tracing::info!(%major, %minor, sidecar = ?settings.sidecar, "the cluster's version");
        }
        Err(error) => {
            // Ordinary ones run everywhere.
            settings.sidecar = SidecarKind::Ordinary;
            tracing::warn!(%error, "the cluster's version is not known: ordinary sidecars");
        }
    }
    settings
}
