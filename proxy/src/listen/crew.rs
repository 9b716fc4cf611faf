//! All workers together: what they are started with, and what they can be told.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use weft_core::local_address::LocalAddress;
use weft_runtime::net::ListeningSocket;
use weft_runtime::task::TaskTree;

use super::unix::UnixDoors;
use super::worker::run_thread;
use crate::control::KeyAsker;
use crate::limits::Limits;
use crate::observe::{AccessLog, Decisions, Metrics, Spans};
use crate::transport::quic::Docks;
use crate::workload::Workload;

/// Commands on their way to a worker: who sends one waits for its answer.
const COMMANDS_MAX: usize = 2;

/// Sockets that another process has opened, by where they listen.
pub(crate) type Inherited = BTreeMap<LocalAddress, Vec<ListeningSocket>>;

/// All workers, as the rest of the proxy sees them. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Crew {
    doors: Vec<mpsc::Sender<Command>>,
}

/// What every worker is started with.
#[derive(Debug, Clone)]
pub(crate) struct CrewOptions {
    pub(crate) workers: usize,
    pub(crate) drain_limit: Duration,
    pub(crate) limits: Arc<Limits>,
    /// Files and sockets that the process may have open.
    pub(crate) descriptors_max: u64,
    pub(crate) metrics: Metrics,
    pub(crate) log: AccessLog,
    pub(crate) asker: Arc<KeyAsker>,
    pub(crate) decisions: Option<Decisions>,
    pub(crate) spans: Spans,
    pub(crate) unix_doors: UnixDoors,
    /// For callers over QUIC.
    pub(crate) docks: Arc<Docks>,
}

/// A listener that could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Unbound {
    error: Arc<io::Error>,
    /// Whether callers have another way in.
    pub(crate) has_choice: bool,
}

/// What a worker can be told, and where it answers.
#[derive(Debug)]
pub(super) enum Command {
    /// Puts a workload in force.
    Apply { workload: Arc<Workload>, done: oneshot::Sender<Vec<Unbound>> },
    /// Accepts no more, and answers when every connection has ended or the time is over.
    Drain { limit: Duration, done: oneshot::Sender<()> },
    /// Accepts no more, because another process does, and tells when every connection has ended.
    Retire { retired: oneshot::Sender<()>, gone: oneshot::Sender<()> },
    /// Gives further handles of its sockets.
    Share { answer: oneshot::Sender<io::Result<Vec<ListeningSocket>>> },
}

impl Unbound {
    pub(super) fn new(error: io::Error) -> Self {
        Self { error: Arc::new(error), has_choice: false }
    }

    /// One without which callers have another way in.
    pub(super) fn of_choice(error: io::Error) -> Self {
        Self { error: Arc::new(error), has_choice: true }
    }
}

impl Crew {
    /// Starts the worker threads. Sockets that are there already are dealt out among them.
    ///
    /// # Errors
    /// Those of the operating system when a socket cannot be shared.
    pub(crate) fn start(
        options: &CrewOptions,
        inherited: Inherited,
        tasks: &TaskTree,
    ) -> io::Result<Self> {
        let (callers_open, inbound_open) = (Arc::default(), Arc::default());
        let shares = deal(inherited, options.workers)?;
        let doors = shares
            .into_iter()
            .enumerate()
            .map(|(number, share)| {
                let (door, commands) = mpsc::channel(COMMANDS_MAX);
                let counts: (Arc<AtomicU32>, Arc<AtomicU32>) =
                    (Arc::clone(&callers_open), Arc::clone(&inbound_open));
                let options = options.clone();
                let tasks = tasks.child(format!("worker {number}"));
                let inner = tasks.clone();
                let thread = tasks.blocking(move || {
                    run_thread(number, &options, (counts, share), commands, inner);
                });
                tasks.spawn("thread", async move {
                    // A panic there was logged by the task tree.
                    let _ = thread.await;
                });
                door
            })
            .collect();
        Ok(Self { doors })
    }

    /// Puts a workload in force on every worker; returns the listeners that could not be
    /// opened.
    pub(crate) async fn apply(&self, workload: &Arc<Workload>) -> Vec<Unbound> {
        let mut unbound = Vec::new();
        for door in &self.doors {
            let (done, answer) = oneshot::channel();
            let command = Command::Apply { workload: workload.clone(), done };
            if door.send(command).await.is_ok() {
                unbound.extend(answer.await.unwrap_or_default());
            }
        }
        unbound
    }

    /// Returns further handles of every socket where a worker accepts, worker by worker.
    ///
    /// # Errors
    /// Those of the operating system, such as too many open files.
    pub(crate) async fn share(&self) -> io::Result<Vec<ListeningSocket>> {
        let mut sockets = Vec::new();
        for door in &self.doors {
            let (answer, shared) = oneshot::channel();
            let ended = || io::Error::other("a worker has ended");
            door.send(Command::Share { answer }).await.map_err(|_| ended())?;
            sockets.extend(shared.await.map_err(|_| ended())??);
        }
        Ok(sockets)
    }

    /// Has no worker accept any more, because another process does. Connections go on: what is
    /// returned is ready when the last one has ended.
    pub(crate) async fn retire(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ends = Vec::new();
        for door in &self.doors {
            let ((retired, done), (gone, end)) = (oneshot::channel(), oneshot::channel());
            if door.send(Command::Retire { retired, gone }).await.is_ok() && done.await.is_ok() {
                ends.push(end);
            }
        }
        async move {
            for end in ends {
                // A worker that has ended has no connections either.
                let _ = end.await;
            }
        }
    }

    /// Has every worker accept no more, and waits until connections have ended, or were cut at
    /// the limit.
    pub(crate) async fn drain(&self, limit: Duration) {
        let mut ends = Vec::new();
        for door in &self.doors {
            let (done, end) = oneshot::channel();
            if door.send(Command::Drain { limit, done }).await.is_ok() {
                ends.push(end);
            }
        }
        for end in ends {
            // A worker that has ended has no connections either.
            let _ = end.await;
        }
    }
}

/// Deals sockets out. Every one must have a worker that accepts, or the connections that wait
/// in it would wait for ever; a worker for which none is left shares that of another.
fn deal(inherited: Inherited, workers: usize) -> io::Result<Vec<Inherited>> {
    let mut shares: Vec<Inherited> = (0..workers).map(|_| Inherited::new()).collect();
    for (address, sockets) in inherited {
        for number in sockets.len()..workers {
            let shared = sockets[number % sockets.len()].try_clone()?;
            shares[number].entry(address.clone()).or_default().push(shared);
        }
        for (number, socket) in sockets.into_iter().enumerate() {
            shares[number % workers].entry(address.clone()).or_default().push(socket);
        }
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use weft_runtime::net::{LocalListener, bind_tcp_shared};

    use super::*;

    #[tokio::test]
    async fn every_socket_has_a_worker_and_every_worker_a_socket() {
        let first = bind_tcp_shared(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = LocalAddress::from(first.local_addr().expect("bound"));
        let first = LocalListener::Tcp(first);
        for (sockets, workers, want) in [
            (1, 1, vec![1]),
            (3, 2, vec![2, 1]),
            (2, 3, vec![1, 1, 1]),
            (1, 4, vec![1, 1, 1, 1]),
            (4, 4, vec![1, 1, 1, 1]),
        ] {
            let sockets = (0..sockets).map(|_| first.share().expect("a handle"));
            let inherited = Inherited::from([(address.clone(), sockets.collect())]);
            let shares = deal(inherited, workers).expect("dealt");
            let counts: Vec<usize> = shares.iter().map(|share| share[&address].len()).collect();
            assert_eq!(counts, want);
        }
    }
}
