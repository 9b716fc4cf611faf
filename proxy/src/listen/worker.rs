//! One workload on one thread: its listeners, its connections, and what it needs for them. Nothing
//! on the way of a request is shared with another workload or another thread.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use weft_core::catalog::SOCKET_MODE_DEFAULT;
use weft_core::config_entry::Protocol;
use weft_core::local_address::LocalAddress;
use weft_core::traffic::Mix64;
use weft_runtime::net::{ListeningSocket, LocalListener, TcpListener};
use weft_runtime::task::TaskTree;
use weft_runtime::tls::rustls::pki_types::CertificateDer;
use weft_runtime::{clock, entropy, net};

use super::accept::{Door, accept};
use super::crew::{Bequest, Inherited, Shared, Unbound};
use super::descriptors::Descriptors;
use super::load::Load;
use super::quic::QuicDoor;
use super::thread::Thread;
use super::udp::{InheritedUdp, SharedUdp, UdpDoors};
use super::unix::{UnixDoor, UnixDoors};
use super::{Live, Local};
use crate::identity::{Credentials, Loss};
use crate::inbound;
use crate::limits::Limits;
use crate::observe::{
    AccessLog, CapturedCounts, Decisions, Flow, FlowKey, Flows, MuxCounts, QuicCounts, Side, Spans,
    UdpCounts, Verdict, Watchers, WorkerMetrics,
};
use crate::outbound::Onward;
use crate::tenant::Tenant;
use crate::transport::quic;
use crate::workload::Workload;

/// How long the last words over QUIC may take: some round trips.
const GOODBYE_LIMIT: Duration = Duration::from_millis(250);

/// One workload on one thread. Everything in it belongs to the thread.
pub(crate) struct Worker {
    pub(super) number: usize,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) tasks: TaskTree,
    pub(crate) random: RefCell<Mix64>,
    pub(crate) log: AccessLog,
    pub(crate) spans: Spans,
    flows: Flows,
    pub(crate) limits: Arc<Limits>,
    /// Copies of requests that are under way.
    pub(crate) mirrors: Rc<Cell<u32>>,
    /// Requests under way on the thread.
    pub(crate) load: Rc<Load>,
    pub(crate) descriptors: Rc<Descriptors>,
    /// Connections from callers at every door of the process.
    pub(super) callers_open: Arc<AtomicU32>,
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
    pub(crate) onward: Arc<Onward>,
    captured_counts: Arc<CapturedCounts>,
    thread: Weak<Thread>,
    local: RefCell<Option<Rc<Local>>>,
    lives: RefCell<BTreeMap<u64, Rc<Live>>>,
    /// Connections to other proxies: each is cut when who is there is trusted no more.
    servers: RefCell<Vec<Weak<Live>>>,
    /// Counts connections of the thread: those of all its workers have different numbers.
    next_life: Rc<Cell<u64>>,
    all_gone: Notify,
    listeners: RefCell<BTreeMap<LocalAddress, Listening>>,
    unix_doors: UnixDoors,
    /// What another process has left on this thread.
    inherited: Rc<RefCell<Inherited>>,
    pub(super) inherited_udp: Rc<RefCell<InheritedUdp>>,
    udp_doors: UdpDoors,
    /// No listener is opened any more: another process has them, or nobody.
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
    /// See [`Bequest::stays`].
    stays: bool,
}

impl Worker {
    /// Makes the worker of a workload that comes to a thread.
    pub(super) fn new(thread: &Rc<Thread>, tenant: &Arc<Tenant>) -> Rc<Self> {
        let options = &thread.options;
        let metrics = tenant.metrics.worker(thread.number);
        let tasks = match &tenant.id {
            // What goes wrong with one is no affair of the others.
            Some(id) => thread.tasks.isolated(id.as_str()),
            None => thread.tasks.clone(),
        };
        Rc::new(Self {
            number: thread.number,
            tenant: tenant.clone(),
            random: RefCell::new(seeded()),
            log: options.log.clone(),
            spans: options.spans.clone(),
            flows: options.flows.clone(),
            changed: Notify::new(),
            decisions: options.decisions.clone(),
            limits: options.limits.clone(),
            mirrors: Rc::default(),
            load: thread.load.clone(),
            descriptors: thread.descriptors.clone(),
            callers_open: thread.callers_open.clone(),
            mux: MuxSides::new(&metrics, options.workers),
            quic: quic::Caller::new(tasks.clone()),
            quic_counts: metrics.quic(Side::Inbound),
            quic_door: QuicDoor::default(),
            docks: options.docks.clone(),
            onward: options.onward.clone(),
            captured_counts: metrics.captured(),
            metrics,
            thread: Rc::downgrade(thread),
            local: RefCell::new(None),
            lives: RefCell::default(),
            servers: RefCell::default(),
            next_life: thread.next_life.clone(),
            all_gone: Notify::new(),
            listeners: RefCell::default(),
            unix_doors: options.unix_doors.clone(),
            inherited: thread.inherited.clone(),
            inherited_udp: thread.inherited_udp.clone(),
            udp_doors: UdpDoors::default(),
            is_retired: Cell::new(thread.is_retired.get()),
            is_drained: Cell::new(false),
            tasks,
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
        // Beside other threads' numbers: a process does not see 2^48 connections.
        let name = (self.number as u64) << 48 | number;
        let live = Rc::new(Live::new(name, self.limits.clone()));
        if self.is_retired.get() {
            live.retire();
        }
        self.lives.borrow_mut().insert(number, live.clone());
        (number, live)
    }

    /// Returns who wants to know of requests and connections of a workload.
    pub(crate) fn watchers<'a>(&'a self, local: &'a Local) -> Watchers<'a> {
        Watchers { plan: local.workload.logs.as_ref(), taps: &self.tenant.taps }
    }

    /// Returns this worker's counts of a flow.
    pub(crate) fn flow(&self, key: FlowKey) -> Arc<Flow> {
        self.flows.flow(self.number, key)
    }

    /// Returns this worker's counts of UDP.
    pub(crate) fn udp_counts(&self, side: Side) -> Arc<UdpCounts> {
        self.metrics.udp(side)
    }

    /// Returns this worker's counts of redirected connections.
    pub(crate) fn captured_counts(&self) -> &CapturedCounts {
        &self.captured_counts
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

    /// Closes connections that wait for a request, those of others on this thread too, to have
    /// their descriptors.
    pub(super) fn close_waiting(&self) {
        if let Some(thread) = self.thread.upgrade() {
            thread.close_idle(Duration::ZERO);
        }
    }

    /// Closes connections to others that have waited too long for a request.
    pub(super) fn close_idle(&self, idle_max: Duration) {
        if let Some(local) = &*self.local.borrow() {
            local.close_idle(clock::instant(), idle_max);
        }
    }

    /// Has callers leave whose certificates have ended.
    pub(super) fn drain_expired(&self) {
        let now = clock::wall();
        self.lives.borrow().values().for_each(|live| live.drain_expired(now));
    }

    /// Has callers leave whose connections have lasted as long as they may.
    pub(super) fn retire_older(&self) {
        let most = self
            .local
            .borrow()
            .as_ref()
            .and_then(|local| local.workload.snapshot.inbound.connection_duration_max);
        if let Some(most) = most {
            let now = clock::instant();
            self.lives.borrow().values().for_each(|live| live.retire_older(now, most));
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

    /// Puts a configuration in force, with all listeners but those excepted.
    pub(super) fn apply(
        self: &Rc<Self>,
        workload: Arc<Workload>,
        except: &BTreeSet<LocalAddress>,
    ) -> Vec<Unbound> {
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
        self.listen(&workload, except)
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
    fn listen(
        self: &Rc<Self>,
        workload: &Workload,
        except: &BTreeSet<LocalAddress>,
    ) -> Vec<Unbound> {
        if self.is_retired.get() {
            return Vec::new();
        }
        let inbound = (workload.snapshot.inbound.bind.into(), (Door::Inbound, None));
        let of_streams = workload.upstreams.iter().filter(|it| it.protocol != Protocol::Udp);
        let of_streams = of_streams.filter(|upstream| upstream.listens());
        let outbound = of_streams.map(|upstream| {
            (upstream.bind.clone(), (Door::Outbound(upstream.bind.clone()), upstream.socket_mode))
        });
        let exposed = workload.snapshot.exposed.iter().map(|it| it.bind);
        let exposed = exposed.map(|bind| (bind.into(), (Door::Exposed(bind), None)));
        let captured = workload.snapshot.captured.iter().flat_map(|it| &it.binds);
        let captured = captured.map(|bind| ((*bind).into(), (Door::Captured(*bind), None)));
        let wanted = exposed.chain(captured).chain(outbound).chain([inbound]);
        let wanted: BTreeMap<LocalAddress, _> =
            wanted.filter(|(address, _)| !except.contains(address)).collect();
        let mut listeners = self.listeners.borrow_mut();
        listeners.retain(|address, listening| {
            let stays = wanted.contains_key(address);
            if !stays {
                self.close(address, listening);
            }
            stays
        });
        let mut unbound: Vec<Unbound> = self.quic_door.follow(self, workload).into_iter().collect();
        unbound.extend(self.udp_doors.follow(self, workload, except));
        for (address, (door, mode)) in wanted {
            let mode = mode.unwrap_or(SOCKET_MODE_DEFAULT);
            if let Some(listening) = listeners.get(&address) {
                let changed = listening.unix.as_ref().map_or(Ok(()), |unix| unix.set_mode(mode));
                unbound.extend(changed.err().map(Unbound::new));
                continue;
            }
            match self.open((&address, mode), workload.snapshot.proxy_id.as_str()) {
                Ok(listening) => {
                    for socket in &listening.sockets {
                        let with = (socket.clone(), door.clone());
                        let accepting = accept(self.clone(), with, listening.stop.clone());
                        self.tasks.spawn_local(format!("listener {address}"), accepting);
                    }
                    listeners.insert(address, listening);
                }
                Err(_) if is_spare(&door) => {}
                Err(error) => unbound.push(Unbound::at(address, error)),
            }
        }
        unbound
    }

    /// Accepts no more at an address. A socket that stays open elsewhere is kept, as no other could
    /// be opened.
    fn close(&self, address: &LocalAddress, listening: &Listening) {
        listening.stop.cancel();
        if listening.stays {
            let sockets = listening.sockets.iter().filter_map(|it| it.share().ok());
            let bequest = Bequest { sockets: sockets.collect(), of: None, stays: true };
            self.inherited.borrow_mut().insert(address.clone(), bequest);
        }
    }

    /// Takes over or opens one worker's share of a listener.
    fn open(&self, (address, mode): (&LocalAddress, u32), proxy: &str) -> io::Result<Listening> {
        let mut inherited = self.inherited.borrow_mut();
        if let Some(of) = inherited.get(address).and_then(|bequest| bequest.of.as_deref())
            && of != proxy
        {
            let text = format!("{address} is that of the proxy {of}");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let bequest = inherited.remove(address);
        let stays = bequest.as_ref().is_some_and(|bequest| bequest.stays);
        let (sockets, unix) = match (address, bequest.map(|bequest| bequest.sockets)) {
            (LocalAddress::Unix(path), inherited) => {
                let inherited = inherited.and_then(|mut sockets| sockets.pop());
                let owner = self.tenant.number;
                let door = self.unix_doors.open((path, mode), inherited, owner)?;
                (vec![door.listener()?], Some(door))
            }
            (LocalAddress::Tcp(_), Some(sockets)) => {
                let sockets = sockets.into_iter().map(ListeningSocket::into_listener);
                (sockets.collect::<io::Result<_>>()?, None)
            }
            (LocalAddress::Tcp(address), None) => {
                (vec![LocalListener::Tcp(self.bind(*address)?)], None)
            }
        };
        let sockets = sockets.into_iter().map(Rc::new).collect();
        Ok(Listening { stop: CancellationToken::new(), sockets, unix, stays })
    }

    /// Opens one worker's share of a listener. The first worker makes sure that nobody else has the
    /// address, in this process or another: sharing it would silently take half of the connections.
    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        if self.number == 0 {
            net::probe_tcp(address)?;
        }
        net::bind_tcp_shared(address)
    }

    /// Returns further handles of the sockets where this worker accepts.
    pub(super) fn share(&self) -> io::Result<Vec<Shared>> {
        let local = self.local.borrow();
        let of = local.as_ref().map(|local| local.workload.snapshot.proxy_id.as_str().into());
        let listeners = self.listeners.borrow();
        let sockets = listeners.values().flat_map(|listening| &listening.sockets);
        sockets.map(|socket| Ok((socket.share()?, of.clone()))).collect()
    }

    /// Returns further handles of the sockets where this worker takes datagrams.
    pub(super) fn share_udp(&self) -> io::Result<Vec<SharedUdp>> {
        let local = self.local.borrow();
        let of = local.as_ref().map(|local| local.workload.snapshot.proxy_id.as_str().into());
        Ok(self.udp_doors.share()?.into_iter().map(|socket| (socket, of.clone())).collect())
    }

    /// Accepts no more, as another process does; what is open goes on as long as it likes, and
    /// is asked to leave when it next would not notice.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
        let unix = self.listeners.borrow();
        unix.values().filter_map(|listening| listening.unix.as_ref()).for_each(|it| it.leave());
        drop(unix);
        self.stop_listening();
        self.lives.borrow().values().for_each(|live| live.retire());
        // What waits here for further calls may be what another worker of this process waits for.
        if let Some(local) = &*self.local.borrow() {
            local.retire();
        }
    }

    fn stop_listening(&self) {
        let listeners = std::mem::take(&mut *self.listeners.borrow_mut());
        listeners.iter().for_each(|(address, listening)| self.close(address, listening));
        self.udp_doors.close();
        self.quic_door.close(self);
    }

    /// Ends what is left over QUIC: nobody else would say so in the place of a process that is gone.
    pub(super) async fn say_goodbye(&self) {
        let ended = async {
            self.quic.end().await;
            self.quic_door.end(self).await;
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
    pub(super) async fn gone(&self) {
        loop {
            let gone = self.all_gone.notified();
            if self.lives.borrow().is_empty() {
                return;
            }
            gone.await;
        }
    }

    /// Accepts no more, and waits until connections have ended, or the time is over.
    pub(super) async fn drain(&self, limit: Duration) {
        let limit = if self.is_drained.replace(true) { Duration::ZERO } else { limit };
        self.leave();
        if tokio::time::timeout(limit, self.gone()).await.is_err() {
            let (proxy, count) = (self.tenant.shown(), self.lives.borrow().len());
            let worker = self.number;
            warn!(worker, proxy, count, "connections cut at the end of the drain limit");
        }
    }

    /// Accepts no more; what is open is asked to end at the next good moment.
    pub(super) fn leave(&self) {
        self.is_retired.set(true);
        self.stop_listening();
        self.lives.borrow().values().for_each(|live| live.drain());
    }

    /// Cuts what is still open, and closes what waits for requests.
    pub(super) fn end(&self) {
        self.lives.borrow().values().for_each(|live| live.cut());
        if let Some(local) = &*self.local.borrow() {
            local.retire();
        }
    }
}

/// Whether a listener is for a family of addresses that the host does not have: nothing is redirected
/// to it either.
fn is_spare(door: &Door) -> bool {
    matches!(door, Door::Captured(SocketAddr::V6(_))) && !net::has_ipv6()
}

/// What shared connections need to know of their worker.
pub(crate) struct MuxSides {
    pub(crate) inbound: Arc<MuxCounts>,
    pub(crate) outbound: Arc<MuxCounts>,
    /// In this process.
    pub(crate) workers: u16,
}

impl MuxSides {
    fn new(metrics: &WorkerMetrics, workers: usize) -> Self {
        let (inbound, outbound) = (metrics.mux(Side::Inbound), metrics.mux(Side::Outbound));
        Self { inbound, outbound, workers: u16::try_from(workers).unwrap_or(u16::MAX) }
    }
}

/// Makes a generator that the system seeds.
pub(crate) fn seeded() -> Mix64 {
    let mut seed = [0; 8];
    entropy::fill(&mut seed);
    Mix64::new(u64::from_le_bytes(seed))
}
