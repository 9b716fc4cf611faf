//! Making a host a server or a member of the mesh, once: `weft server init`, `weft server join` and
//! `weft agent join`. What they write are the files that an operator would write by hand.

pub(crate) mod agent;
pub(crate) mod files;
pub(crate) mod server;
mod unit;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::cmd::check::finding::Finding;
use crate::cmd::check::host::{self, Given};
use crate::output::print_line;

use files::{Place, Role};

/// Flags that all of them have.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Set-up")]
pub(crate) struct SetupArgs {
    /// Where the configuration file is written
    #[arg(long, value_name = "DIR", default_value = Place::CONFIG_DIR)]
    config_dir: PathBuf,
    /// Where state is kept
    #[arg(long, value_name = "DIR", default_value = Place::STATE_DIR)]
    state_dir: PathBuf,
    /// Write the files, and leave starting to somebody else
    #[arg(long)]
    no_start: bool,
    /// Go on although something was found that keeps Weft from working
    #[arg(long)]
    force: bool,
    /// Print one JSON document at the end, for scripts
    #[arg(long)]
    json: bool,
}

impl SetupArgs {
    fn place(&self) -> Place {
        Place { config_dir: self.config_dir.clone(), state_dir: self.state_dir.clone() }
    }

    /// Prints a line for people.
    fn tell(&self, line: &str) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { print_line(line) }
    }

    /// Looks at the host, and refuses one on which it would not work.
    ///
    /// # Errors
    /// When something has to be mended first, unless `--force` was given.
    fn look(&self, role: Role, given: Given<'_>, more: Vec<Finding>) -> anyhow::Result<()> {
        let mut findings = host::check(&self.place().state(role), given);
        findings.extend(more);
        for finding in &findings {
            self.tell(&finding.text())?;
        }
        let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.is_bad()).collect();
        if bad.is_empty() || self.force {
            return Ok(());
        }
        let bad: Vec<String> = bad.iter().map(|it| format!("{}: {}", it.what, it.detail)).collect();
        bail!("nothing was changed, as this has to be mended first: {}", bad.join("; "));
    }
}
