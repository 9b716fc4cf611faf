//! `weft completion`: what a shell needs to complete commands and flags, as the packages install it.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, ValueEnum};

use crate::args::Cli;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  In the shell that runs:
    source <(weft completion bash)
  For good, of one user; packages have done it for all:
    weft completion fish > ~/.config/fish/completions/weft.fish";

/// Flags of `weft completion`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// The shells that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Fish,
    Zsh,
}

pub(crate) fn run(args: &CompletionArgs) -> Result<ExitCode, Failure> {
    std::io::stdout().write_all(&script(args.shell)).context("cannot print")?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> Vec<u8> {
    let known = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Zsh => clap_complete::Shell::Zsh,
    };
    let mut text = Vec::new();
    clap_complete::generate(known, &mut Cli::command(), "weft", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_completes_a_command_and_a_flag_of_it() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let text = String::from_utf8(script(shell)).expect("UTF-8");
            for word in ["members", "sidecar-for"] {
                assert!(text.contains(word), "{shell:?} lacks {word}");
            }
        }
    }
}
