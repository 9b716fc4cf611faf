//! The checks of hosts that have no agent: several agents share them, each host is one agent's.
//!
//! `follow` keeps what servers say: the hosts, their checks, and which agents take part. Here
//! follows what is this agent's, by `core::health::worker_of`; `watchman` runs one check, and `catalog`
//! writes what it came to, under the index at which it was read: whoever deregisters, or writes
//! meanwhile, wins.

mod catalog;
mod follow;
mod metrics;
mod target;
mod watchman;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::DropGuard;
use tracing::{info, warn};
use weft_core::catalog::{HealthCheck, Node};
use weft_core::health::worker_of;
use weft_core::limits;
use weft_core::name::{CheckId, NodeName};
use weft_runtime::task::TaskTree;

use super::alias::Ask;
use super::probe::Tools;
use crate::config::ExternalChecks;
pub(crate) use catalog::Tell;
use follow::{Followed, follow};
pub(crate) use metrics::ExternalMetrics;
use target::Target;
use watchman::Watchman;

/// Connections of probes at once; see the runner's of this host.
const CONNECTIONS_MAX: usize = 256;
/// Checks that are run soon and often until they pass, as after a registration.
const EAGER_MAX: usize = 128;

/// What the running of these checks needs from outside.
pub(crate) struct ExternalMeans {
    /// Asks servers.
    pub(crate) ask: Ask,
    /// Writes to the catalog.
    pub(crate) tell: Tell,
    /// This host's name.
    pub(crate) node: NodeName,
    /// What is counted.
    pub(crate) metrics: ExternalMetrics,
}

/// Starts to run this agent's part of the checks.
pub(crate) fn start(settings: ExternalChecks, means: ExternalMeans, tasks: &TaskTree) {
    let tasks = tasks.child("external");
    let mark: Vec<String> =
        settings.node_meta.iter().map(|(key, value)| format!("node-meta={key}:{value}")).collect();
    let mark = mark.join("&");
    let paths = [
        format!("/v1/catalog/nodes?{mark}"),
        format!("/v1/health/state/any?{mark}"),
        format!("/v1/health/service/{}?passing", settings.service),
    ];
    let [nodes, checks, workers] = paths.map(|path| (path, means.ask.clone()));
    let shares = Shares {
        nodes: follow(nodes, "external-nodes", &tasks),
        checks: follow(checks, "external-checks", &tasks),
        workers: follow(workers, "external-workers", &tasks),
        settings,
        shared: Arc::new(Shared {
            connections: Semaphore::new(CONNECTIONS_MAX),
            // No check of these names a container.
            tools: Tools::new(Default::default()),
            tell: means.tell,
            metrics: means.metrics,
        }),
        node: means.node,
        running: BTreeMap::new(),
        has_too_many: false,
    };
    tasks.spawn("shares", shares.run(tasks.clone()));
}

/// What all watchmen share.
struct Shared {
    connections: Semaphore,
    tools: Tools,
    tell: Tell,
    metrics: ExternalMetrics,
}

/// One entry of `/v1/health/service`, as far as it matters.
#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Worker {
    node: WorkerNode,
}

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WorkerNode {
    node: NodeName,
}

/// Which part of the checks is this agent's.
struct Shares {
    settings: ExternalChecks,
    node: NodeName,
    nodes: Followed<Node>,
    checks: Followed<HealthCheck>,
    workers: Followed<Worker>,
    running: BTreeMap<(NodeName, CheckId), Running>,
    shared: Arc<Shared>,
    has_too_many: bool,
}

/// One check that is run here.
struct Running {
    target: Target,
    known: watch::Sender<Option<HealthCheck>>,
    /// Ends the watchman.
    _works: DropGuard,
}

/// What is to be run: the target, and the check as the catalog has it.
type Wanted = BTreeMap<(NodeName, CheckId), (Target, Option<HealthCheck>)>;

impl Shares {
    async fn run(mut self, tasks: TaskTree) {
        let cancelled = tasks.token();
        loop {
            // Each waits for a level: none loses anything when another is taken.
            let has_changed = tokio::select! {
                () = cancelled.cancelled() => return,
                changed = self.nodes.changed() => changed,
                changed = self.checks.changed() => changed,
                changed = self.workers.changed() => changed,
            };
            if has_changed.is_err() {
                return;
            }
            self.take_up(&tasks);
        }
    }

    /// Starts what has become this agent's, ends what no longer is, and tells the rest what the
    /// catalog says.
    fn take_up(&mut self, tasks: &TaskTree) {
        let latest = (
            self.nodes.borrow_and_update().clone(),
            self.checks.borrow_and_update().clone(),
            self.workers.borrow_and_update().clone(),
        );
        // Before all three are known nothing is clear.
        let (Some(nodes), Some(checks), Some(workers)) = latest else { return };
        let own: BTreeMap<&NodeName, &Node> =
            nodes.iter().filter(|it| self.is_own(it, &workers)).map(|it| (&it.name, it)).collect();
        let mut wanted = self.wanted(&own, &checks);
        let before = self.running.len();
        self.running.retain(|id, running| match wanted.get(id) {
            Some((target, _)) => *target == running.target,
            None => false,
        });
        for (id, (target, known)) in std::mem::take(&mut wanted) {
            match self.running.get(&id) {
                Some(running) => {
                    running.known.send_if_modified(|held| match *held == known {
                        true => false,
                        false => {
                            *held = known;
                            true
                        }
                    });
                }
                None => self.start(id, target, known, tasks),
            }
        }
        if before != self.running.len() {
            let (hosts, checks) = (own.len(), self.running.len());
            info!(hosts, checks, "this agent's part of the external checks has changed");
        }
        self.shared.metrics.share(own.len(), self.running.len());
    }

    fn is_own(&self, node: &Node, workers: &[Worker]) -> bool {
        let names = workers.iter().map(|worker| worker.node.node.as_str());
        worker_of(node.name.as_str(), names) == Some(self.node.as_str())
    }

    fn wanted(&mut self, own: &BTreeMap<&NodeName, &Node>, checks: &[HealthCheck]) -> Wanted {
        let mut wanted = Wanted::new();
        for check in checks.iter().filter(|check| own.contains_key(&check.node)) {
            let Some(definition) = check.definition.as_deref() else { continue };
            let id = (check.node.clone(), check.id.clone());
            if let Some(target) = Target::of_check(definition) {
                wanted.insert(id, (target, Some(check.clone())));
            }
        }
        for node in own.values() {
            let Some(target) = Target::of_node(node, self.settings.node_interval) else { continue };
            let id = (node.name.clone(), target::node_check_id());
            let is_it = |check: &&HealthCheck| (&check.node, &check.id) == (&id.0, &id.1);
            let known = checks.iter().find(is_it).cloned();
            wanted.insert(id, (target, known));
        }
        let is_too_many = wanted.len() > limits::EXTERNAL_CHECKS_PER_AGENT_MAX;
        if is_too_many && !self.has_too_many {
            let (checks, limit) = (wanted.len(), limits::EXTERNAL_CHECKS_PER_AGENT_MAX);
            warn!(checks, limit, "more external checks than one agent runs; start another agent");
        }
        self.has_too_many = is_too_many;
        while wanted.len() > limits::EXTERNAL_CHECKS_PER_AGENT_MAX {
            wanted.pop_last();
        }
        wanted
    }

    fn start(
        &mut self,
        id: (NodeName, CheckId),
        target: Target,
        known: Option<HealthCheck>,
        tasks: &TaskTree,
    ) {
        let (tell, told) = watch::channel(known);
        let works = tasks.token().child_token();
        let is_eager = self.running.len() < EAGER_MAX;
        let plan = target.plan(&id, is_eager, &self.settings);
        let watchman = Watchman::new(id.clone(), plan, told, self.shared.clone());
        let running = Running { target, known: tell, _works: works.clone().drop_guard() };
        self.running.insert(id, running);
        tasks.spawn("watchman", async move {
            // It ends with the check alone.
            let _ = works.run_until_cancelled(watchman.run()).await;
        });
    }
}

#[cfg(test)]
mod tests;
