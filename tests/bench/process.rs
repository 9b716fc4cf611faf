//! The measured processes: started on their core, counted by the kernel, ended with us.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use weft_tests::proc;

/// The core of all measured proxies.
pub(crate) const PROXY_CORE: &str = "1";
/// The core of the load, the backend and this program.
const LOAD_CORE: &str = "0";

/// Whether measured processes run in the real-time class, for machines with other work.
fn is_real_time() -> bool {
    std::env::var_os("BENCH_RR").is_some()
}

/// Binds this program to the load's core. Call it before any thread is started.
pub(crate) fn pin_self() -> anyhow::Result<()> {
    let pid = std::process::id().to_string();
    let run = |program: &str, args: &[&str]| -> anyhow::Result<()> {
        let done = Command::new(program).args(args).stdout(Stdio::null()).status();
        match done.with_context(|| format!("running {program}"))?.success() {
            true => Ok(()),
            false => bail!("{program} {args:?} failed"),
        }
    };
    run("taskset", &["-a", "-p", "-c", LOAD_CORE, &pid])?;
    if is_real_time() {
        run("chrt", &["-a", "-r", "-p", "1", &pid])?;
    }
    Ok(())
}

/// A measured process and its children.
#[derive(Debug)]
pub(crate) struct Measured {
    child: Child,
    log: PathBuf,
}

impl Measured {
    /// Starts a program on the proxies' core with its output in a file.
    pub(crate) fn start(program: &Path, args: &[String], log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let again = file.try_clone()?;
        // taskset and chrt replace themselves by the program: the process id is the program's.
        let mut command = Command::new("taskset");
        command.args(["-c", PROXY_CORE]);
        if is_real_time() {
            command.args(["chrt", "-r", "1"]);
        }
        let child = command
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// The last lines of what it printed.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("; ")
    }

    fn pids(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = all.get(next).copied() {
            let path = format!("/proc/{pid}/task/{pid}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
            next += 1;
        }
        all
    }

    /// The processor time so far, user and system, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.pids().into_iter().map(proc::cpu_seconds).sum()
    }

    /// The resident memory now, in megabytes (10^6).
    pub(crate) fn rss_mb(&self) -> f64 {
        self.pids().into_iter().map(proc::rss_mb).sum()
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            if self.has_ended() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        for pid in self.pids().into_iter().skip(1) {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
