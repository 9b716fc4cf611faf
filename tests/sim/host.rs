//! One simulated host: its clock, its dice, its disk, and the runtime of its process.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::runtime::Runtime;
use weft_core::time::Timestamp;
use weft_runtime::disk::{Disk, SimulatedDisk};
use weft_runtime::store::Twin;
use weft_runtime::world::{self, World, WorldListener, WorldStream};

use crate::stream::{SharedNetwork, SimListener, connect};

/// When every simulation begins: 2026-01-01.
pub(crate) const EPOCH: Timestamp = Timestamp(1_767_225_600_000);

/// What outlives the process of a host.
pub(crate) struct Outside {
    ip: IpAddr,
    network: SharedNetwork,
    inner: Mutex<Inner>,
}

struct Inner {
    rng: StdRng,
    /// Simulated time, the same for all hosts.
    now: Duration,
    /// How far the wall clock is off, in milliseconds.
    skew_ms: i64,
    twins: BTreeMap<PathBuf, Twin>,
    disk: SimulatedDisk,
    disk_ms: (u64, u64),
    forgets_syncs: bool,
    knobs: BTreeMap<&'static str, u64>,
}

impl World for Outside {
    fn wall(&self) -> Timestamp {
        let inner = self.inner.lock();
        let since = u64::try_from(inner.now.as_millis()).unwrap_or(u64::MAX);
        Timestamp(EPOCH.0.saturating_add(since).saturating_add_signed(inner.skew_ms))
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.inner.lock().rng.fill_bytes(bytes);
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn WorldListener>> {
        let address = SocketAddr::new(self.ip, address.port());
        let mut network = self.network.lock();
        if network.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        network.listeners.insert(address, Default::default());
        Ok(Box::new(SimListener { network: self.network.clone(), address }))
    }

    fn connect(&self, host_port: &str) -> BoxFuture<'static, io::Result<Box<dyn WorldStream>>> {
        let parsed = host_port.parse::<SocketAddr>();
        let (network, from) = (self.network.clone(), self.ip);
        Box::pin(async move {
            let to = parsed.map_err(|_| io::Error::other("a simulation has addresses only"))?;
            connect(network, from, to).await
        })
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.inner.lock().disk.clone())
    }

    fn twin(&self, dir: &Path) -> Twin {
        let mut inner = self.inner.lock();
        let forgets = inner.forgets_syncs;
        let twin = inner.twins.entry(dir.to_owned()).or_default().clone();
        if forgets {
            twin.forget_syncs();
        }
        twin
    }

    fn knob(&self, name: &'static str) -> Option<u64> {
        self.inner.lock().knobs.get(name).copied()
    }

    fn disk_pause(&self) -> Duration {
        let mut inner = self.inner.lock();
        let (least, most) = inner.disk_ms;
        Duration::from_millis(inner.rng.random_range(least..=most))
    }
}

/// What a host runs: a process that is started anew at each start of the host.
pub(crate) type Process = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>;

/// A simulated host.
pub(crate) struct Host {
    pub(crate) ip: IpAddr,
    pub(crate) outside: Arc<Outside>,
    process: Process,
    running: Option<Running>,
}

/// The process of a host.
struct Running {
    runtime: Runtime,
    local: tokio::task::LocalSet,
    began: tokio::time::Instant,
    began_at: Duration,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("ip", &self.ip).finish_non_exhaustive()
    }
}

impl Host {
    pub(crate) fn new(ip: IpAddr, seed: u64, network: SharedNetwork, process: Process) -> Self {
        let inner = Inner {
            rng: StdRng::seed_from_u64(seed),
            now: Duration::ZERO,
            skew_ms: 0,
            twins: BTreeMap::new(),
            disk: SimulatedDisk::default(),
            disk_ms: (0, 2),
            forgets_syncs: false,
            knobs: BTreeMap::new(),
        };
        let outside = Arc::new(Outside { ip, network, inner: Mutex::new(inner) });
        Self { ip, outside, process, running: None }
    }

    /// Whether its process runs.
    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Starts the process.
    pub(crate) fn start(&mut self, now: Duration) {
        self.outside.network.lock().host_begins(self.ip);
        self.outside.inner.lock().now = now;
        let _entered = world::enter(self.outside.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing of the system");
        let began = {
            let _context = runtime.enter();
            tokio::time::Instant::now()
        };
        let local = tokio::task::LocalSet::new();
        let process = (self.process)();
        local.spawn_local(process);
        self.running = Some(Running { runtime, local, began, began_at: now });
    }

    /// Lets the process run until a moment of simulated time.
    pub(crate) fn step(&mut self, until: Duration) {
        self.outside.inner.lock().now = until;
        let Some(running) = &self.running else { return };
        let _entered = world::enter(self.outside.clone());
        let until = running.began + (until - running.began_at);
        running
            .local
            .block_on(&running.runtime, async move { tokio::time::sleep_until(until).await });
    }

    /// Ends the process between two of its steps, as `kill -9` does; what it wrote stays.
    pub(crate) fn kill(&mut self) {
        self.end(false);
    }

    /// Cuts the power: what was not synced is lost, but for a first part of it.
    pub(crate) fn cut_power(&mut self) {
        self.end(true);
        let mut inner = self.outside.inner.lock();
        let inner = &mut *inner;
        for twin in inner.twins.values() {
            twin.cut_power(inner.rng.random_range(0..=twin.unsynced()));
        }
        inner.disk = inner.disk.cut(&mut inner.rng);
        if inner.forgets_syncs {
            inner.disk.forget_syncs();
        }
    }

    fn end(&mut self, is_power_cut: bool) {
        let Some(running) = self.running.take() else { return };
        let _entered = world::enter(self.outside.clone());
        // First the network, so that what the tasks do while they are dropped reaches nobody.
        self.outside.network.lock().host_ends(self.ip, is_power_cut);
        drop(running.local);
        drop(running.runtime);
    }

    /// Sets the wall clock off by so many milliseconds.
    pub(crate) fn set_skew(&mut self, skew_ms: i64) {
        self.outside.inner.lock().skew_ms = skew_ms;
    }

    /// Sets how long the disk takes, in milliseconds.
    pub(crate) fn set_disk(&mut self, least: u64, most: u64) {
        self.outside.inner.lock().disk_ms = (least, most);
    }

    /// Turns a knob of the servers.
    pub(crate) fn set_knob(&mut self, name: &'static str, value: u64) {
        self.outside.inner.lock().knobs.insert(name, value);
    }

    /// Plants a bug: syncs do nothing.
    pub(crate) fn forget_syncs(&mut self) {
        let mut inner = self.outside.inner.lock();
        inner.forgets_syncs = true;
        inner.disk.forget_syncs();
        for twin in inner.twins.values() {
            twin.forget_syncs();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end(false);
    }
}
