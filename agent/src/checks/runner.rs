//! Drives the machines of all checks: waits, probes, hands results to them and status changes
//! to `local`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use imbl::ordmap::DiffItem;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, error, info};
use weft_core::catalog::CheckStatus;
use weft_core::health::CheckAction;
use weft_core::name::{CheckId, InstanceId, NodeName};
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::alias::{self, Ask};
use super::due::Due;
use super::machine::Machine;
use super::probe::{self, Finding, Tools};
use crate::local::{AliasProbe, CheckPlan, Local, LocalError, LocalServices, Plans, Probe};

/// Connections of probes at once. Each is some kilobytes and mostly waits, a dead target for its
/// whole time-out, so that far fewer would let some dead targets delay all other checks; a
/// process may usually have 1,024 files open at least.
const CONNECTIONS_MAX: usize = 256;
/// Commands of probes at once: each is a process or several, and takes its share of the host.
const COMMANDS_MAX: usize = 16;
/// New checks that are run soon and often until they pass: a service or some that were just
/// registered, but not the thousands of a host whose agent starts.
const HURRYING_MAX: usize = 128;
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
    pub(crate) fn start(local: Local, means: Means, tasks: &TaskTree) -> Self {
        let tasks = tasks.child("checks");
        let (reports, waiting_reports) = mpsc::channel(QUEUE_MAX);
        let runner = Runner::new(local, means, tasks.clone());
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

/// What the running of checks needs from outside.
pub(crate) struct Means {
    /// Asks servers about other nodes.
    pub(crate) ask: Ask,
    /// The Docker daemon's socket.
    pub(crate) docker_socket: PathBuf,
}

struct Runner {
    local: Local,
    plans: watch::Receiver<Arc<Plans>>,
    /// The plans that were taken up last.
    taken: Arc<Plans>,
    running: BTreeMap<CheckId, Running>,
    due: Due,
    generation: u64,
    /// Checks that copy what stands on this host.
    aliases: BTreeSet<CheckId>,
    services: watch::Receiver<Arc<LocalServices>>,
    means: Means,
    connections: Arc<Semaphore>,
    commands: Arc<Semaphore>,
    tools: Arc<Tools>,
    results: mpsc::Sender<Outcome>,
    waiting_results: mpsc::Receiver<Outcome>,
    tasks: TaskTree,
}

struct Running {
    plan: Arc<CheckPlan>,
    machine: Machine,
    /// Tells a result of this machine from one of a machine that it replaced.
    generation: u64,
    /// Its place in the timer.
    due: Option<Instant>,
    /// Cancelled with the check: runs under way and looks elsewhere.
    works: DropGuard,
}

struct Outcome {
    id: CheckId,
    generation: u64,
    finding: Finding,
}

impl Runner {
    fn new(local: Local, means: Means, tasks: TaskTree) -> Self {
        let (results, waiting_results) = mpsc::channel(QUEUE_MAX);
        Self {
            plans: local.plans(),
            services: local.subscribe(),
            local,
            taken: Arc::default(),
            running: BTreeMap::new(),
            due: Due::default(),
            generation: 0,
            aliases: BTreeSet::new(),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            commands: Arc::new(Semaphore::new(COMMANDS_MAX)),
            tools: Arc::new(Tools::new(means.docker_socket.clone())),
            means,
            results,
            waiting_results,
            tasks,
        }
    }

    async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        let cancelled = self.tasks.token();
        self.take_up_plans();
        loop {
            let due = self.due.next();
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
                changed = self.services.changed(), if !self.aliases.is_empty() => match changed {
                    Ok(()) => self.copy(),
                    Err(_) => return,
                },
                () = idle => {}
            }
            self.tick();
        }
    }

    /// Starts what is new or changed and drops what is gone; what stayed runs on undisturbed.
    fn take_up_plans(&mut self) {
        let plans = self.plans.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.taken, plans.clone());
        let mut hurrying = self.running.values().filter(|it| it.machine.is_hurrying()).count();
        let has_changes = !Arc::ptr_eq(&before, &plans);
        for change in before.diff(&plans).filter(|_| has_changes) {
            match change {
                DiffItem::Add(_, plan) | DiffItem::Update { new: (_, plan), .. } => {
                    self.stop(&plan.id);
                    self.start(plan.clone(), hurrying < HURRYING_MAX);
                    hurrying += 1;
                }
                DiffItem::Remove(id, _) => self.stop(id),
            }
        }
        if !self.aliases.is_empty() {
            self.copy();
        }
    }

    fn stop(&mut self, id: &CheckId) {
        self.aliases.remove(id);
        if let Some(mut check) = self.running.remove(id) {
            self.due.replace(id, &mut check.due, None);
        }
    }

    fn start(&mut self, plan: Arc<CheckPlan>, is_eager: bool) {
        let known = self.local.current().checks.get(&plan.id).map(|check| check.status);
        let now = clock::instant();
        let machine = Machine::new(&plan, known.unwrap_or(plan.initial), is_eager, now);
        self.generation += 1;
        let works = self.tasks.token().child_token();
        if let Probe::Alias(target) = &plan.probe {
            match target.node.clone().filter(|node| node != self.local.node()) {
                Some(node) => self.follow(&plan.id, (node, target.clone()), works.clone()),
                None => {
                    self.aliases.insert(plan.id.clone());
                }
            }
        }
        let (id, works) = (plan.id.clone(), works.drop_guard());
        let check = Running { plan, machine, generation: self.generation, due: None, works };
        self.running.insert(id.clone(), check);
        self.requeue(&id);
    }

    /// Copies the state of something on another node from now on.
    fn follow(&self, id: &CheckId, target: (NodeName, AliasProbe), works: CancellationToken) {
        let (results, generation, id) = (self.results.clone(), self.generation, id.clone());
        let tell = move |finding| {
            let (results, id) = (results.clone(), id.clone());
            // The runner ends only with the agent.
            async move { drop(results.send(Outcome { id, generation, finding }).await) }
        };
        let follow = alias::follow(target, self.means.ask.clone(), tell);
        self.tasks.spawn("alias", async move {
            // It ends with the check alone.
            let _ = works.run_until_cancelled(follow).await;
        });
    }

    /// Copies what stands on this host.
    fn copy(&mut self) {
        let local = self.services.borrow_and_update().clone();
        for id in self.aliases.clone() {
            let Some(check) = self.running.get_mut(&id) else { continue };
            let Probe::Alias(target) = &check.plan.probe else { continue };
            check.machine.handle_finding(alias::of_host(target, &local), clock::instant());
            self.carry_out(&id);
        }
    }

    fn handle_outcome(&mut self, outcome: Outcome) {
        let Some(check) = self.running.get_mut(&outcome.id) else { return };
        if check.generation != outcome.generation {
            return;
        }
        check.machine.handle_finding(outcome.finding, clock::instant());
        self.carry_out(&outcome.id);
    }

    fn handle_report(&mut self, report: Report) {
        // The check may have been registered a moment ago.
        if self.plans.has_changed().unwrap_or(false) {
            self.take_up_plans();
        }
        let Report { id, status, output, done } = report;
        let taken = match self.running.get_mut(id.as_str()) {
            None => Err(ReportError::Unknown(id.clone())),
            Some(check) => match &mut check.machine {
                Machine::Alias(_) | Machine::Probed(_) => Err(ReportError::NotTtl(id.clone())),
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
        while let Some(id) = self.due.take(now) {
            let Some(check) = self.running.get_mut(&id) else { return };
            check.machine.handle_timeout(now);
            self.carry_out(&id);
        }
    }

    /// Does what the machine wants done, and notes when it wants to be called again.
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
        self.requeue(id);
    }

    fn requeue(&mut self, id: &CheckId) {
        let Some(check) = self.running.get_mut(id) else { return };
        let wanted = check.machine.poll_timeout();
        self.due.replace(id, &mut check.due, wanted);
    }

    fn probe(&self, id: &CheckId) {
        let Some(check) = self.running.get(id) else { return };
        let (plan, generation) = (check.plan.clone(), check.generation);
        let permits = match plan.probe.runs_commands() {
            true => self.commands.clone(),
            false => self.connections.clone(),
        };
        let (results, tools) = (self.results.clone(), self.tools.clone());
        let works = check.works.token().clone();
        self.tasks.spawn("probe", async move {
            let run = async {
                let _permit = permits.acquire().await.ok()?;
                probe::run(&plan, &tools).await
            };
            // A probe that is dropped closes its connection and ends its command; nobody waits
            // for the result then.
            let Some(finding) = works.run_until_cancelled(run).await else { return };
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
