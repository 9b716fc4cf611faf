//! Worker threads: one runtime each, nothing shared between them on the way of a request.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weft_core::catalog::SOCKET_MODE_DEFAULT;
use weft_core::local_address::LocalAddress;
use weft_core::traffic::Mix64;
use weft_runtime::net::{ListeningSocket, LocalListener, TcpListener};
use weft_runtime::task::TaskTree;
use weft_runtime::tls::rustls::pki_types::CertificateDer;
use weft_runtime::{clock, entropy, net};

use super::accept::{Door, accept};
use super::crew::{Command, CrewOptions, Inherited, Unbound};
use super::descriptors::Descriptors;
use super::load::Load;
use super::quic::QuicDoor;
use super::unix::{UnixDoor, UnixDoors};
use super::{Live, Local};
use crate::control::KeyAsker;
use crate::identity::{Credentials, Loss};
use crate::inbound;
use crate::limits::Limits;
use crate::observe::{
    AccessLog, Decisions, Flow, FlowKey, Flows, MuxCounts, QuicCounts, Side, Spans, Verdict,
    WorkerMetrics,
};
use crate::transport::quic;
use crate::workload::Workload;

/// How long a connection to another proxy or to the local instance waits for its next request:
/// shorter than servers usually keep an idle client (nginx: 75 s), so that we close first.
const POOL_IDLE_MAX: Duration = Duration::from_secs(60);
/// How long the last words over QUIC may take: some round trips.
const GOODBYE_LIMIT: Duration = Duration::from_millis(250);
/// How often idle connections are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// One worker. Everything in it belongs to its thread.
pub(crate) struct Worker {
    pub(super) number: usize,
    pub(crate) tasks: TaskTree,
    pub(crate) random: RefCell<Mix64>,
    pub(crate) log: AccessLog,
    pub(crate) spans: Spans,
    flows: Flows,
    pub(crate) limits: Arc<Limits>,
    /// Requests under way.
    pub(crate) load: Rc<Load>,
    pub(crate) descriptors: Descriptors,
    /// Connections from callers at every door, over all workers.
    pub(super) callers_open: Arc<AtomicU32>,
    pub(crate) inbound_open: Arc<AtomicU32>,
    /// For newer keys of providers of tokens.
    pub(crate) asker: Arc<KeyAsker>,
    /// Told when a workload is put in force.
    pub(crate) changed: Notify,
    decisions: Option<Decisions>,
    metrics: WorkerMetrics,
    pub(crate) mux: MuxSides,
    /// For calls over QUIC.
    pub(crate) quic: quic::Caller,
    pub(crate) quic_counts: Arc<QuicCounts>,
    pub(super) quic_door: QuicDoor,
    pub(super) docks: Arc<quic::Docks>,
    local: RefCell<Option<Rc<Local>>>,
    lives: RefCell<BTreeMap<u64, Rc<Live>>>,
    /// Connections to other proxies: each is cut when who is there is trusted no more.
    servers: RefCell<Vec<Weak<Live>>>,
    next_life: Cell<u64>,
    all_gone: Notify,
    listeners: RefCell<BTreeMap<LocalAddress, Listening>>,
    unix_doors: UnixDoors,
    /// What another process has left, until the first workload says what is wanted.
    inherited: RefCell<Inherited>,
    /// Another process has the listeners now: none is opened any more.
    is_retired: Cell<bool>,
    /// Told to end once already: there is nothing to wait for any more.
    is_drained: Cell<bool>,
}

/// One address where this worker accepts; mostly with one socket.
struct Listening {
    stop: CancellationToken,
    sockets: Vec<Rc<LocalListener>>,
    /// What keeps the file of a unix socket.
    unix: Option<Arc<UnixDoor>>,
}

/// One worker's share of a listener, and what keeps the file of a unix socket.
type Opened = (Vec<LocalListener>, Option<Arc<UnixDoor>>);

impl Worker {
    fn new(
        number: usize,
        options: &CrewOptions,
        ((callers_open, inbound_open), inherited): ((Arc<AtomicU32>, Arc<AtomicU32>), Inherited),
        tasks: &TaskTree,
    ) -> Rc<Self> {
        Rc::new(Self {
            number,
            tasks: tasks.clone(),
            random: RefCell::new(seeded()),
            log: options.log.clone(),
            spans: options.spans.clone(),
            flows: options.metrics.flows(),
            asker: options.asker.clone(),
            changed: Notify::new(),
            decisions: options.decisions.clone(),
            limits: options.limits.clone(),
            load: Load::new(options.limits.overload_delay),
            descriptors: Descriptors::new(options.descriptors_max),
            callers_open,
            inbound_open,
            mux: MuxSides::new(options, number),
            quic: quic::Caller::new(tasks.clone()),
            quic_counts: options.metrics.worker(number).quic(Side::Inbound),
            quic_door: QuicDoor::default(),
            docks: options.docks.clone(),
            metrics: options.metrics.worker(number),
            local: RefCell::new(None),
            lives: RefCell::default(),
            servers: RefCell::default(),
            next_life: Cell::new(0),
            all_gone: Notify::new(),
            listeners: RefCell::default(),
            unix_doors: options.unix_doors.clone(),
            inherited: RefCell::new(inherited),
            is_retired: Cell::new(false),
            is_drained: Cell::new(false),
        })
    }

    /// Returns the workload in force.
    pub(crate) fn current(&self) -> Rc<Local> {
        let local = self.local.borrow();
        local.as_ref().expect("a worker accepts only after its first workload").clone()
    }

    /// Whether a workload is the one in force.
    pub(crate) fn is_current(&self, local: &Rc<Local>) -> bool {
        self.local.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, local))
    }

    /// Adds a connection to those that are told to drain and may be cut.
    pub(super) fn track(&self) -> (u64, Rc<Live>) {
        let number = self.next_life.get();
        self.next_life.set(number + 1);
        // Beside other workers' numbers: a process does not see 2^48 connections.
        let name = (self.number as u64) << 48 | number;
        let live = Rc::new(Live::new(name, self.limits.clone()));
        if self.is_retired.get() {
            live.retire();
        }
        self.lives.borrow_mut().insert(number, live.clone());
        (number, live)
    }

    /// Returns this worker's counts of a flow.
    pub(crate) fn flow(&self, key: FlowKey) -> Arc<Flow> {
        self.flows.flow(self.number, key)
    }

    /// Counts a connection without mutual TLS.
    pub(crate) fn note_plaintext(&self, source: Option<IpAddr>) {
        self.metrics.plaintext(source);
    }

    /// Returns what cuts a connection to a proxy that has shown this chain.
    pub(crate) fn watch_server(&self, chain: Vec<CertificateDer<'static>>) -> Rc<Live> {
        let live = Rc::new(Live::default());
        live.set_server(chain);
        let mut servers = self.servers.borrow_mut();
        servers.retain(|live| live.strong_count() > 0);
        servers.push(Rc::downgrade(&live));
        live
    }

    /// Closes connections that wait for a request, to have their descriptors.
    pub(super) fn close_waiting(&self) {
        if let Some(local) = &*self.local.borrow() {
            local.close_idle(clock::instant(), Duration::ZERO);
        }
    }

    /// Takes a connection out.
    pub(super) fn untrack(&self, number: u64) {
        let mut lives = self.lives.borrow_mut();
        lives.remove(&number);
        if lives.is_empty() {
            self.all_gone.notify_waiters();
        }
    }

    fn apply(self: &Rc<Self>, workload: Arc<Workload>) -> Vec<Unbound> {
        let before = self.local.borrow().clone();
        let local = {
            let random = &mut *self.random.borrow_mut();
            let mut local = Local::new(workload.clone(), before.as_deref(), &self.metrics, random);
            local.decisions = self.decisions.clone();
            Rc::new(local)
        };
        *self.local.borrow_mut() = Some(local);
        self.changed.notify_waiters();
        for live in self.lives.borrow().values() {
            if inbound::judge_again(&workload, live) {
                self.tell_of_cut(&workload, live);
            }
            live.judge_plaintext(workload.snapshot.inbound.takes_plaintext);
        }
        let credentials = &workload.credentials;
        if let Some(before) = before {
            let known = &before.workload.credentials;
            self.judge_chains(credentials, credentials.loss_since(known));
            if !Arc::ptr_eq(credentials, known) {
                for live in self.lives.borrow().values() {
                    live.drain_carrier(|chain| credentials.admits(chain));
                }
            }
        }
        self.listen(&workload)
    }

    fn tell_of_cut(&self, workload: &Workload, live: &Live) {
        if let (Some(decisions), Some(caller)) = (&self.decisions, live.caller()) {
            let destination = &workload.snapshot.service;
            let asking = caller.asking(destination, None);
            decisions.tell(Verdict::Cut, asking, "the rules have changed".to_owned());
        }
    }

    /// Cuts connections to and from those whom none of the roots that are left vouches for, and
    /// those who were revoked.
    fn judge_chains(&self, credentials: &Credentials, loss: Loss) {
        if loss == Loss::Nothing {
            return;
        }
        // A signature is dear, and one caller has many connections.
        let mut verdicts: HashMap<Vec<CertificateDer<'static>>, bool> = HashMap::new();
        let servers: Vec<Rc<Live>> =
            self.servers.borrow().iter().filter_map(Weak::upgrade).collect();
        for live in self.lives.borrow().values().chain(&servers) {
            live.judge_chain(|chain| match verdicts.get(chain) {
                Some(verdict) => *verdict,
                None => {
                    let verdict = credentials.still_trusts(chain, loss);
                    verdicts.insert(chain.to_vec(), verdict);
                    verdict
                }
            });
        }
    }

    /// Opens the listeners that are wanted and not yet there, closes those no longer wanted.
    fn listen(self: &Rc<Self>, workload: &Workload) -> Vec<Unbound> {
        if self.is_retired.get() {
            return Vec::new();
        }
        let inbound = (workload.snapshot.inbound.bind.into(), (Door::Inbound, None));
        let outbound = workload.upstreams.iter().map(|upstream| {
            (upstream.bind.clone(), (Door::Outbound(upstream.bind.clone()), upstream.socket_mode))
        });
        let exposed = workload.snapshot.exposed.iter().map(|it| it.bind);
        let exposed = exposed.map(|bind| (bind.into(), (Door::Exposed(bind), None)));
        let wanted: BTreeMap<LocalAddress, _> = exposed.chain(outbound).chain([inbound]).collect();
        let mut listeners = self.listeners.borrow_mut();
        listeners.retain(|address, listening| {
            let stays = wanted.contains_key(address);
            if !stays {
                listening.stop.cancel();
            }
            stays
        });
        let mut unbound: Vec<Unbound> = self.quic_door.follow(self, workload).into_iter().collect();
        for (address, (door, mode)) in wanted {
            let mode = mode.unwrap_or(SOCKET_MODE_DEFAULT);
            if let Some(listening) = listeners.get(&address) {
                let changed = listening.unix.as_ref().map_or(Ok(()), |unix| unix.set_mode(mode));
                unbound.extend(changed.err().map(Unbound::new));
                continue;
            }
            match self.open(&address, mode) {
                Ok((sockets, unix)) => {
                    let stop = CancellationToken::new();
                    let sockets: Vec<_> = sockets.into_iter().map(Rc::new).collect();
                    for socket in &sockets {
                        let with = (socket.clone(), door.clone());
                        let accepting = accept(self.clone(), with, stop.clone());
                        self.tasks.spawn_local(format!("listener {address}"), accepting);
                    }
                    listeners.insert(address, Listening { stop, sockets, unix });
                }
                Err(error) => unbound.push(Unbound::new(error)),
            }
        }
        // What else there was is for an upstream that is no more.
        self.inherited.borrow_mut().clear();
        unbound
    }

    /// Takes over or opens one worker's share of a listener.
    fn open(&self, address: &LocalAddress, mode: u32) -> io::Result<Opened> {
        let inherited = self.inherited.borrow_mut().remove(address);
        match (address, inherited) {
            (LocalAddress::Unix(path), inherited) => {
                let inherited = inherited.and_then(|mut sockets| sockets.pop());
                let door = self.unix_doors.open((path, mode), inherited)?;
                Ok((vec![door.listener()?], Some(door)))
            }
            (LocalAddress::Tcp(_), Some(sockets)) => {
                let sockets = sockets.into_iter().map(ListeningSocket::into_listener);
                Ok((sockets.collect::<io::Result<_>>()?, None))
            }
            (LocalAddress::Tcp(address), None) => {
                Ok((vec![LocalListener::Tcp(self.bind(*address)?)], None))
            }
        }
    }

    /// Opens one worker's share of a listener. The first worker makes sure that no other
    /// process has the address: sharing it would silently take half of its connections.
    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        if self.number == 0 {
            net::probe_tcp(address)?;
        }
        net::bind_tcp_shared(address)
    }

    /// Returns further handles of the sockets where this worker accepts.
    fn share(&self) -> io::Result<Vec<ListeningSocket>> {
        let listeners = self.listeners.borrow();
        let sockets = listeners.values().flat_map(|listening| &listening.sockets);
        sockets.map(|socket| socket.share()).collect()
    }

    /// Accepts no more, as another process does; what is open goes on as long as it likes, and
    /// is asked to leave when it next would not notice.
    fn retire(&self) {
        self.is_retired.set(true);
        let unix = self.listeners.borrow();
        unix.values().filter_map(|listening| listening.unix.as_ref()).for_each(|it| it.leave());
        drop(unix);
        self.stop_listening();
        self.lives.borrow().values().for_each(|live| live.retire());
    }

    fn stop_listening(&self) {
        let listeners = std::mem::take(&mut *self.listeners.borrow_mut());
        listeners.values().for_each(|listening| listening.stop.cancel());
        self.quic_door.close();
    }

    /// Ends what is left over QUIC: nobody else would say so in the place of a process that is gone.
    async fn say_goodbye(&self) {
        let ended = async {
            self.quic.end().await;
            self.quic_door.end().await;
        };
        // Who does not hear it learns it by silence.
        let _ = tokio::time::timeout(GOODBYE_LIMIT, ended).await;
    }

    /// Returns the connections over QUIC whose handshake is over.
    pub(super) fn quic_open(&self) -> usize {
        let QuicCounts { connections_opened, connections_closed, .. } = &*self.quic_counts;
        usize::try_from(connections_opened.value().saturating_sub(connections_closed.value()))
            .unwrap_or(usize::MAX)
    }

    /// Waits until the last connection has ended.
    async fn gone(&self) {
        loop {
            let gone = self.all_gone.notified();
            if self.lives.borrow().is_empty() {
                return;
            }
            gone.await;
        }
    }

    async fn drain(&self, limit: Duration) {
        let limit = if self.is_drained.replace(true) { Duration::ZERO } else { limit };
        self.is_retired.set(true);
        self.stop_listening();
        self.lives.borrow().values().for_each(|live| live.drain());
        if tokio::time::timeout(limit, self.gone()).await.is_err() {
            let count = self.lives.borrow().len();
            warn!(worker = self.number, count, "connections cut at the end of the drain limit");
        }
    }

    /// Carries out what it is told.
    fn obey(self: &Rc<Self>, command: Command) {
        // Whoever waits for an answer may have ended meanwhile.
        match command {
            Command::Apply { workload, done } => drop(done.send(self.apply(workload))),
            Command::Drain { limit, done } => {
                let worker = self.clone();
                self.tasks.spawn_local("drain", async move {
                    tokio::select! {
                        // Both only wait.
                        () = worker.drain(limit) => drop(done.send(())),
                        () = worker.tasks.cancelled() => {}
                    }
                });
            }
            Command::Retire { retired, gone } => {
                self.retire();
                let _ = retired.send(());
                let worker = self.clone();
                self.tasks.spawn_local("retire", async move {
                    tokio::select! {
                        // Both only wait.
                        () = worker.gone() => drop(gone.send(())),
                        () = worker.tasks.cancelled() => {}
                    }
                });
            }
            Command::Share { answer } => drop(answer.send(self.share())),
        }
    }
}

/// What shared connections need to know of their worker.
pub(crate) struct MuxSides {
    pub(crate) inbound: Arc<MuxCounts>,
    pub(crate) outbound: Arc<MuxCounts>,
    /// In this process.
    pub(crate) workers: u16,
}

impl MuxSides {
    fn new(options: &CrewOptions, number: usize) -> Self {
        let metrics = options.metrics.worker(number);
        let (inbound, outbound) = (metrics.mux(Side::Inbound), metrics.mux(Side::Outbound));
        Self { inbound, outbound, workers: u16::try_from(options.workers).unwrap_or(u16::MAX) }
    }
}

fn seeded() -> Mix64 {
    let mut seed = [0; 8];
    entropy::fill(&mut seed);
    Mix64::new(u64::from_le_bytes(seed))
}

pub(super) fn run_thread(
    number: usize,
    options: &CrewOptions,
    (counts, inherited): ((Arc<AtomicU32>, Arc<AtomicU32>), Inherited),
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
    let worker = Worker::new(number, options, (counts, inherited), &tasks);
    runtime.block_on(async {
        worker.load.watch(&tasks);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                // All three are cancel-safe by their documentation.
                command = commands.recv() => match command {
                    Some(command) => worker.obey(command),
                    None => break,
                },
                _ = sweep.tick() => {
                    let local = worker.local.borrow().clone();
                    if let Some(local) = local {
                        local.close_idle(clock::instant(), POOL_IDLE_MAX);
                    }
                    let now = clock::wall();
                    worker.lives.borrow().values().for_each(|live| live.drain_expired(now));
                }
                () = tasks.cancelled() => break,
            }
        }
        worker.drain(options.drain_limit).await;
        worker.say_goodbye().await;
    });
    info!(number, "worker ended");
}
