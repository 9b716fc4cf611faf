//! One check of a host without an agent: run, judged, and written to the catalog.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tracing::{info, warn};
use weft_core::catalog::{CheckStatus, HealthCheck};
use weft_core::health::{CheckAction, CheckPolicy, CheckState};
use weft_core::index::Index;
use weft_core::name::{CheckId, NodeName};
use weft_runtime::backoff::Backoff;
use weft_runtime::{clock, entropy};

use super::Shared;
use super::catalog::{self, Written};
use super::target::{Looking, Plan};
use crate::checks::probe::Finding;

/// How long output alone may wait to be written (Consul: `check_update_interval`, 5 min).
const OUTPUT_WAIT: Duration = Duration::from_secs(300);
/// The pauses after a write that no server took.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Runs one check for as long as it is this agent's.
pub(super) struct Watchman {
    node: NodeName,
    id: CheckId,
    looking: Arc<Looking>,
    state: CheckState,
    /// The check as the catalog has it.
    known: watch::Receiver<Option<HealthCheck>>,
    /// What the catalog should say, once that is known.
    verdict: Option<Finding>,
    /// The index under which the last write was tried: until the catalog tells a newer one, what
    /// is known here is old.
    tried: Option<Index>,
    written_at: Option<Instant>,
    /// Whether the service is to go, as the check was critical for too long.
    is_over: bool,
    try_at: Option<Instant>,
    pauses: Backoff,
    shared: Arc<Shared>,
}

impl Watchman {
    pub(super) fn new(
        (node, id): (NodeName, CheckId),
        plan: Plan,
        known: watch::Receiver<Option<HealthCheck>>,
        shared: Arc<Shared>,
    ) -> Self {
        let initial = known.borrow().as_ref().map_or(CheckStatus::Critical, |check| check.status);
        let policy = CheckPolicy { initial, ..plan.policy };
        Self {
            node,
            id,
            looking: Arc::new(plan.probe),
            state: CheckState::new(policy, clock::instant(), &mut entropy::rng()),
            known,
            verdict: None,
            tried: None,
            written_at: None,
            is_over: false,
            try_at: None,
            pauses: Backoff::new(PAUSE_MIN, PAUSE_MAX, entropy::rng()),
            shared,
        }
    }

    /// Runs the check until it is dropped.
    pub(super) async fn run(mut self) {
        let mut look: Option<BoxFuture<'static, Option<Finding>>> = None;
        loop {
            let due = [self.state.poll_timeout(), self.try_at].into_iter().flatten().min();
            let idle = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let looked = async {
                match &mut look {
                    Some(look) => look.await,
                    None => std::future::pending().await,
                }
            };
            // A look under way is kept when another branch is taken; the others wait for a level.
            tokio::select! {
                () = idle => self.state.handle_timeout(clock::instant()),
                finding = looked => {
                    look = None;
                    if let Some(Finding { status, output }) = finding {
                        self.state.handle_result(status, output, clock::instant());
                    }
                }
                changed = self.known.changed() => if changed.is_err() { return },
            }
            while let Some(action) = self.state.poll_output() {
                match action {
                    CheckAction::Deregister => self.is_over = true,
                    CheckAction::Report { status, output } => {
                        self.verdict = Some(Finding { status, output });
                    }
                    CheckAction::Run => look = Some(self.look()),
                }
            }
            self.write().await;
        }
    }

    fn look(&self) -> BoxFuture<'static, Option<Finding>> {
        let (looking, shared) = (self.looking.clone(), self.shared.clone());
        async move {
            // The semaphore is never closed.
            let _permit = shared.connections.acquire().await.ok()?;
            Some(looking.look(&shared.tools).await)
        }
        .boxed()
    }

    /// Writes what the catalog does not say yet.
    async fn write(&mut self) {
        let now = clock::instant();
        if self.try_at.is_some_and(|at| now < at) {
            return;
        }
        self.try_at = None;
        let known = self.known.borrow_and_update().clone();
        let index = known.as_ref().map_or(Index::default(), |check| check.modify_index);
        let Some(verdict) = self.verdict.as_ref().filter(|_| self.tried != Some(index)) else {
            return;
        };
        if !self.is_over && !self.is_news(verdict, known.as_ref(), now) {
            return;
        }
        let check = match &known {
            Some(check) => HealthCheck {
                status: verdict.status,
                output: verdict.output.clone(),
                ..check.clone()
            },
            None => catalog::node_check(&self.node, &self.id, verdict),
        };
        let written = catalog::write(&check, self.is_over, &self.shared.tell).await;
        self.shared.metrics.written(&written);
        match written {
            Written::Done => {
                let (node, id, status) = (&self.node, &self.id, verdict.status);
                if self.is_over {
                    info!(%node, check = %id, "external service was critical for too long and is deregistered");
                } else if known.is_none_or(|known| known.status != status) {
                    info!(%node, check = %id, %status, "external check has changed");
                }
                self.is_over = false;
                self.tried = Some(index);
                self.written_at = Some(now);
                self.pauses.reset();
            }
            // Somebody else has written, or deregistered: that is told in a moment.
            Written::Refused => {
                self.tried = Some(index);
                self.is_over = false;
            }
            Written::Failed(reason) => {
                let pause = self.pauses.next();
                let (node, id) = (&self.node, &self.id);
                warn!(%node, check = %id, %reason, "result of an external check cannot be written");
                self.try_at = Some(clock::instant() + pause);
            }
        }
    }

    /// Whether the catalog should hear of it now: output alone may wait.
    fn is_news(&self, verdict: &Finding, known: Option<&HealthCheck>, now: Instant) -> bool {
        let Some(known) = known else { return true };
        let may_wait = || self.written_at.is_some_and(|at| now < at + OUTPUT_WAIT);
        known.status != verdict.status || (known.output != verdict.output && !may_wait())
    }
}
