//! `weft k8s install`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use weft_k8s::install::{Installation, manifests};

use crate::cmd::inject::InjectSettings;
use crate::output::print_line;

const EXAMPLES: &str = "\
Examples:
  A first installation; the root's fingerprint is known once the server runs:
    weft k8s install --dry-run --image registry.example/weft:1.0 | kubectl apply -f -
    kubectl -n weft-system exec weft-server-0 -- weft ca roots
  Then with it, so that sidecars know the servers:
    weft k8s install --dry-run --image registry.example/weft:1.0 \\
      --server weft-server.weft-system.svc:8300 --root-fingerprint 5f2c... | kubectl apply -f -";

/// Flags of `weft k8s install`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InstallArgs {
    /// Print the manifests; applying them is kubectl's affair
    #[arg(long)]
    dry_run: bool,
    /// The namespace of servers and webhook
    #[arg(long, short = 'n', value_name = "NAME", default_value = "weft-system")]
    namespace: String,
    /// The datacenter's name
    #[arg(long, value_name = "NAME", default_value = "dc1")]
    datacenter: String,
    /// The size of the servers' volume
    #[arg(long, value_name = "QUANTITY", default_value = "10Gi")]
    storage: String,
    #[command(flatten)]
    settings: InjectSettings,
}

pub(crate) fn run(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    if !args.dry_run {
        bail!(
            "say --dry-run to have the manifests printed, and apply them: \
             weft k8s install --dry-run | kubectl apply -f -"
        );
    }
    for (flag, text) in [
        ("--namespace", &args.namespace),
        ("--datacenter", &args.datacenter),
        ("--storage", &args.storage),
    ] {
        let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
        if text.is_empty() || !is_plain {
            bail!("{flag} {text:?}: letters, digits, dots and dashes only");
        }
    }
    let settings = args.settings.settings();
    let image = &settings.image;
    if image.is_empty() || image.contains(|c: char| c.is_whitespace() || c == '#' || c == '\'') {
        bail!("--image {image:?} is no image");
    }
    let installation = Installation {
        namespace: &args.namespace,
        datacenter: &args.datacenter,
        storage: &args.storage,
        settings: &settings,
        flags: args.settings.flags(),
    };
    print_line(manifests(&installation).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
