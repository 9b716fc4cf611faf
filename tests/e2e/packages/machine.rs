//! A Debian that boots, with systemd and a network of its own, on this machine's kernel.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use weft_tests::eventually;
use weft_tests::tools::{self, Ran};

/// How long one step of a machine may take.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Tells the machines of one test program apart.
static NEXT: AtomicU32 = AtomicU32::new(0);
/// The release that is booted.
const SUITE: &str = "bookworm";

/// Returns the folder that machines boot from; made at the first use, and kept between runs.
pub(super) fn base() -> Result<PathBuf, String> {
    if !is_root() {
        return Err("not root, who alone may boot a machine".to_owned());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or("/var/cache".into(), PathBuf::from);
    let folder = cache.join("weft-tests").join(SUITE);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/packages/base.sh");
    let made = tools::run("sh", &[script, &folder.to_string_lossy(), SUITE]).ok();
    // What it printed is long; the reason stands last.
    made.map_err(|said| said.trim().lines().last().unwrap_or_default().to_owned())?;
    Ok(folder)
}

fn is_root() -> bool {
    tools::run("id", &["-u"]).stdout.trim() == "0"
}

/// A machine that runs. What it writes is in memory, and gone with it.
pub(super) struct Machine {
    nspawn: Child,
    /// Its first process, as this machine numbers it.
    init: u32,
    network: String,
}

impl Machine {
    /// Boots a machine; it has the folder at `/pkg`.
    pub(super) fn boot(base: &Path, shared: &Path) -> Result<Self, String> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weft{}-{number}", std::process::id());
        tools::run("ip", &["netns", "add", &name]).ok()?;
        tools::run("ip", &["-n", &name, "link", "set", "lo", "up"]).ok()?;
        let mut command = Command::new("systemd-nspawn");
        command.args(["-q", "--register=no", "--keep-unit", "--volatile=overlay", "-b", "-D"]);
        command.arg(base).args(["--console=pipe", "--hostname=host-1"]);
        command.arg(format!("--machine={name}"));
        command.arg(format!("--network-namespace-path=/run/netns/{name}"));
        command.arg(format!("--bind-ro={}:/pkg", shared.display()));
        let console = std::fs::File::create(shared.join("console.log")).map_err(said)?;
        let errors = console.try_clone().map_err(said)?;
        let nspawn = command.stdin(Stdio::null()).stdout(console).stderr(errors).spawn();
        let mut machine = Self { nspawn: nspawn.map_err(said)?, init: 0, network: name };
        let log = || std::fs::read_to_string(shared.join("console.log")).unwrap_or_default();
        eventually(LIMIT, "the machine is up", || {
            if let Ok(Some(status)) = machine.nspawn.try_wait() {
                return Ok(Err(format!("systemd-nspawn ended with {status}: {}", log())));
            }
            // Its first child only prepares; the one that stays is the machine's first process.
            machine.init =
                child_of(machine.nspawn.id()).ok_or_else(|| "no process yet".to_owned())?;
            let state = machine.run(&["systemctl", "is-system-running"]);
            let is_up = state.stdout.trim() == "running";
            if is_up { Ok(Ok(())) } else { Err(format!("{state:?} {}", log())) }
        })?;
        Ok(machine)
    }

    /// Runs a program inside.
    pub(super) fn run(&self, command: &[&str]) -> Ran {
        let init = self.init.to_string();
        tools::run("nsenter", &[&["-t", &init, "-a"], command].concat())
    }

    /// Runs a shell inside; returns what it printed, or why it failed.
    pub(super) fn shell(&self, script: &str) -> Result<String, String> {
        self.run(&["sh", "-ec", script]).ok().map(|text| text.trim().to_owned())
    }

    /// Runs a shell inside that must succeed.
    pub(super) fn must(&self, script: &str) -> String {
        self.shell(script).unwrap_or_else(|error| {
            let journal = self.shell("journalctl --no-pager -n 60 -u 'weft-*'");
            panic!("{script}: {error}\n{}", journal.unwrap_or_else(|error| error))
        })
    }

    /// Waits until a shell inside prints this.
    pub(super) fn wait(&self, script: &str, expected: &str) {
        eventually(LIMIT, script, || {
            let said = self.shell(script)?;
            if said == expected { Ok(()) } else { Err(format!("{said:?}, not {expected:?}")) }
        });
    }

    /// The main process of a unit, by the machine's own number.
    pub(super) fn main_process(&self, unit: &str) -> String {
        self.must(&format!("systemctl show --value -p MainPID {unit}"))
    }

    /// Starts an application and callers in the machine's network.
    pub(super) fn load(&self, application: u16, upstream: u16) -> Load {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/packages/load.py");
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-n", "python3", script]);
        command.args([application.to_string(), upstream.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 was found before");
        let input = child.stdin.take().expect("it was asked for");
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        Load { child, input, output }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Everything inside ends with its first process.
        if let Some(init) = child_of(self.nspawn.id()) {
            tools::run("kill", &["-KILL", &init.to_string()]);
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        tools::run("ip", &["netns", "del", &self.network]);
    }
}

/// An application and its callers.
pub(super) struct Load {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Load {
    fn ask(&mut self, what: &str) -> String {
        writeln!(self.input, "{what}").expect("the callers run");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the callers answer");
        line.trim().to_owned()
    }

    /// Sends one request, and waits until one succeeds.
    pub(super) fn reach(&mut self) {
        eventually(LIMIT, "a call comes through", || match self.ask("try").as_str() {
            "good" => Ok(()),
            other => Err(other.to_owned()),
        });
    }

    /// Has the callers begin.
    pub(super) fn begin(&mut self) {
        self.ask("call");
    }

    /// Returns how many calls were answered, and how many failed.
    pub(super) fn counts(&mut self) -> (u64, u64) {
        let line = self.ask("count");
        let mut numbers = line.split(' ').map(|text| text.parse().expect("a number"));
        (numbers.next().expect("two numbers"), numbers.next().expect("two numbers"))
    }

    /// Waits until more calls were answered.
    pub(super) fn go_on(&mut self) {
        let (before, _) = self.counts();
        eventually(LIMIT, "calls go on", || {
            let (answered, failed) = self.counts();
            let has_news = answered > before + 40 || failed > 0;
            if has_news { Ok(()) } else { Err(format!("{answered}, {failed} failed")) }
        });
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

fn said(error: std::io::Error) -> String {
    error.to_string()
}
