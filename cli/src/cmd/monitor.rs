//! `weft monitor`: the log of an agent, as it is written, at a level of one's own.
//!
//! **Source**: Consul: commands/monitor.

use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;

use crate::client::ApiArgs;
use crate::follow::follow;
use crate::output::write_piece;

const EXAMPLES: &str = "\
Examples:
  Follow what this host's agent does:
    weft monitor
  Look closely, whatever its own level is:
    weft monitor --log-level debug
  For programs, one JSON object a line:
    weft monitor --log-json | jq -r .message";

/// Flags of `weft monitor`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MonitorArgs {
    /// The least that is shown; it changes nothing in the agent's own log
    #[arg(long, value_name = "LEVEL", default_value = "info",
        value_parser = ["error", "warn", "info", "debug", "trace"], ignore_case = true)]
    log_level: String,
    /// Print each line as a JSON object
    #[arg(long)]
    log_json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: MonitorArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    let level = args.log_level.to_ascii_lowercase();
    let json = if args.log_json { "&logjson" } else { "" };
    let path = format!("/v1/agent/monitor?loglevel={level}{json}");
    let take = |piece: &[u8]| write_piece(piece).map(|()| ControlFlow::Continue(()));
    follow(&client, &path, take).await?;
    Ok(ExitCode::SUCCESS)
}
