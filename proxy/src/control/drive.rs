//! Puts snapshots in force, one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};
use weft_core::name::ServiceName;
use weft_core::proxycfg::ProxySnapshot;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::static_file;
use super::subscribe::subscribe;
use crate::StartError;
use crate::config::{AccessLogSetting, Hops, SnapshotSource};
use crate::handover::Standing;
use crate::http::chain;
use crate::listen::{Crew, Unbound};
use crate::observe::{Metrics, PlaintextReport};
use crate::workload::Workload;

/// How often listeners that could not be opened are tried again.
const REBIND_EVERY: Duration = Duration::from_secs(2);

/// Tells once whether the first snapshot is in force.
pub(crate) type Started = oneshot::Sender<Result<(), StartError>>;

/// The task's own state.
pub(super) struct Driver {
    crew: Crew,
    hops: Hops,
    /// What is said on the host about access logs.
    access_log: Option<AccessLogSetting>,
    metrics: Metrics,
    /// What is in force, for the admin interface.
    cell: Arc<ArcSwapOption<Workload>>,
    started: Option<Started>,
    /// When listeners that could not be opened are tried again.
    rebind_at: Option<Instant>,
    standing: Standing,
}

/// Follows the source until the tree is cancelled.
pub(crate) async fn drive(
    source: SnapshotSource,
    (crew, (hops, access_log)): (Crew, (Hops, Option<AccessLogSetting>)),
    metrics: Metrics,
    (cell, started, standing): (Arc<ArcSwapOption<Workload>>, Started, Standing),
    (questions, tasks): (mpsc::Receiver<ServiceName>, TaskTree),
) {
    let (started, rebind_at) = (Some(started), None);
    let mut driver = Driver { crew, hops, access_log, metrics, cell, started, rebind_at, standing };
    match source {
        SnapshotSource::File(path) => match static_file::read(&path) {
            Ok(snapshot) => {
                // The reason was told already.
                let _ = driver.apply(snapshot).await;
                driver.rebind_until_cancelled(&tasks).await;
            }
            Err(error) => {
                let path = path.display().to_string();
                driver.fail(StartError::SnapshotFile { path, reason: chain(&error) });
            }
        },
        SnapshotSource::Given(snapshots) => driver.follow(snapshots, &tasks).await,
        SnapshotSource::Agent { socket, workload } => {
            subscribe(&mut driver, (&socket, &workload), questions, &tasks).await;
        }
    }
}

impl Driver {
    /// Puts a snapshot in force.
    ///
    /// # Errors
    /// The reason in words, when it cannot be: then the one before stays in force.
    pub(super) async fn apply(&mut self, mut snapshot: ProxySnapshot) -> Result<(), String> {
        let version = snapshot.version;
        let before = self.cell.load_full();
        if let Some(setting) = self.access_log {
            snapshot.access_logs = setting.instead().map(Box::new);
        }
        let workload = match Workload::new(snapshot, self.hops, before.as_deref()) {
            Ok(workload) => Arc::new(workload),
            Err(error) => {
                let reason = chain(&error);
                self.metrics.refused();
                error!(version, reason, "configuration refused, the one before stays in force");
                self.fail(StartError::Snapshot { reason: reason.clone() });
                return Err(reason);
            }
        };
        self.put_in_force(workload).await;
        info!(version, "configuration in force");
        Ok(())
    }

    /// Returns who came without mutual TLS; `None` while nobody may and nobody did.
    pub(super) fn plaintext(&self) -> Option<PlaintextReport> {
        let workload = self.cell.load();
        let may = workload.as_ref().is_some_and(|it| it.snapshot.inbound.takes_plaintext);
        Some(self.metrics.plaintext()).filter(|report| may || !report.sources.is_empty())
    }

    /// Whether another process speaks to the source in this one's place. Policy is followed on, as
    /// connections are judged by it.
    pub(super) fn is_replaced(&self) -> bool {
        self.standing.is_replaced()
    }

    /// Tries again to open listeners, if some are missing.
    pub(super) async fn rebind(&mut self) {
        if let (true, Some(workload)) = (self.rebind_at.is_some(), self.cell.load_full()) {
            self.put_in_force(workload).await;
        }
    }

    /// Waits until listeners should be tried again.
    pub(super) async fn rebind_due(&self) {
        match self.rebind_at {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending::<()>().await,
        }
    }

    /// Whether the first snapshot is in force, or the start has failed.
    pub(super) fn is_started(&self) -> bool {
        self.started.is_none()
    }

    /// Notes why there is no configuration yet.
    pub(super) fn wait_for(&self, reason: &str) {
        self.standing.waits_for(reason);
    }

    /// Ends the start with an error, if it has not ended yet.
    pub(super) fn fail(&mut self, error: StartError) {
        match self.started.take() {
            // Nobody waits for the start any more.
            Some(started) => drop(started.send(Err(error))),
            None => warn!(error = chain(&error), "configuration source failed"),
        }
    }

    async fn put_in_force(&mut self, workload: Arc<Workload>) {
        let unbound = self.crew.apply(&workload).await;
        let leaf_ms = workload.credentials.valid_before().0;
        self.metrics.applied(workload.snapshot.version, leaf_ms);
        self.metrics.listeners_failed(unbound.len());
        self.cell.store(Some(workload));
        // A moment, not a pause: whoever waits for it is interrupted by other things.
        self.rebind_at = (!unbound.is_empty()).then(|| clock::instant() + REBIND_EVERY);
        let grave = unbound.iter().filter(|unbound| !unbound.has_choice);
        let reasons: Vec<String> = grave.map(Unbound::to_string).collect();
        match (self.started.take(), reasons.is_empty()) {
            (Some(started), true) => drop(started.send(Ok(()))),
            // At the start a person waits for the answer; later the other listeners serve on.
            (Some(started), false) => {
                drop(started.send(Err(StartError::Listen { reason: reasons.join("; ") })));
            }
            (None, true) => {}
            (None, false) => warn!(reason = reasons.join("; "), "a listener is missing"),
        }
    }

    async fn follow(
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

    async fn rebind_until_cancelled(&mut self, tasks: &TaskTree) {
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
