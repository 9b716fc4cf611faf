//! One local proxy, as the agent sees it: its newest configuration, and how it took it.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_core::name::InstanceId;
use weft_core::proxycfg::{ExposedListener, Problem, ProxySnapshot};
use weft_core::time::Timestamp;
use weft_runtime::clock;

/// One registered sidecar.
#[derive(Debug)]
pub struct Proxy {
    /// The sidecar's registration.
    pub id: InstanceId,
    pub(super) snapshot: watch::Sender<Option<Arc<ProxySnapshot>>>,
    pub(super) status: Mutex<ProxyStatus>,
    /// Rises with each configuration that a program takes.
    pub(super) taken: watch::Sender<u64>,
    /// Triggered when the registration goes.
    pub(super) gone: CancellationToken,
}

/// How a proxy stands.
#[derive(Debug, Default, Clone)]
pub struct ProxyStatus {
    /// How many programs are connected as this proxy: 0, 1, or 2 while one replaces another.
    pub connections: u32,
    /// The program that connected last; `None` while none has.
    pub program: Option<Program>,
    /// When it connected.
    pub connected_at: Timestamp,
    /// When a program was last seen to leave.
    pub left_at: Option<Timestamp>,
    /// The configuration that it has in force.
    pub acknowledged: Option<u64>,
    /// When it said so.
    pub acknowledged_at: Option<Timestamp>,
    /// The listeners of that configuration that it could not open, and why.
    pub missing_listeners: Vec<String>,
    /// The configuration that it refused last, unless it took a later one.
    pub refusal: Option<Refusal>,
    /// What keeps the proxy, or an upstream, from working as asked.
    pub problems: Vec<Problem>,
    /// Who came without mutual TLS; `None` while nobody could.
    pub plaintext: Option<Plaintext>,
}

/// A program that runs as a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its version, as it says.
    pub version: String,
    /// The number of its process; `None` for one that cannot be seen from here.
    pub pid: Option<u32>,
    /// Whether it is a host proxy.
    pub is_hosted: bool,
    /// How many processes had its listeners before.
    pub generation: u64,
}

/// Who came without mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plaintext {
    /// Since when the proxy has counted.
    pub since: Timestamp,
    /// By address.
    pub sources: Vec<PlaintextFrom>,
}

/// What came from one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaintextFrom {
    /// An address, or `other`.
    pub source: String,
    /// How many connections.
    pub connections: u64,
    /// When the last one came.
    pub last: Timestamp,
}

/// A configuration that a proxy refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The configuration's version.
    pub version: u64,
    /// The proxy's reason.
    pub reason: String,
    /// When it said so.
    pub at: Timestamp,
}

/// A program that is connected as a proxy, for as long as this exists.
pub(crate) struct Connected {
    proxy: Arc<Proxy>,
}

impl Proxy {
    pub(super) fn new(id: InstanceId, gone: CancellationToken) -> Self {
        let (snapshot, status) = (watch::Sender::new(None), Mutex::default());
        Self { id, snapshot, status, taken: watch::Sender::default(), gone }
    }

    /// Returns a receiver of the newest configuration, `None` until there is a complete one.
    pub fn snapshot(&self) -> watch::Receiver<Option<Arc<ProxySnapshot>>> {
        self.snapshot.subscribe()
    }

    /// Returns how the proxy stands now.
    pub fn status(&self) -> ProxyStatus {
        self.status.lock().clone()
    }

    /// Returns the ports of the doors for checks that the program has open; `None` while it has
    /// another configuration than the newest.
    pub(super) fn check_doors_open(&self) -> Option<BTreeSet<u16>> {
        let newest = self.snapshot.borrow().clone()?;
        let status = self.status.lock();
        let is_missing = |listener: &ExposedListener| {
            let bind = listener.bind.to_string();
            status.missing_listeners.iter().any(|reason| reason.contains(&bind))
        };
        let of_checks = newest.exposed.iter().filter(|listener| !listener.callers.is_empty());
        let open = of_checks.filter(|listener| !is_missing(listener)).map(|it| it.bind.port());
        (status.acknowledged == Some(newest.version)).then(|| open.collect())
    }

    /// Waits until the registration goes.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Takes note that a program connected.
    pub(crate) fn connect(self: Arc<Self>, program: Program) -> Connected {
        {
            let mut status = self.status.lock();
            status.connections += 1;
            status.program = Some(program);
            status.connected_at = clock::wall();
        }
        Connected { proxy: self }
    }
}

impl Connected {
    /// Takes note of what the program has in force, and which listeners of it are missing.
    pub(crate) fn acknowledged(&self, (version, missing_listeners): (u64, Vec<String>)) {
        let mut status = self.proxy.status.lock();
        status.missing_listeners = missing_listeners;
        status.acknowledged = Some(version);
        status.acknowledged_at = Some(clock::wall());
        status.refusal = None;
        drop(status);
        self.proxy.taken.send_modify(|count| *count += 1);
    }

    /// Takes note of who came to the program without mutual TLS.
    pub(crate) fn told(&self, plaintext: Plaintext) {
        self.proxy.status.lock().plaintext = Some(plaintext);
    }

    /// Takes note of what the program refused.
    pub(crate) fn refused(&self, version: u64, reason: String) {
        self.proxy.status.lock().refusal = Some(Refusal { version, reason, at: clock::wall() });
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut status = self.proxy.status.lock();
        status.connections -= 1;
        status.left_at = Some(clock::wall());
    }
}
