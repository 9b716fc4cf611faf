//! `weft watch`: prints what is watched, or hands every change to a program or an URL.
//!
//! **Source**: Consul: commands/watch; docs/dynamic-app-config/watches.

mod handler;
mod view;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde_json::Value;
use weft_runtime::signal::Signals;

use crate::client::{ApiArgs, ApiClient};
use crate::output::print_json;
use handler::Handler;
use view::{Mark, View};

/// How long one question waits for a change; the answer may take half a minute longer.
const WAIT: &str = "60s";
const ANSWER_LIMIT: Duration = Duration::from_secs(100);
/// The pause after an answer that did not come, and how far it grows (Consul: 5 s to 3 min).
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

const EXAMPLES: &str = "\
Examples:
  Print a view once:
    weft watch --type service --service web --passingonly
  Run a program now and after each change; it reads JSON:
    weft watch --type keyprefix --prefix config/ ./reload.sh
    weft watch --type checks --state critical ./page-somebody.sh
  Post each change to an URL:
    weft watch --type event --name deploy --http http://127.0.0.1:9000/deploy";

/// Flags of `weft watch`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    view: view::ViewArgs,
    /// The program that gets each view, and its arguments; one text goes to the shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    handler: Vec<String>,
    /// Post each view to this URL instead of running a program
    #[arg(long, value_name = "URL", conflicts_with = "handler")]
    http: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let view = View::of(&args.view)?;
    let client = args.api.client_with(ANSWER_LIMIT)?;
    let Some(handler) = Handler::of(args.handler, args.http) else {
        let (value, _) = view.read(&client, &Mark::Start).await?;
        print_json(&value)?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut signals = Signals::listen()?;
    tokio::select! {
        // A program that runs is killed with the wait; what it does is its own affair.
        outcome = follow(&client, &view, &handler) => outcome,
        () = signals.shutdown() => Ok(ExitCode::SUCCESS),
    }
}

/// Hands over the view now and whenever it is another.
async fn follow(client: &ApiClient, view: &View, handler: &Handler) -> anyhow::Result<ExitCode> {
    let (mut since, mut last, mut pause) = (Mark::Start, None::<Value>, PAUSE_MIN);
    loop {
        match view.read(client, &since).await {
            Ok((value, at)) => {
                pause = PAUSE_MIN;
                if last.as_ref() != Some(&value) {
                    handler.hand_over(&value, at.index()).await?;
                    last = Some(value);
                }
                if at == Mark::Start {
                    bail!("the answer has no index to wait with");
                }
                since = view.next(&since, at);
            }
            Err(error) if last.is_none() => return Err(error),
            Err(error) => {
                eprintln!("{error:#}; trying again in {} s", pause.as_secs());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
                since = Mark::Start;
            }
        }
    }
}
