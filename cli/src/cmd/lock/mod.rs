//! `weft lock`: runs a program while a lock, or a place of a semaphore, is held.
//!
//! **Source**: Consul: commands/lock; docs/dynamic-app-config/sessions/semaphore: the same keys
//! in the same form, so that programs on both sides exclude one another.

mod child;
mod claim;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use weft_core::time::Span;
use weft_runtime::clock;
use weft_runtime::signal::Signals;

use crate::client::ApiArgs;
use child::{Child, Ended};
use claim::Claim;

/// A wait for a change ends after half a minute; the answer may take as long again.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

const EXAMPLES: &str = "\
Examples:
  Run a program on one host at a time:
    weft lock service/report/leader ./report.sh --daily
  On at most three:
    weft lock -n 3 service/crawler ./crawl
  Give up when the lock is not free within five seconds:
    weft lock --try 5s jobs/nightly ./nightly.sh";

/// Flags of `weft lock`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LockArgs {
    /// The prefix under which the lock is kept
    prefix: String,
    /// The program and its arguments; one text goes to the shell
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// How many may hold it at once
    #[arg(short = 'n', long = "limit", value_name = "NUMBER", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// A name for the session, shown to people
    #[arg(long)]
    name: Option<String>,
    /// The node of the session; that of the agent when left out
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Give up when it is not free within this time
    #[arg(long = "try", value_name = "TIME")]
    try_for: Option<Span>,
    /// Times that the API may fail to answer before the lock counts as lost
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    monitor_retry: u32,
    /// End with 2 when the program fails
    #[arg(long)]
    child_exit_code: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: LockArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client_with(ANSWER_LIMIT)?;
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let name = args.name.clone().unwrap_or_else(|| format!("weft lock of {:?}", args.prefix));
    let claim = Claim::open(client, &args.prefix, args.limit, &name, args.node.as_deref()).await?;
    // Dropped in the end: the session goes with the claim, whatever came of it.
    let outcome = Box::pin(hold(&args, &claim, &mut signals)).await;
    let closed = claim.close().await;
    let code = outcome?;
    closed?;
    Ok(code)
}

async fn hold(args: &LockArgs, claim: &Claim, signals: &mut Signals) -> anyhow::Result<ExitCode> {
    let until = args.try_for.map(|limit| clock::instant() + limit.0);
    tokio::select! {
        // Nothing runs yet: what is dropped here has no effect but on the claim, which is closed.
        held = claim.acquire(until) => if !held? {
            bail!("the lock on {} was not free within the time of --try", args.prefix);
        },
        lost = claim.keep(args.monitor_retry) => bail!("the session was lost: {lost:#}"),
        _ = signals.next() => return Ok(ExitCode::FAILURE),
    }
    let mut child = Child::start(&args.command)?;
    let lost = tokio::select! {
        lost = claim.lost(args.monitor_retry) => lost,
        lost = claim.keep(args.monitor_retry) => lost,
        ended = child.wait(signals) => return Ok(code(&ended?, args.child_exit_code)),
    };
    child.end().await?;
    bail!("the lock on {} was lost, and the program was told to end: {lost:#}", args.prefix)
}

fn code(ended: &Ended, tells: bool) -> ExitCode {
    match (ended.success, tells) {
        (true, _) | (false, false) => ExitCode::SUCCESS,
        (false, true) => ExitCode::from(2),
    }
}
