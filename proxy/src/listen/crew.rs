//! All worker threads together: what they are started with, and what they can be told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use weft_core::local_address::LocalAddress;
use weft_runtime::net::ListeningSocket;
use weft_runtime::task::TaskTree;

use super::thread::run_thread;
use super::udp::{InheritedUdp, SharedUdp, deal_udp};
use super::unix::UnixDoors;
use crate::limits::Limits;
use crate::observe::{AccessLog, Decisions, Flows, Spans};
use crate::outbound::Onward;
use crate::tenant::Tenant;
use crate::transport::quic::Docks;
use crate::workload::Workload;

/// Commands on their way to a worker thread: who sends one waits for its answer.
const COMMANDS_MAX: usize = 2;

/// Sockets that another process has opened, by where they listen.
pub(crate) type Inherited = BTreeMap<LocalAddress, Bequest>;

/// Sockets at one address that another process has opened.
#[derive(Debug, Default)]
pub(crate) struct Bequest {
    pub(crate) sockets: Vec<ListeningSocket>,
    /// The proxy that accepted from them; `None` when anyone may.
    pub(crate) of: Option<Box<str>>,
    /// Whether whoever opened them keeps them open, so that nobody else can open others there.
    pub(crate) stays: bool,
}

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
    pub(crate) log: AccessLog,
    pub(crate) decisions: Option<Decisions>,
    pub(crate) spans: Spans,
    pub(crate) unix_doors: UnixDoors,
    /// For callers over QUIC.
    pub(crate) docks: Arc<Docks>,
    /// For redirected connections.
    pub(crate) onward: Arc<Onward>,
    /// Who calls whom.
    pub(crate) flows: Flows,
}

/// A listener that could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Unbound {
    /// Where, if nobody accepts there.
    address: Option<LocalAddress>,
    error: Arc<io::Error>,
    /// Whether callers have another way in.
    pub(crate) has_choice: bool,
}

/// A socket where a worker accepts, and the id of the proxy for which it does.
pub(crate) type Shared = (ListeningSocket, Option<Box<str>>);

/// What a worker thread can be told, and where it answers.
#[derive(Debug)]
pub(super) enum Command {
    /// Puts a workload in force, with all listeners but those that another thread cannot open.
    Apply {
        tenant: Arc<Tenant>,
        workload: Arc<Workload>,
        except: BTreeSet<LocalAddress>,
        done: oneshot::Sender<Vec<Unbound>>,
    },
    /// Accepts no more, and answers when every connection has ended or the time is over.
    Drain { limit: Duration, done: oneshot::Sender<()> },
    /// Accepts no more for one workload, tells so, and tells when its last connection has ended or
    /// was cut at the limit. The others go on.
    Remove { number: u64, limit: Duration, closed: oneshot::Sender<()>, gone: oneshot::Sender<()> },
    /// Accepts no more, because another process does, and tells when every connection has ended.
    Retire { retired: oneshot::Sender<()>, gone: oneshot::Sender<()> },
    /// Closes what another process has left and nobody wanted.
    Settle,
    /// Gives further handles of its sockets.
    Share { answer: oneshot::Sender<io::Result<Vec<Shared>>> },
    /// Gives further handles of its sockets of UDP.
    ShareUdp { answer: oneshot::Sender<io::Result<Vec<SharedUdp>>> },
}

impl Unbound {
    /// One that accepts, but not as it should.
    pub(super) fn new(error: io::Error) -> Self {
        Self { address: None, error: Arc::new(error), has_choice: false }
    }

    /// One at an address where nobody accepts.
    pub(super) fn at(address: LocalAddress, error: io::Error) -> Self {
        Self { address: Some(address), ..Self::new(error) }
    }

    /// One without which callers have another way in.
    pub(super) fn of_choice(error: io::Error) -> Self {
        Self { has_choice: true, ..Self::new(error) }
    }
}

impl Crew {
    /// Starts the worker threads. Sockets that are there already are dealt out among them.
    ///
    /// # Errors
    /// Those of the operating system when a socket cannot be shared.
    pub(crate) fn start(
        options: &CrewOptions,
        (inherited, inherited_udp): (Inherited, InheritedUdp),
        tasks: &TaskTree,
    ) -> io::Result<Self> {
        let callers_open: Arc<AtomicU32> = Arc::default();
        let shares = deal(inherited, options.workers)?;
        let shares = shares.into_iter().zip(deal_udp(inherited_udp, options.workers));
        let doors = shares
            .enumerate()
            .map(|(number, share)| {
                let (door, commands) = mpsc::channel(COMMANDS_MAX);
                let (options, callers_open) = (options.clone(), callers_open.clone());
                let tasks = tasks.child(format!("worker {number}"));
                let inner = tasks.clone();
                let thread = tasks.blocking(move || {
                    run_thread(number, options, (callers_open, share), commands, inner);
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

    /// Puts a workload in force on every thread; returns the listeners that could not be opened.
    /// Those that the first thread cannot open are not opened by the others: another process, or
    /// another workload of this one, has the address.
    pub(crate) async fn apply(
        &self,
        tenant: &Arc<Tenant>,
        workload: &Arc<Workload>,
    ) -> Vec<Unbound> {
        let mut unbound: Vec<Unbound> = Vec::new();
        for door in &self.doors {
            let (done, answer) = oneshot::channel();
            let except = unbound.iter().filter_map(|it| it.address.clone()).collect();
            let (tenant, workload) = (tenant.clone(), workload.clone());
            let command = Command::Apply { tenant, workload, except, done };
            if door.send(command).await.is_ok() {
                unbound.extend(answer.await.unwrap_or_default());
            }
        }
        unbound
    }

    /// Accepts no more for a workload, while the others go on. What is returned is ready when its
    /// last connection has ended, or was cut at the limit.
    pub(crate) async fn remove(
        &self,
        tenant: &Tenant,
        limit: Duration,
    ) -> impl Future<Output = ()> + Send + use<> {
        let number = tenant.number;
        let mut ends = Vec::new();
        for door in &self.doors {
            let ((closed, done), (gone, end)) = (oneshot::channel(), oneshot::channel());
            let command = Command::Remove { number, limit, closed, gone };
            if door.send(command).await.is_ok() && done.await.is_ok() {
                ends.push(end);
            }
        }
        async move {
            for end in ends {
                // A thread that has ended has no connections either.
                let _ = end.await;
            }
        }
    }

    /// Closes what another process has left and no workload wanted.
    pub(crate) async fn settle(&self) {
        for door in &self.doors {
            // A thread that has ended has closed everything.
            let _ = door.send(Command::Settle).await;
        }
    }

    /// Returns further handles of every socket where a worker accepts, worker by worker.
    ///
    /// # Errors
    /// Those of the operating system, such as too many open files.
    pub(crate) async fn share(&self) -> io::Result<Vec<Shared>> {
        let mut sockets = Vec::new();
        for door in &self.doors {
            let (answer, shared) = oneshot::channel();
            let ended = || io::Error::other("a worker has ended");
            door.send(Command::Share { answer }).await.map_err(|_| ended())?;
            sockets.extend(shared.await.map_err(|_| ended())??);
        }
        Ok(sockets)
    }

    /// Returns further handles of every socket where a worker takes datagrams, worker by worker.
    ///
    /// # Errors
    /// Those of the operating system, such as too many open files.
    pub(crate) async fn share_udp(&self) -> io::Result<Vec<SharedUdp>> {
        let mut sockets = Vec::new();
        for door in &self.doors {
            let (answer, shared) = oneshot::channel();
            let ended = || io::Error::other("a worker has ended");
            door.send(Command::ShareUdp { answer }).await.map_err(|_| ended())?;
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
    for (address, Bequest { sockets, of, stays }) in inherited {
        let mut give = |number: usize, socket| {
            let share = shares[number].entry(address.clone()).or_insert_with(|| Bequest {
                sockets: Vec::new(),
                of: of.clone(),
                stays,
            });
            share.sockets.push(socket);
        };
        for number in sockets.len()..workers {
            give(number, sockets[number % sockets.len()].try_clone()?);
        }
        for (number, socket) in sockets.into_iter().enumerate() {
            give(number % workers, socket);
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
            let bequest = Bequest { sockets: sockets.collect(), ..Bequest::default() };
            let inherited = Inherited::from([(address.clone(), bequest)]);
            let shares = deal(inherited, workers).expect("dealt");
            let counts: Vec<usize> =
                shares.iter().map(|share| share[&address].sockets.len()).collect();
            assert_eq!(counts, want);
        }
    }
}
