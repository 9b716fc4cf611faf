//! `weft detach`: starts a program and ends at once, so that the program has the system's first process, or
//! whoever stands in for it, as its parent, as a program has that the service manager started itself.
//! Then the service manager hears of its end.
//!
//! Standard input and output are exchanged for the program: it writes to what is this command's input. What
//! is this command's output, a pipe to whoever called it, is told the program's number and then stays open,
//! unread and unwritten, as long as the program lives.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use clap::Args;

use crate::failure::Failure;

/// Flags of `weft detach`.
#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &DetachArgs) -> Result<ExitCode, Failure> {
    let (program, arguments) = args.command.split_first().context("no program is given")?;
    let exchange = "cannot pass on standard input and output";
    let input = std::io::stdout().as_fd().try_clone_to_owned().context(exchange)?;
    let output = std::io::stdin().as_fd().try_clone_to_owned().context(exchange)?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    writeln!(std::io::stdout(), "{}", child.id()).context("cannot tell the number")?;
    Ok(ExitCode::SUCCESS)
}
