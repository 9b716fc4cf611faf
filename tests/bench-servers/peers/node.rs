//! One server process.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use weft_tests::ports::free_port;

/// How long a server may take to end when asked to.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A server; it ends with this value.
pub(crate) struct Node {
    child: Child,
    log: PathBuf,
    /// Where clients come in.
    pub(crate) door: SocketAddr,
    /// Where other servers come in; the leader is named by it.
    pub(crate) peer_door: SocketAddr,
}

/// A free address on loopback.
pub(super) fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// What a program says of its version.
pub(super) fn version(program: &Path, argument: &str) -> anyhow::Result<String> {
    ensure!(
        program.is_file(),
        "no {}; tests/bench-servers/fetch-peers.sh gets it from Debian",
        program.display()
    );
    let output = Command::new(program).arg(argument).output().context("running it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    Ok(line.rsplit([' ', 'v']).next().unwrap_or_default().to_owned())
}

impl Node {
    pub(super) fn start(
        mut command: Command,
        log: &Path,
        door: SocketAddr,
        peer_door: SocketAddr,
    ) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Self { child, log: log.to_owned(), door, peer_door })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of its log, when it has ended by itself.
    pub(super) fn last_words(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten()?;
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        Some(lines[lines.len().saturating_sub(5)..].join("; "))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let pid = self.pid().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status();
        let start = Instant::now();
        while start.elapsed() < END_LIMIT {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
