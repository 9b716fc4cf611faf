//! One process of the demo: started from this same binary, logging to a file, never outliving us.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::Context;
use tokio::process::{Child as Process, Command};

use super::watchdog;

/// What to start, and under which name it logs. It can be started again after it was killed.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// The name for people; also the log file's.
    pub(super) name: String,
    /// The arguments after `weft`.
    pub(super) args: Vec<String>,
}

impl Program {
    /// Makes a program from its name and arguments.
    pub(super) fn new(name: impl Into<String>, args: &[&str]) -> Self {
        Self { name: name.into(), args: args.iter().map(|arg| (*arg).to_owned()).collect() }
    }
}

/// A running process.
#[derive(Debug)]
pub(super) struct Child {
    program: Program,
    log: PathBuf,
    process: Process,
}

impl Child {
    /// Starts a program with its log in the given folder; a restart appends to the same log.
    pub(super) fn start(program: Program, logs: &Path) -> anyhow::Result<Self> {
        let log = logs.join(format!("{}.log", program.name));
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("opening the log {}", log.display()))?;
        let again = file.try_clone().with_context(|| format!("opening {}", log.display()))?;
        let exe = std::env::current_exe().context("finding this binary")?;
        let mut command = Command::new(&exe);
        for name in std::env::vars_os().map(|(name, _)| name).filter(is_setting) {
            command.env_remove(name);
        }
        let process = command
            .args(&program.args)
            .env(watchdog::VARIABLE, "1")
            // The pipe that tells the child when we are gone; nothing is ever written to it.
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(again)
            // Its own process group, so that Ctrl-C in a terminal reaches only the demo, which
            // then ends the children in its own order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {} as {}", program.name, exe.display()))?;
        Ok(Self { program, log, process })
    }

    /// Returns its process id, `None` once it has ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Returns its name.
    pub(super) fn name(&self) -> &str {
        &self.program.name
    }

    /// Returns what it was started as.
    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    /// Returns where it logs.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Tells how it ended, `None` while it runs.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await.with_context(|| format!("killing {}", self.program.name))
    }

    /// Returns the last lines of its log.
    pub(super) fn last_lines(&self, count: usize) -> Vec<String> {
        last_lines(&self.log, count).unwrap_or_default()
    }
}

/// Tells whether a variable of the caller's environment would configure a process that is to be
/// configured by the demo alone. How much it logs is left to the caller.
fn is_setting(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    (name.starts_with("WEFT_") && name != "WEFT_LOG") || name == "NOTIFY_SOCKET"
}

/// A log's end is looked for in this many bytes.
const TAIL_BYTES_MAX: u64 = 64 * 1024;

fn last_lines(path: &Path, count: usize) -> std::io::Result<Vec<String>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    Ok(lines[from..].iter().map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_found() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a.log");
        std::fs::write(&path, "one\ntwo\nthree\n").expect("a log");
        assert_eq!(last_lines(&path, 2).expect("lines"), ["two", "three"]);
        assert_eq!(last_lines(&path, 9).expect("lines").len(), 3);
        assert!(last_lines(&folder.path().join("none"), 2).is_err());
    }
}
