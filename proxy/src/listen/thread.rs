//! A worker thread: one runtime, and on it a worker for each workload of the process.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::info;
use weft_core::local_address::LocalAddress;
use weft_runtime::task::TaskTree;

use super::crew::{Command, CrewOptions, Inherited, Unbound};
use super::descriptors::Descriptors;
use super::load::Load;
use super::udp::InheritedUdp;
use super::worker::Worker;
use crate::tenant::Tenant;
use crate::workload::Workload;

/// How long a connection to another proxy or to the local instance waits for its next request:
/// shorter than servers usually keep an idle client (nginx: 75 s), so that we close first.
const POOL_IDLE_MAX: Duration = Duration::from_secs(60);
/// How often idle connections are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// What the workers of one thread share.
pub(super) struct Thread {
    pub(super) number: usize,
    pub(super) tasks: TaskTree,
    pub(super) options: CrewOptions,
    pub(super) load: Rc<Load>,
    pub(super) descriptors: Rc<Descriptors>,
    /// The number of the next connection from a caller.
    pub(super) next_life: Rc<Cell<u64>>,
    pub(super) callers_open: Arc<AtomicU32>,
    pub(super) inherited: Rc<RefCell<Inherited>>,
    pub(super) inherited_udp: Rc<RefCell<InheritedUdp>>,
    pub(super) is_retired: Cell<bool>,
    /// By the number of the tenant; those who leave until their last connection has ended.
    workers: RefCell<BTreeMap<u64, Rc<Worker>>>,
}

/// Runs a worker thread until the tree is cancelled, and then until its connections have ended.
pub(super) fn run_thread(
    number: usize,
    options: CrewOptions,
    (callers_open, (inherited, inherited_udp)): (Arc<AtomicU32>, (Inherited, InheritedUdp)),
    mut commands: mpsc::Receiver<Command>,
    tasks: TaskTree,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(number, %error, "cannot start a worker");
            return;
        }
    };
    let thread = Rc::new(Thread {
        number,
        load: Load::new(options.limits.overload_delay),
        descriptors: Rc::new(Descriptors::new(options.descriptors_max)),
        next_life: Rc::default(),
        callers_open,
        inherited: Rc::new(RefCell::new(inherited)),
        inherited_udp: Rc::new(RefCell::new(inherited_udp)),
        is_retired: Cell::new(false),
        workers: RefCell::default(),
        tasks: tasks.clone(),
        options,
    });
    runtime.block_on(async {
        thread.load.watch(&tasks);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                // All three are cancel-safe by their documentation.
                command = commands.recv() => match command {
                    Some(command) => thread.obey(command),
                    None => break,
                },
                _ = sweep.tick() => {
                    thread.close_idle(POOL_IDLE_MAX);
                    thread.all().iter().for_each(|worker| worker.drain_expired());
                    thread.all().iter().for_each(|worker| worker.retire_older());
                }
                () = tasks.cancelled() => break,
            }
        }
        thread.drain(thread.options.drain_limit).await;
        together(thread.all().iter().map(|worker| worker.say_goodbye())).await;
    });
    info!(number, "worker ended");
}

impl Thread {
    fn all(&self) -> Vec<Rc<Worker>> {
        self.workers.borrow().values().cloned().collect()
    }

    /// Closes connections to others that have waited too long for a request.
    pub(super) fn close_idle(&self, idle_max: Duration) {
        self.all().iter().for_each(|worker| worker.close_idle(idle_max));
    }

    fn apply(
        self: &Rc<Self>,
        tenant: &Arc<Tenant>,
        (workload, except): (Arc<Workload>, &BTreeSet<LocalAddress>),
    ) -> Vec<Unbound> {
        let known = self.workers.borrow().get(&tenant.number).cloned();
        let worker = known.unwrap_or_else(|| {
            let worker = Worker::new(self, tenant);
            self.workers.borrow_mut().insert(tenant.number, worker.clone());
            worker
        });
        worker.apply(workload, except)
    }

    /// Has all workers leave, each with as much time as the others.
    async fn drain(&self, limit: Duration) {
        self.is_retired.set(true);
        together(self.all().iter().map(|worker| worker.drain(limit))).await;
    }

    /// Waits until the last connection has ended.
    async fn gone(&self) {
        for worker in self.all() {
            worker.gone().await;
        }
    }

    /// Has one worker leave while the others go on.
    fn remove(
        self: &Rc<Self>,
        number: u64,
        limit: Duration,
        (closed, gone): (oneshot::Sender<()>, oneshot::Sender<()>),
    ) {
        let worker = self.workers.borrow().get(&number).cloned();
        let Some(worker) = worker else {
            // It never had a configuration. Whoever waits may have ended meanwhile.
            let _ = (closed.send(()), gone.send(()));
            return;
        };
        worker.leave();
        let _ = closed.send(());
        let thread = self.clone();
        self.tasks.spawn_local("removal", async move {
            tokio::select! {
                // Both only wait.
                () = worker.drain(limit) => {}
                // The thread drains all that is left.
                () = thread.tasks.cancelled() => return,
            }
            worker.end();
            worker.gone().await;
            worker.say_goodbye().await;
            thread.workers.borrow_mut().remove(&number);
            worker.tasks.cancel();
            let _ = gone.send(());
        });
    }

    /// Carries out what it is told.
    fn obey(self: &Rc<Self>, command: Command) {
        // Whoever waits for an answer may have ended meanwhile.
        match command {
            Command::Apply { tenant, workload, except, done } => {
                drop(done.send(self.apply(&tenant, (workload, &except))));
            }
            Command::Drain { limit, done } => {
                let thread = self.clone();
                self.tasks.spawn_local("drain", async move {
                    tokio::select! {
                        // Both only wait.
                        () = thread.drain(limit) => drop(done.send(())),
                        () = thread.tasks.cancelled() => {}
                    }
                });
            }
            Command::Remove { number, limit, closed, gone } => {
                self.remove(number, limit, (closed, gone));
            }
            Command::Retire { retired, gone } => {
                self.is_retired.set(true);
                self.all().iter().for_each(|worker| worker.retire());
                let _ = retired.send(());
                let thread = self.clone();
                self.tasks.spawn_local("retire", async move {
                    tokio::select! {
                        // Both only wait.
                        () = thread.gone() => drop(gone.send(())),
                        () = thread.tasks.cancelled() => {}
                    }
                });
            }
            Command::Settle => {
                self.inherited.borrow_mut().retain(|_, bequest| bequest.stays);
                self.inherited_udp.borrow_mut().clear();
            }
            Command::Share { answer } => {
                let shared = self.all().iter().map(|worker| worker.share()).collect();
                let shared: std::io::Result<Vec<_>> = shared;
                drop(answer.send(shared.map(|all| all.into_iter().flatten().collect())));
            }
            Command::ShareUdp { answer } => {
                let shared = self.all().iter().map(|worker| worker.share_udp()).collect();
                let shared: std::io::Result<Vec<_>> = shared;
                drop(answer.send(shared.map(|all| all.into_iter().flatten().collect())));
            }
        }
    }
}

/// Waits for all of them at once.
async fn together(all: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut waits: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        waits.retain_mut(|wait| wait.as_mut().poll(cx).is_pending());
        if waits.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
