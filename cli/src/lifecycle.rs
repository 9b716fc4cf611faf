//! The life of a process: start, report ready, wait for a signal, drain.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::Value;
use tracing::{debug, info, warn};
use weft_proto::text::Fault;
use weft_runtime::drain::{Drained, drain};
use weft_runtime::signal::{Received, Signals};
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::log;
use weft_runtime::telemetry::notify::{Report, notify, watchdog};

use crate::args::ProcessArgs;
use crate::config::LogSection;
use crate::failure::{Failure, chain, is_address_in_use};

/// How long the tasks of a process may take to end when nothing else is said: some seconds more
/// than a request of an API takes, less than service managers wait (systemd: 90 s).
pub(crate) const DRAIN_LIMIT_DEFAULT: Duration = Duration::from_secs(10);

/// The threads that a process works on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Threads {
    /// One for each core.
    Many,
    /// Only the calling one, for a process that brings its own workers.
    One,
}

/// A place where a process listens, so that a clash can be told how to mend.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// The address, as errors name it.
    pub(crate) address: String,
    /// The flag or setting that changes it.
    pub(crate) setting: &'static str,
}

/// A process that serves.
pub(crate) struct Serving<H> {
    /// Kept until the process ends.
    pub(crate) handle: H,
    /// What the ready file says.
    pub(crate) ready: Value,
    /// What the service manager waits for besides, while the process serves already.
    pub(crate) settled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// What is done first when the process is told to end, while all of it still works.
    pub(crate) farewell: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// What SIGHUP has done; `None` where nothing is read again.
    pub(crate) on_hangup: Option<OnSignal>,
    /// What SIGUSR2 has done; `None` where no other process can take over.
    pub(crate) on_user2: Option<OnSignal>,
    /// Tells whether another process serves in this one's place: then the service manager is told
    /// nothing of this one's end.
    pub(crate) is_replaced: Option<Box<dyn Fn() -> bool + Send>>,
}

impl<H> Serving<H> {
    /// Makes a process that reacts to nothing but being told to end.
    pub(crate) fn new(handle: H, ready: Value) -> Self {
        Self {
            handle,
            ready,
            settled: None,
            farewell: None,
            on_hangup: None,
            on_user2: None,
            is_replaced: None,
        }
    }
}

/// What is done at each signal of a kind.
pub(crate) type OnSignal = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What is the same for every long-running command.
pub(crate) struct Process<'a> {
    /// Its name: `agent`.
    pub(crate) name: &'static str,
    /// Its flags.
    pub(crate) args: &'a ProcessArgs,
    /// Where it will listen.
    pub(crate) doors: Vec<Door>,
    /// The threads it works on.
    pub(crate) threads: Threads,
    /// How long its tasks may take to end.
    pub(crate) drain_limit: Duration,
}

/// Starts logging as flags and files say; flags beat files.
pub(crate) fn start_logging(args: &ProcessArgs, section: &LogSection) -> Result<(), Failure> {
    let format = args.log_format.or(section.format).unwrap_or_default();
    let filter = args.log_level.as_deref().or(section.level.as_deref());
    let origin = if std::env::var_os(log::ENVIRONMENT).is_some_and(|text| !text.is_empty()) {
        log::ENVIRONMENT
    } else if args.log_level.is_some() {
        "--log-level"
    } else {
        "log.level"
    };
    log::init(format, filter).map_err(|error| match error {
        log::LogError::Filter { .. } => {
            Failure::Config(vec![Fault::new(origin, error.to_string())])
        }
        log::LogError::Again => Failure::Run(error.into()),
    })
}

impl Process<'_> {
    /// Runs the process to its end.
    ///
    /// # Errors
    /// What kept it from starting, or a task whose panic it does not survive.
    pub(crate) fn run<S, H>(&self, start: impl FnOnce(TaskTree) -> S) -> Result<ExitCode, Failure>
    where
        S: Future<Output = anyhow::Result<Serving<H>>>,
    {
        let mut builder = match self.threads {
            Threads::Many => tokio::runtime::Builder::new_multi_thread(),
            Threads::One => tokio::runtime::Builder::new_current_thread(),
        };
        let runtime = builder.enable_all().build().context("cannot start the runtime")?;
        let ended = runtime.block_on(self.serve(start));
        // What still runs is blocking work that was told to end; it must not hold us up.
        runtime.shutdown_background();
        ended
    }

    async fn serve<S, H>(&self, start: impl FnOnce(TaskTree) -> S) -> Result<ExitCode, Failure>
    where
        S: Future<Output = anyhow::Result<Serving<H>>>,
    {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let tasks = TaskTree::root(self.name);
        let started = tokio::select! {
            // A start that is dropped leaves tasks in the tree, which is drained below.
            started = start(tasks.clone()) => started,
            () = signals.shutdown() => {
                self.end(&tasks, signals).await;
                return Ok(ExitCode::SUCCESS);
            }
        };
        let mut serving = match started.and_then(|serving| self.tell_ready(serving)) {
            Ok(serving) => serving,
            Err(error) => {
                self.end(&tasks, signals).await;
                return Err(Failure::Run(advise(&self.doors, error)));
            }
        };
        keep_watchdog_quiet(&tasks);
        tell_manager(&tasks, serving.settled.take());
        info!(addresses = %serving.ready, "{} is ready", self.name);
        let acts = (serving.on_hangup.take(), serving.on_user2.take());
        let failure = self.wait(&tasks, &mut signals, acts).await;
        let is_replaced = serving.is_replaced.as_ref().is_some_and(|is_replaced| is_replaced());
        if !is_replaced {
            notify(Report::Stopping);
        }
        if let Some(farewell) = serving.farewell.take()
            && !tasks.is_cancelled()
        {
            tokio::select! {
                () = farewell => {}
                // Told to end a second time: at once, then. A farewell may break off.
                () = signals.shutdown() => {}
            }
        }
        self.end(&tasks, signals).await;
        drop(serving.handle);
        match failure {
            None => Ok(ExitCode::SUCCESS),
            Some(failure) => Err(Failure::Run(failure)),
        }
    }

    fn tell_ready<H>(&self, serving: Serving<H>) -> anyhow::Result<Serving<H>> {
        if let Some(path) = &self.args.ready_file {
            write_ready_file(path, &serving.ready)?;
        }
        Ok(serving)
    }

    /// Waits for the reason to end; `None` is one that was wanted.
    async fn wait(
        &self,
        tasks: &TaskTree,
        signals: &mut Signals,
        (on_hangup, on_user2): (Option<OnSignal>, Option<OnSignal>),
    ) -> Option<anyhow::Error> {
        loop {
            tokio::select! {
                // All are cancel-safe.
                received = signals.next() => match received {
                    Received::Hangup => match &on_hangup {
                        Some(act) => {
                            notify(Report::Reloading);
                            act().await;
                            notify(Report::Ready);
                        }
                        None => {
                            info!("configuration is read at the start only; restart to apply it");
                        }
                    },
                    Received::User2 => match &on_user2 {
                        Some(act) => {
                            // Until the new process says that it is ready, or this one goes on.
                            notify(Report::Reloading);
                            act().await;
                        }
                        None => info!("no other process can take over from this one"),
                    },
                    Received::Interrupt | Received::Terminate => {
                        info!("told to end");
                        return None;
                    }
                },
                failure = tasks.failed() => return Some(anyhow!(failure)),
                // The process ends itself, as an agent does that was told to leave.
                () = tasks.cancelled() => return None,
            }
        }
    }

    async fn end(&self, tasks: &TaskTree, mut signals: Signals) {
        match drain(tasks, self.drain_limit, signals.shutdown()).await {
            Drained::Clean => debug!("ended"),
            Drained::Forced(unfinished) => warn!(%unfinished, "ended by force"),
        }
    }
}

/// Adds to a clash of addresses what to change.
fn advise(doors: &[Door], error: anyhow::Error) -> anyhow::Error {
    if !is_address_in_use(&error) {
        return error;
    }
    let text = chain(&error);
    match doors.iter().find(|door| text.contains(&door.address)) {
        Some(door) => anyhow!(
            "{text}; another process listens on {}: stop it, or choose another address with {}",
            door.address,
            door.setting
        ),
        None => error,
    }
}

/// Tells the service manager that the process serves, once nothing more is to be waited for.
fn tell_manager(tasks: &TaskTree, settled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    let Some(settled) = settled else {
        notify(Report::Ready);
        return;
    };
    let token = tasks.token();
    tasks.spawn("readiness", async move {
        tokio::select! {
            () = settled => notify(Report::Ready),
            () = token.cancelled() => {}
        }
    });
}

/// Tells the service manager often enough that the process is alive, if it wants to know: a
/// runtime that hangs stops telling.
fn keep_watchdog_quiet(tasks: &TaskTree) {
    let Some(limit) = watchdog() else { return };
    let token = tasks.token();
    tasks.spawn("watchdog", async move {
        // Half the limit, as sd_watchdog_enabled(3) advises.
        let mut beat = tokio::time::interval(limit / 2);
        loop {
            tokio::select! {
                // Both are cancel-safe.
                _ = beat.tick() => notify(Report::Watchdog),
                () = token.cancelled() => return,
            }
        }
    });
}

/// Writes the file whole or not at all: who waits for it reads it as soon as it is there.
fn write_ready_file(path: &Path, ready: &Value) -> anyhow::Result<()> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, format!("{ready}\n"))
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("cannot write the ready file {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_clash_of_addresses_names_the_setting_to_change() {
        let doors = [Door { address: "127.0.0.1:8500".into(), setting: "--http-addr" }];
        let clash = |address: &str| {
            let text = format!("cannot listen on {address}: address in use");
            anyhow!(io::Error::new(io::ErrorKind::AddrInUse, text)).context("cannot start")
        };
        let advice = advise(&doors, clash("127.0.0.1:8500")).to_string();
        assert!(advice.starts_with("cannot start: cannot listen on 127.0.0.1:8500"), "{advice}");
        assert!(advice.ends_with("choose another address with --http-addr"), "{advice}");
        assert_eq!(advise(&doors, clash("127.0.0.1:1")).to_string(), "cannot start");
        let other = advise(&doors, anyhow!("cannot reach 127.0.0.1:8500")).to_string();
        assert_eq!(other, "cannot reach 127.0.0.1:8500");
    }
}
