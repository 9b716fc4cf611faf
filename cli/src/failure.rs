//! How a command fails: what is printed, and with which exit code.

use std::io;
use std::process::ExitCode;

use weft_proto::text::Fault;

/// The exit code of a wrong command line or configuration; clap's own.
pub(crate) const USAGE: u8 = 2;
/// The exit code of everything else that goes wrong.
const RUN: u8 = 1;

/// Why a command ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration is wrong; nothing was started or changed.
    Config(Vec<Fault>),
    /// Something went wrong at run time.
    Run(anyhow::Error),
}

impl Failure {
    /// Prints the failure and returns the exit code.
    pub(crate) fn tell(&self) -> ExitCode {
        match self {
            Self::Config(faults) => {
                eprintln!("weft: the configuration has {}:", counted(faults.len()));
                for fault in faults {
                    eprintln!("  {fault}");
                }
                eprintln!("Nothing was started.");
                USAGE.into()
            }
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

fn counted(faults: usize) -> String {
    if faults == 1 { "a fault".to_owned() } else { format!("{faults} faults") }
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

/// Returns whether an address that was to be bound is taken.
pub(crate) fn is_address_in_use(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().map(io::Error::kind)
    };
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::AddrInUse))
        // Some errors keep the system's words only.
        || chain(error).contains("Address already in use")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_is_one_line_without_repetition() {
        let error: anyhow::Result<()> = Err(io::Error::other("disk full")).context("disk full");
        let error = error.context("cannot start").expect_err("an error");
        assert_eq!(chain(&error), "cannot start: disk full");
    }
}
