//! The workloads of the process, each from its coming to its going: one for a sidecar, many for a
//! host proxy. What is in force for each, how it stands, and what it alone has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::info;
use weft_core::name::{InstanceId, ServiceName};

use crate::control::KeyAsker;
use crate::observe::{Metrics, Taps, WorkloadMetrics};
use crate::workload::Workload;

/// One workload, whatever its configuration is at the moment.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// Never given twice in this process.
    pub(crate) number: u64,
    /// The id of the proxy's registration; `None` for a sidecar, which is the only one.
    pub(crate) id: Option<InstanceId>,
    /// What is in force.
    pub(crate) cell: ArcSwapOption<Workload>,
    pub(crate) metrics: WorkloadMetrics,
    /// For newer keys of providers of tokens.
    pub(crate) asker: KeyAsker,
    /// Connections of other proxies, over all workers.
    pub(crate) inbound_open: Arc<AtomicU32>,
    /// Who watches its requests and connections.
    pub(crate) taps: Taps,
    state: Mutex<TenantState>,
}

/// How a workload stands, for those who ask.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct TenantState {
    /// Why there is no configuration yet.
    pub(crate) waits_for: Option<String>,
    /// The configuration that was refused last, and why, unless a later one is in force.
    pub(crate) refusal: Option<(u64, String)>,
    /// Listeners that cannot be opened at present, and why.
    pub(crate) missing: Vec<String>,
}

/// Questions about keys that come out of a workload.
pub(crate) type Questions = mpsc::Receiver<ServiceName>;

impl Tenant {
    /// Changes how it stands.
    pub(crate) fn stands(&self, change: impl FnOnce(&mut TenantState)) {
        change(&mut self.state.lock());
    }

    /// Returns how it stands.
    pub(crate) fn state(&self) -> TenantState {
        self.state.lock().clone()
    }

    /// Notes why there is no configuration yet; tells it once.
    pub(crate) fn waits_for(&self, reason: &str) {
        let mut state = self.state.lock();
        if state.waits_for.as_deref() != Some(reason) {
            match &self.id {
                Some(proxy) => info!(%proxy, reason, "waiting for the first configuration"),
                None => info!(reason, "waiting for the first configuration"),
            }
            state.waits_for = Some(reason.to_owned());
        }
    }

    /// Returns the id for the log: that of its registration.
    pub(crate) fn shown(&self) -> String {
        match (&self.id, &*self.cell.load()) {
            (Some(id), _) => id.to_string(),
            (None, Some(workload)) => workload.snapshot.proxy_id.to_string(),
            (None, None) => "sidecar".to_owned(),
        }
    }
}

/// Everybody here. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Tenants(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    metrics: Metrics,
    next_number: AtomicU64,
    /// By number. Those who leave are no longer here.
    all: Mutex<BTreeMap<u64, Arc<Tenant>>>,
    /// Why a host proxy does not know yet whom to serve.
    waits_for: Mutex<Option<String>>,
    is_host: bool,
    /// Whether a host proxy has begun.
    is_begun: AtomicBool,
}

impl Tenants {
    /// Makes the place for them: for many if it is a host proxy's, else for one.
    pub(crate) fn new(metrics: Metrics, is_host: bool) -> Self {
        Self(Arc::new(Inner {
            metrics,
            next_number: AtomicU64::new(0),
            all: Mutex::default(),
            waits_for: Mutex::default(),
            is_host,
            is_begun: AtomicBool::new(false),
        }))
    }

    /// Takes one in.
    pub(crate) fn admit(&self, id: Option<InstanceId>) -> (Arc<Tenant>, Questions) {
        let number = self.0.next_number.fetch_add(1, Ordering::Relaxed);
        let (asker, questions) = KeyAsker::new();
        let metrics = self.0.metrics.workload(id.as_ref().map_or("", InstanceId::as_str));
        let tenant = Arc::new(Tenant {
            number,
            id,
            cell: ArcSwapOption::empty(),
            metrics,
            asker,
            inbound_open: Arc::default(),
            taps: Taps::default(),
            state: Mutex::default(),
        });
        self.0.all.lock().insert(number, tenant.clone());
        (tenant, questions)
    }

    /// Takes note that one leaves.
    pub(crate) fn dismiss(&self, tenant: &Tenant) {
        self.0.all.lock().remove(&tenant.number);
    }

    /// Returns all, in the order in which they came.
    pub(crate) fn all(&self) -> Vec<Arc<Tenant>> {
        self.0.all.lock().values().cloned().collect()
    }

    /// Whether this is a host proxy.
    pub(crate) fn is_host(&self) -> bool {
        self.0.is_host
    }

    /// Notes that a host proxy serves all whom it could begin with.
    pub(crate) fn begin(&self) {
        self.0.is_begun.store(true, Ordering::SeqCst);
    }

    /// Whether it serves: a sidecar its one service, a host proxy all whom it could begin with.
    pub(crate) fn is_serving(&self) -> bool {
        match self.is_host() {
            true => self.0.is_begun.load(Ordering::SeqCst),
            false => self.all().iter().all(|tenant| tenant.cell.load().is_some()),
        }
    }

    /// Notes why it is not known yet whom to serve; tells it once.
    pub(crate) fn waits_for(&self, reason: Option<&str>) {
        let mut waits_for = self.0.waits_for.lock();
        if waits_for.as_deref() != reason {
            if let Some(reason) = reason {
                info!(reason, "waiting for the list of services");
            }
            *waits_for = reason.map(str::to_owned);
        }
    }

    /// Returns why it does not serve yet.
    pub(crate) fn waited_for(&self) -> String {
        if let Some(reason) = self.0.waits_for.lock().clone() {
            return reason;
        }
        let nothing = || "the agent has none to give yet".to_owned();
        let waiting = self.all().into_iter().filter(|tenant| tenant.cell.load().is_none());
        let reasons: Vec<String> = waiting
            .map(|tenant| {
                let TenantState { waits_for, refusal, .. } = tenant.state();
                let refused = refusal.map(|(_, reason)| format!("refused: {reason}"));
                let reason = refused.or(waits_for).unwrap_or_else(nothing);
                match &tenant.id {
                    Some(id) => format!("{id}: {reason}"),
                    None => reason,
                }
            })
            .collect();
        if reasons.is_empty() { nothing() } else { reasons.join("; ") }
    }
}
