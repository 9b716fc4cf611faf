//! `weft capture`: the host's rules that lead what programs call to their proxy. What the rules say is
//! decided in `core::capture`; here tools of the host carry it out.

mod backend;
mod flags;
mod probe;

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::output::{OutputArgs, print_json, print_line};
pub(crate) use backend::program;
use backend::{Backend, BackendArgs};
use flags::PlanArgs;

const EXAMPLES: &str = "\
Examples:
  Lead what the user web calls to its sidecar, and its DNS to the agent:
    weft capture apply --uid web --dns 127.0.0.1:8600
  Lead only calls to virtual addresses there, such as http://reviews.virtual.mesh:
    weft capture apply --uid web --dns 127.0.0.1:8600 --only-virtual
  Several services with a host proxy, each with its own port:
    weft capture apply --uid web=15001 --uid shop=15002
  Everything that is called in a pod, and everything that others call there:
    weft capture apply --proxy-uid 1337 --inbound-port 21000 --exclude-inbound-port 9090
  See the rules without setting them, see those that are set, try them as that user, take them away:
    weft capture apply --uid web --dry-run
    weft capture show
    sudo -u web weft capture test
    weft capture remove";

/// Flags of `weft capture`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CaptureArgs {
    #[command(subcommand)]
    command: CaptureCommand,
}

#[derive(Debug, Subcommand)]
enum CaptureCommand {
    /// Set the rules, in place of those that weft set before
    #[command(after_help = EXAMPLES)]
    Apply(Box<ApplyArgs>),
    /// Take away every rule that weft has set, and nothing else
    #[command(after_help = EXAMPLES)]
    Remove(RemoveArgs),
    /// Print the rules of weft that are set
    #[command(after_help = EXAMPLES)]
    Show(ShowArgs),
    /// Call a reserved virtual address as this user, and say what became of it
    #[command(after_help = EXAMPLES)]
    Test(probe::TestArgs),
}

#[derive(Debug, Args)]
struct ApplyArgs {
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// Print what would be set, and set nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    #[command(flatten)]
    backend: BackendArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: CaptureArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        CaptureCommand::Apply(args) => apply(*args).await?,
        CaptureCommand::Remove(args) => Backend::find(&args.backend).await?.remove().await?,
        CaptureCommand::Show(args) => {
            let backend = Backend::find(&args.backend).await?;
            let rules = backend.rules().await?;
            tell(&rules, (backend.name(), !rules.is_empty()), args.output)?;
        }
        CaptureCommand::Test(args) => return probe::run(args).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn apply(args: ApplyArgs) -> anyhow::Result<()> {
    let plan = args.plan.plan();
    if let Err(faults) = plan.check() {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        bail!("nothing was set: {}", lines.join("; "));
    }
    let backend = Backend::find(&args.backend).await?;
    let texts = backend.texts(&plan).await?;
    if args.dry_run {
        let all: String = texts.iter().map(|(_, text)| text.as_str()).collect();
        return tell(&all, (backend.name(), false), args.output);
    }
    backend.carry_out(&texts).await?;
    if args.output.json {
        tell(&backend.rules().await?, (backend.name(), true), args.output)?;
    }
    Ok(())
}

fn tell(rules: &str, (backend, is_set): (&str, bool), output: OutputArgs) -> anyhow::Result<()> {
    if output.json {
        let rules: Vec<&str> = rules.lines().collect();
        return print_json(&json!({ "Backend": backend, "Set": is_set, "Rules": rules }));
    }
    match rules.trim_end() {
        "" => print_line("No rules of weft are set here."),
        rules => print_line(rules),
    }
}
