//! Puts the snapshots of one workload in force, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};
use weft_core::chain::TargetId;
use weft_core::name::ServiceName;
use weft_core::proxycfg::ProxySnapshot;
use weft_core::traffic::flow::FlowCounts;
use weft_runtime::backoff::Backoff;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy};

use crate::StartError;
use crate::config::{AccessLogSetting, Hops};
use crate::handover::Standing;
use crate::http::chain;
use crate::listen::{Crew, Unbound};
use crate::observe::{Flows, PlaintextReport};
use crate::tenant::Tenant;
use crate::workload::Workload;

/// The shortest and longest time until listeners that could not be opened are tried again: who
/// had the address before may be about to close it.
const REBIND_AFTER_MIN: Duration = Duration::from_millis(50);
const REBIND_AFTER_MAX: Duration = Duration::from_secs(2);

/// Tells once whether the first snapshot is in force.
pub(crate) type Started = oneshot::Sender<Result<(), StartError>>;

/// What the drivers of all workloads work with.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    pub(crate) crew: Crew,
    pub(crate) hops: Hops,
    /// What is said on the host about access logs.
    pub(crate) access_log: Option<AccessLogSetting>,
    pub(crate) standing: Standing,
    pub(crate) flows: Flows,
}

/// What puts the snapshots of one workload in force.
pub(super) struct Driver {
    means: Means,
    tenant: Arc<Tenant>,
    started: Option<Started>,
    /// When listeners are tried again, and the pauses between.
    rebinds: Option<(Instant, Backoff)>,
}

impl Driver {
    pub(super) fn new(means: Means, tenant: Arc<Tenant>, started: Started) -> Self {
        Self { means, tenant, started: Some(started), rebinds: None }
    }

    /// Puts a snapshot in force. Listeners may be missing: see [`Driver::missing`].
    ///
    /// # Errors
    /// The reason in words, when it cannot be: then the one before stays in force.
    pub(super) async fn apply(&mut self, mut snapshot: ProxySnapshot) -> Result<(), String> {
        let (version, proxy) = (snapshot.version, snapshot.proxy_id.clone());
        let before = self.tenant.cell.load_full();
        if let Some(setting) = self.means.access_log {
            snapshot.access_logs = setting.instead().map(Box::new);
        }
        let workload = match Workload::new(snapshot, self.means.hops, before.as_deref()) {
            Ok(workload) => Arc::new(workload),
            Err(error) => {
                let reason = chain(&error);
                self.tenant.metrics.refused();
                self.tenant.stands(|it| it.refusal = Some((version, reason.clone())));
                error!(%proxy, version, reason, "configuration refused, the one before stays in force");
                self.fail(StartError::Snapshot { reason: reason.clone() });
                return Err(reason);
            }
        };
        tell_stand_ins(before.as_deref(), &workload);
        self.put_in_force(workload).await;
        info!(%proxy, version, "configuration in force");
        Ok(())
    }

    /// Returns the version in force; 0 for none.
    pub(super) fn version(&self) -> u64 {
        self.tenant.cell.load().as_ref().map_or(0, |workload| workload.snapshot.version)
    }

    /// Returns the listeners that cannot be opened at present, with the reasons.
    pub(super) fn missing(&self) -> Vec<String> {
        self.tenant.state().missing
    }

    /// Returns who came without mutual TLS; `None` while nobody may and nobody did.
    pub(super) fn plaintext(&self) -> Option<PlaintextReport> {
        let workload = self.tenant.cell.load();
        let may = workload.as_ref().is_some_and(|it| it.snapshot.inbound.takes_plaintext);
        let report = self.tenant.metrics.plaintext();
        Some(report).filter(|report| may || !report.sources.is_empty())
    }

    /// Returns what was counted of the flows in and out of the service, nothing while it is not known.
    pub(super) fn flows(&self) -> Vec<FlowCounts> {
        let workload = self.tenant.cell.load();
        let service = workload.as_ref().map(|workload| workload.snapshot.service.as_str());
        service.map(|service| self.means.flows.of(service)).unwrap_or_default()
    }

    /// Whether another process speaks to the source in this one's place. Policy is followed on, as
    /// connections are judged by it.
    pub(super) fn is_replaced(&self) -> bool {
        self.means.standing.is_replaced()
    }

    /// Returns how many processes had the listeners before.
    pub(super) fn generation(&self) -> u64 {
        self.means.standing.generation()
    }

    /// Returns the workload.
    pub(super) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Tries again to open listeners, if some are missing.
    pub(super) async fn rebind(&mut self) {
        if let (Some(_), Some(workload)) = (&self.rebinds, self.tenant.cell.load_full()) {
            self.put_in_force(workload).await;
        }
    }

    /// Waits until listeners should be tried again.
    pub(super) async fn rebind_due(&self) {
        match &self.rebinds {
            Some((at, _)) => tokio::time::sleep_until((*at).into()).await,
            None => std::future::pending::<()>().await,
        }
    }

    /// Whether the first snapshot is in force, or the start has failed.
    pub(super) fn is_started(&self) -> bool {
        self.started.is_none()
    }

    /// Notes why there is no configuration yet.
    pub(super) fn wait_for(&self, reason: &str) {
        self.tenant.waits_for(reason);
    }

    /// Ends the start with an error, if it has not ended yet.
    pub(super) fn fail(&mut self, error: StartError) {
        match self.started.take() {
            // Nobody waits for the start any more.
            Some(started) => drop(started.send(Err(error))),
            None => {
                let proxy = self.tenant.shown();
                warn!(proxy, error = chain(&error), "configuration source failed");
            }
        }
    }

    async fn put_in_force(&mut self, workload: Arc<Workload>) {
        let Self { means, tenant, .. } = self;
        let unbound = means.crew.apply(tenant, &workload).await;
        let leaf_ms = workload.credentials.valid_before().0;
        tenant.metrics.applied(workload.snapshot.version, leaf_ms);
        tenant.metrics.shows_gate(workload.gate.clone());
        tenant.metrics.listeners_failed(unbound.len());
        tenant.cell.store(Some(workload));
        let grave = unbound.iter().filter(|unbound| !unbound.has_choice);
        let reasons: Vec<String> = grave.map(Unbound::to_string).collect();
        let is_news = tenant.state().missing != reasons;
        tenant.stands(|state| {
            state.refusal = None;
            state.waits_for = None;
            state.missing.clone_from(&reasons);
        });
        self.rebinds = match unbound.is_empty() {
            true => None,
            false => {
                let fresh = || Backoff::new(REBIND_AFTER_MIN, REBIND_AFTER_MAX, entropy::rng());
                let mut pauses = self.rebinds.take().map_or_else(fresh, |(_, pauses)| pauses);
                Some((clock::instant() + pauses.next(), pauses))
            }
        };
        match (self.started.take(), reasons.is_empty()) {
            (Some(started), true) => drop(started.send(Ok(()))),
            // At the start a person waits for the answer; later the other listeners serve on.
            (Some(started), false) => {
                drop(started.send(Err(StartError::Listen { reason: reasons.join("; ") })));
            }
            (None, true) => {}
            (None, false) if is_news => {
                let proxy = self.tenant.shown();
                warn!(proxy, reason = reasons.join("; "), "a listener is missing");
            }
            (None, false) => {}
        }
    }

    /// Puts what the program gives in force until the tree is cancelled.
    pub(super) async fn follow(
        &mut self,
        mut snapshots: watch::Receiver<Arc<ProxySnapshot>>,
        tasks: &TaskTree,
    ) {
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            // The reason was told already.
            let _ = self.apply((*snapshot).clone()).await;
            let changed = loop {
                tokio::select! {
                    // All three are cancel-safe: they only wait.
                    changed = snapshots.changed() => break changed,
                    () = self.rebind_due() => {}
                    () = tasks.cancelled() => return,
                }
                self.rebind().await;
            };
            if changed.is_err() {
                return self.rebind_until_cancelled(tasks).await;
            }
        }
    }

    /// Has only listeners left to open, until the tree is cancelled.
    pub(super) async fn rebind_until_cancelled(&mut self, tasks: &TaskTree) {
        loop {
            tokio::select! {
                // Both only wait.
                () = self.rebind_due() => {}
                () = tasks.cancelled() => return,
            }
            self.rebind().await;
        }
    }
}

/// Logs which targets others begin to stand in for, and which need it no more.
fn tell_stand_ins(before: Option<&Workload>, now: &Workload) {
    let replaced = |workload: &Workload| -> BTreeMap<(ServiceName, TargetId), TargetId> {
        let all = workload.upstreams.iter().flat_map(|upstream| {
            let replaced = upstream.replaced();
            replaced.map(|(id, other)| ((upstream.service.clone(), id.clone()), other.clone()))
        });
        all.collect()
    };
    let (before, now) = (before.map(replaced).unwrap_or_default(), replaced(now));
    for ((upstream, target), other) in &now {
        if before.get(&(upstream.clone(), target.clone())) != Some(other) {
            let stands_in = other;
            info!(%upstream, %target, %stands_in, "no healthy instance, another target stands in");
        }
    }
    for (upstream, target) in before.keys().filter(|key| !now.contains_key(key)) {
        info!(%upstream, %target, "no other target stands in any more");
    }
}
