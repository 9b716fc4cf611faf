//! `weft version`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  weft version
  weft version --json";

/// Flags of `weft version`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VersionArgs {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &VersionArgs) -> Result<ExitCode, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let text = if args.json {
        serde_json::json!({ "name": "weft", "version": version }).to_string()
    } else {
        format!("weft {version}")
    };
    writeln!(std::io::stdout(), "{text}").context("cannot print")?;
    Ok(ExitCode::SUCCESS)
}
