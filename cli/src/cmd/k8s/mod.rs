//! `weft k8s`: what runs in a cluster of Kubernetes beside the pods, and how it gets there.

mod install;
mod webhook;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  See what an installation consists of:
    weft k8s install --dry-run --image registry.example/weft:1.0
  Install it:
    weft k8s install --dry-run --image registry.example/weft:1.0 | kubectl apply -f -
  Have the pods of a namespace injected from now on:
    kubectl label namespace shop weft.dev/inject=enabled";

/// Arguments of `weft k8s`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct K8sArgs {
    #[command(subcommand)]
    command: K8sCommand,
}

#[derive(Debug, Subcommand)]
enum K8sCommand {
    /// Print the manifests of servers and webhook
    Install(Box<install::InstallArgs>),
    /// Run the webhook that puts sidecars into new pods
    Webhook(Box<webhook::WebhookArgs>),
}

pub(crate) fn run(args: K8sArgs) -> Result<ExitCode, Failure> {
    match args.command {
        K8sCommand::Install(args) => Ok(install::run(&args)?),
        K8sCommand::Webhook(args) => webhook::run(&args),
    }
}
