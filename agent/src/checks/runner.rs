//! Drives the machines of all checks: waits, probes, hands results to them and status changes
//! to `local`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{debug, error, info};
use weft_core::catalog::CheckStatus;
use weft_core::health::{CheckAction, CheckState, TtlState};
use weft_core::name::{CheckId, InstanceId};
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy};

use super::probe::{self, Finding, ProbeTls};
use crate::local::{CheckPlan, Local, LocalError, Plans, Probe};

/// Probes under way at once: more would slow each other down and crowd out the services.
const PROBES_MAX: usize = 64;
/// Results and reports that wait for the runner; senders wait when it is full.
const QUEUE_MAX: usize = 256;

/// The running checks of this host; clones share them.
#[derive(Debug, Clone)]
pub struct Checks {
    reports: mpsc::Sender<Report>,
}

/// Says why an application's report was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The check is probed, so nobody reports on it.
    #[error("check {0:?} has no TTL: it is probed and takes no reports")]
    NotTtl(String),
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    Stopped,
    /// There is no such check.
    #[error("no check with id {0:?} is registered here")]
    Unknown(String),
}

struct Report {
    id: String,
    status: CheckStatus,
    output: String,
    done: oneshot::Sender<Result<(), ReportError>>,
}

impl Checks {
    /// Starts running the checks that are registered, now and later.
    pub fn start(local: Local, tasks: &TaskTree) -> Self {
        let tasks = tasks.child("checks");
        let (reports, waiting_reports) = mpsc::channel(QUEUE_MAX);
        let runner = Runner::new(local, tasks.clone());
        tasks.spawn("runner", runner.run(waiting_reports));
        Self { reports }
    }

    /// Takes an application's report on itself; the new status is in force on return.
    ///
    /// # Errors
    /// [`ReportError`] when there is no such ttl check.
    pub async fn report(
        &self,
        id: String,
        status: CheckStatus,
        output: String,
    ) -> Result<(), ReportError> {
        let (done, answer) = oneshot::channel();
        let report = Report { id, status, output, done };
        self.reports.send(report).await.map_err(|_| ReportError::Stopped)?;
        answer.await.map_err(|_| ReportError::Stopped)?
    }
}

struct Runner {
    local: Local,
    plans: watch::Receiver<Arc<Plans>>,
    running: BTreeMap<CheckId, Running>,
    generation: u64,
    permits: Arc<Semaphore>,
    tls: Arc<ProbeTls>,
    results: mpsc::Sender<Outcome>,
    waiting_results: mpsc::Receiver<Outcome>,
    tasks: TaskTree,
}

struct Running {
    plan: Arc<CheckPlan>,
    machine: Machine,
    /// Tells a result of this machine from one of a machine that it replaced.
    generation: u64,
}

enum Machine {
    Probed(CheckState),
    Ttl(TtlState),
}

struct Outcome {
    id: CheckId,
    generation: u64,
    finding: Finding,
}

impl Machine {
    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Probed(state) => state.handle_timeout(now),
            Self::Ttl(state) => state.handle_timeout(now),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Probed(state) => state.poll_timeout(),
            Self::Ttl(state) => state.poll_timeout(),
        }
    }

    fn poll_output(&mut self) -> Option<CheckAction> {
        match self {
            Self::Probed(state) => state.poll_output(),
            Self::Ttl(state) => state.poll_output(),
        }
    }
}

impl Runner {
    fn new(local: Local, tasks: TaskTree) -> Self {
        let (results, waiting_results) = mpsc::channel(QUEUE_MAX);
        Self {
            plans: local.plans(),
            local,
            running: BTreeMap::new(),
            generation: 0,
            permits: Arc::new(Semaphore::new(PROBES_MAX)),
            tls: Arc::default(),
            results,
            waiting_results,
            tasks,
        }
    }

    async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        let cancelled = self.tasks.token();
        self.take_up_plans();
        loop {
            let due = self.running.values().filter_map(|check| check.machine.poll_timeout()).min();
            let idle = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            // Every branch only waits on a channel, a token or the clock: none loses anything
            // when another is taken.
            tokio::select! {
                () = cancelled.cancelled() => return,
                changed = self.plans.changed() => match changed {
                    Ok(()) => self.take_up_plans(),
                    Err(_) => return,
                },
                Some(outcome) = self.waiting_results.recv() => self.handle_outcome(outcome),
                Some(report) = reports.recv() => self.handle_report(report),
                () = idle => {}
            }
            self.tick();
        }
    }

    /// Starts what is new or changed and drops what is gone; what stayed runs on undisturbed.
    fn take_up_plans(&mut self) {
        let plans = self.plans.borrow_and_update().clone();
        let stays = |id: &CheckId, check: &Running| plans.get(id).is_some_and(|p| *p == check.plan);
        self.running.retain(|id, check| stays(id, check));
        let current = self.local.current();
        let now = clock::instant();
        for (id, plan) in plans.iter() {
            if self.running.contains_key(id) {
                continue;
            }
            let initial = current.checks.get(id).map_or(plan.initial, |check| check.status);
            let machine = match plan.probe {
                Probe::Http(_) | Probe::Tcp { .. } => {
                    let policy = plan.policy(initial);
                    Machine::Probed(CheckState::new(policy, now, &mut entropy::rng()))
                }
                Probe::Ttl { ttl } => {
                    Machine::Ttl(TtlState::new(plan.ttl_policy(ttl, initial), now))
                }
            };
            self.generation += 1;
            let check = Running { plan: plan.clone(), machine, generation: self.generation };
            self.running.insert(id.clone(), check);
        }
    }

    fn handle_outcome(&mut self, outcome: Outcome) {
        let Some(check) = self.running.get_mut(&outcome.id) else { return };
        if check.generation != outcome.generation {
            return;
        }
        let Finding { status, output } = outcome.finding;
        match &mut check.machine {
            Machine::Probed(state) => state.handle_result(status, output, clock::instant()),
            Machine::Ttl(_) => {}
        }
        self.carry_out(&outcome.id);
    }

    fn handle_report(&mut self, report: Report) {
        // The check may have been registered a moment ago.
        self.take_up_plans();
        let Report { id, status, output, done } = report;
        let taken = match self.running.get_mut(id.as_str()) {
            None => Err(ReportError::Unknown(id.clone())),
            Some(check) => match &mut check.machine {
                Machine::Probed(_) => Err(ReportError::NotTtl(id.clone())),
                Machine::Ttl(state) => {
                    state.handle_report(status, output, clock::instant());
                    Ok(check.plan.id.clone())
                }
            },
        };
        let answer = taken.map(|id| self.carry_out(&id));
        // The caller may have gone; the report counts all the same.
        let _ = done.send(answer);
    }

    fn tick(&mut self) {
        let now = clock::instant();
        let is_due = |check: &Running| check.machine.poll_timeout().is_some_and(|at| at <= now);
        let due: Vec<CheckId> = (self.running.iter())
            .filter(|(_, check)| is_due(check))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            if let Some(check) = self.running.get_mut(&id) {
                check.machine.handle_timeout(now);
            }
            self.carry_out(&id);
        }
    }

    fn carry_out(&mut self, id: &CheckId) {
        while let Some(action) =
            self.running.get_mut(id).and_then(|check| check.machine.poll_output())
        {
            match action {
                CheckAction::Deregister => self.deregister(id),
                CheckAction::Report { status, output } => {
                    debug!(check = %id, %status, "check reported");
                    self.local.set_status(id, status, &output);
                }
                CheckAction::Run => self.probe(id),
            }
        }
    }

    fn probe(&self, id: &CheckId) {
        let Some(check) = self.running.get(id) else { return };
        let (plan, generation) = (check.plan.clone(), check.generation);
        let (results, permits) = (self.results.clone(), self.permits.clone());
        let tls = self.tls.clone();
        let cancelled = self.tasks.token();
        self.tasks.spawn("probe", async move {
            let run = async {
                let _permit = permits.acquire().await.ok()?;
                probe::run(&plan, &tls).await
            };
            // A probe that is dropped closes its connection; nobody waits for the result then.
            let finding = tokio::select! {
                () = cancelled.cancelled() => return,
                finding = run => finding,
            };
            if let Some(finding) = finding {
                let outcome = Outcome { id: plan.id.clone(), generation, finding };
                // The runner ends only with the agent.
                let _ = results.send(outcome).await;
            }
        });
    }

    fn deregister(&self, id: &CheckId) {
        let Some(service) = self.running.get(id).and_then(|check| check.plan.service.clone())
        else {
            return;
        };
        let (local, check) = (self.local.clone(), id.clone());
        self.tasks.spawn("deregister", async move {
            retire(&local, &service, &check).await;
        });
    }
}

async fn retire(local: &Local, service: &InstanceId, check: &CheckId) {
    match local.deregister(service.to_string()).await {
        Ok(()) => info!(%service, %check, "service was critical for too long and is deregistered"),
        // Someone else was faster.
        Err(LocalError::UnknownService(_)) => {}
        Err(error) => error!(%service, %check, %error, "critical service cannot be deregistered"),
    }
}

#[cfg(test)]
mod tests;
