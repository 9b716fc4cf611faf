//! The program that runs under a lock: gets our signals, and ends when the lock is lost.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use weft_runtime::signal::{Received, Signals};

/// How long the program may take to end before it is killed (Consul: 5 s).
const END_LIMIT: Duration = Duration::from_secs(5);

/// The running program. Killed when it is dropped.
pub(super) struct Child(tokio::process::Child);

/// How it ended.
pub(super) struct Ended {
    pub(super) success: bool,
}

impl Child {
    /// Starts a program with its arguments; one text alone goes to the shell.
    pub(super) fn start(command: &[String]) -> anyhow::Result<Self> {
        let mut command = match command {
            [] => bail!("say which program runs under the lock"),
            [text] => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", text]);
                shell
            }
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
        };
        command.env("CONSUL_LOCK_HELD", "true").env("WEFT_LOCK_HELD", "true");
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ok(Self(command.spawn().context("the program cannot be started")?))
    }

    /// Waits until it has ended, and passes signals on to it.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub(super) async fn wait(&mut self, signals: &mut Signals) -> anyhow::Result<Ended> {
        loop {
            tokio::select! {
                status = self.0.wait() => return ended(status),
                received = signals.next() => self.signal(match received {
                    Received::Hangup => Signal::HUP,
                    Received::Interrupt => Signal::INT,
                    Received::Terminate => Signal::TERM,
                    Received::User2 => Signal::USR2,
                }),
            }
        }
    }

    /// Tells it to end, and kills it when it does not.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM);
        if tokio::time::timeout(END_LIMIT, self.0.wait()).await.is_err() {
            self.0.kill().await.context("the program cannot be killed")?;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let pid = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // One that has ended meanwhile needs no signal.
            let _ = kill_process(pid, signal);
        }
    }
}

fn ended(status: std::io::Result<ExitStatus>) -> anyhow::Result<Ended> {
    let status = status.context("the program cannot be waited for")?;
    if !status.success() {
        eprintln!("The program ended with {status}.");
    }
    Ok(Ended { success: status.success() })
}
