//! Starting what was set up, where systemd runs and has the units of the packages.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::files::Role;

/// Lines of the log that are shown when a unit does not start.
const LOG_LINES: &str = "12";

/// Whether systemd can start the process: it runs, and has its unit.
pub(super) fn can_start(role: Role) -> bool {
    let unit = role.unit();
    // Only a system that systemd has booted has this folder; sd_booted(3).
    Path::new("/run/systemd/system").exists() && is_good("systemctl", &["cat", &unit])
}

/// Starts the process now and at each boot; returns once it says that it serves.
///
/// # Errors
/// When it does not start, with the last lines of its log.
pub(super) fn start(role: Role) -> anyhow::Result<()> {
    let unit = role.unit();
    if is_good("systemctl", &["enable", "--now", &unit]) {
        return Ok(());
    }
    let log = Command::new("journalctl")
        .args(["--unit", &unit, "--lines", LOG_LINES, "--output", "cat", "--no-pager"])
        .output()
        .context("cannot run journalctl")?;
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    bail!("{unit} does not start; its log ends with\n{}", log.trim_end());
}

fn is_good(program: &str, args: &[&str]) -> bool {
    let run = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}
