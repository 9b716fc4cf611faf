//! How a command fails: what is printed, and with which exit code.

use std::process::ExitCode;

/// The exit code of a wrong command line or configuration; clap's own.
pub(crate) const USAGE: u8 = 2;
/// The exit code of everything else that goes wrong.
const RUN: u8 = 1;

/// Why a command ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something went wrong at run time.
    Run(anyhow::Error),
}

impl Failure {
    /// Prints the failure and returns the exit code.
    pub(crate) fn tell(&self) -> ExitCode {
        match self {
            Self::Run(error) => {
                eprintln!("weft: {}", chain(error));
                RUN.into()
            }
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Run(error)
    }
}

/// Writes an error with its sources as one line, leaving out a source whose words its parent
/// has used already.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::io;

    #[test]
    fn an_error_is_one_line_without_repetition() {
        let error: anyhow::Result<()> = Err(io::Error::other("disk full")).context("disk full");
        let error = error.context("cannot start").expect_err("an error");
        assert_eq!(chain(&error), "cannot start: disk full");
    }
}
