//! Carries out anti-entropy: keeps the catalog true to what is registered on this host.
//!
//! When to compare, and what follows from a comparison, is decided in `core::sync`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use imbl::ordmap::DiffItem;
use tonic::transport::Channel;
use tracing::{debug, info, warn};
use weft_core::catalog::{
    CatalogDeregistration, CatalogRegistration, CheckStatus, HealthCheck, Locality, Node,
    SERF_HEALTH, Service,
};
use weft_core::name::CheckId;
use weft_core::sync::{Differences, Outputs, Schedule, SyncOrder, TagsTold, diff};
use weft_proto::envelope;
use weft_proto::grpc::v1::catalog_client::CatalogClient;
use weft_proto::grpc::v1::{DeregisterRequest, NodeStateRequest, RegisterRequest};
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy};

use crate::local::{Local, LocalServices};
use crate::metrics::Metrics;
use crate::servers::{Servers, reason, refusal};

/// The time for one call: a commit takes milliseconds, an election some seconds.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Instances and checks in one call: usually some hundred bytes each, at worst 40 KiB of
/// metadata, which is about the size of message that servers take.
const BATCH_RECORDS_MAX: usize = 96;
/// Bytes of the catalog's answer: some ten thousand instances on one node.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Starts keeping the catalog true to the host.
///
/// `locality` is that of services that do not say it themselves.
pub fn start(
    (node, locality): (Node, Option<Locality>),
    local: Local,
    servers: Servers,
    metrics: Metrics,
    tasks: &TaskTree,
) {
    // What is kept from an earlier run, and what stands in files, was told then.
    let told = TagsTold::by(&truth(&node, locality.as_ref(), &local.current()));
    let has_failed = false;
    let sync = Sync { node, locality, local, servers, metrics, held: None, told, has_failed };
    tasks.spawn("sync", sync.run(tasks.clone()));
}

/// Takes this host and all that is on it out of the catalog.
///
/// # Errors
/// In words, when no server did it.
pub(crate) async fn leave(servers: &Servers) -> Result<(), String> {
    let node = servers.membership().node.clone();
    let gone = CatalogDeregistration { node, services: Vec::new(), checks: Vec::new() };
    let differences = Differences { register: None, deregister: Some(gone) };
    Catalog::new(servers.channel()).carry_out(&differences).await
}

struct Sync {
    node: Node,
    locality: Option<Locality>,
    local: Local,
    servers: Servers,
    metrics: Metrics,
    /// What the catalog held after the last comparison; `None` when that is not known.
    held: Option<CatalogRegistration>,
    told: TagsTold,
    has_failed: bool,
}

impl Sync {
    async fn run(mut self, tasks: TaskTree) {
        let mut schedule = Schedule::new(clock::instant(), entropy::rng());
        let mut changes = self.local.subscribe();
        let mut connections = self.servers.connections();
        let mut seen = changes.borrow_and_update().clone();
        let cancelled = tasks.token();
        loop {
            schedule.handle_timeout(clock::instant());
            while let Some(order) = schedule.poll_output() {
                let done = tokio::select! {
                    () = cancelled.cancelled() => return,
                    done = self.compare(order) => done,
                };
                self.settle(done, &mut schedule);
            }
            let due = schedule.poll_timeout();
            let idle = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            // Every branch only waits for a level or the clock: none loses anything when
            // another is taken.
            tokio::select! {
                () = cancelled.cancelled() => return,
                changed = changes.changed() => {
                    if changed.is_err() { return }
                    let newest = changes.borrow_and_update().clone();
                    note_change(&seen, &newest, &mut schedule);
                    seen = newest;
                }
                _ = connections.changed() => schedule.handle_connected(clock::instant()),
                () = idle => {}
            }
        }
    }

    fn settle(
        &mut self,
        done: Result<(), String>,
        schedule: &mut Schedule<impl rand_core::RngCore>,
    ) {
        let now = clock::instant();
        match done {
            Ok(()) => {
                if self.has_failed {
                    info!("the catalog is true to this host again");
                }
                self.has_failed = false;
                self.metrics.sync_done();
                schedule.handle_done(now);
            }
            Err(reason) => {
                // Told once; attempts go on in the background.
                if self.has_failed {
                    debug!(%reason, "the catalog cannot be kept true to this host");
                } else {
                    warn!(%reason, "the catalog cannot be kept true to this host, will try on");
                }
                self.has_failed = true;
                self.held = None;
                self.metrics.sync_failed();
                schedule.handle_failure(now);
            }
        }
    }

    async fn compare(&mut self, order: SyncOrder) -> Result<(), String> {
        let mut catalog = Catalog::new(self.servers.channel());
        if order.full || self.held.is_none() {
            self.held = catalog.node_state(&self.node).await?;
            if let Some(held) = &self.held {
                self.local.adopt(&held.checks);
            }
        }
        let truth = truth(&self.node, self.locality.as_ref(), &self.local.current());
        let outputs = if order.with_output { Outputs::Compared } else { Outputs::Ignored };
        let differences = diff(&truth, self.held.as_ref(), &self.told, outputs);
        if differences.is_empty() {
            self.told = TagsTold::by(&truth);
            return Ok(());
        }
        catalog.carry_out(&differences).await?;
        self.told = TagsTold::by(&truth);
        let before = self.held.take().unwrap_or_else(|| CatalogRegistration {
            node: self.node.clone(),
            services: Vec::new(),
            checks: Vec::new(),
        });
        self.held = Some(differences.applied_to(before));
        Ok(())
    }
}

/// Tells the schedule what changed: output alone may wait.
fn note_change(
    before: &Arc<LocalServices>,
    after: &Arc<LocalServices>,
    schedule: &mut Schedule<impl rand_core::RngCore>,
) {
    if differ_beyond_output(before, after) {
        schedule.handle_change(clock::instant());
    } else {
        schedule.handle_output_change(clock::instant());
    }
}

/// Looks only at what is not shared by both, so that one result among thousands is cheap.
fn differ_beyond_output(before: &LocalServices, after: &LocalServices) -> bool {
    let is_more = |change| match change {
        DiffItem::Add(..) | DiffItem::Remove(..) => true,
        DiffItem::Update { old: (_, old), new: (_, new) } => {
            let old: &HealthCheck = old;
            HealthCheck { output: String::clone(&new.output), ..old.clone() } != *new
        }
    };
    before.services != after.services || before.checks.diff(&after.checks).any(is_more)
}

/// What the catalog should hold for this host.
fn truth(node: &Node, locality: Option<&Locality>, local: &LocalServices) -> CatalogRegistration {
    let mut checks: Vec<HealthCheck> = local.checks.values().cloned().collect();
    checks.push(lease_check(node));
    let placed = |service: &Service| {
        let locality = service.locality.clone().or_else(|| locality.cloned());
        Service { locality, ..service.clone() }
    };
    let services = local.services.values().map(placed).collect();
    CatalogRegistration { node: node.clone(), services, checks }
}

/// The check by which others see that this agent lives; once registered it is the servers'.
fn lease_check(node: &Node) -> HealthCheck {
    let id = CheckId::parse(SERF_HEALTH).expect("a valid check id");
    let name = "Serf Health Status";
    HealthCheck {
        output: "Agent alive and reachable".to_owned(),
        ..HealthCheck::of_node(node.name.clone(), id, name, CheckStatus::Passing)
    }
}

/// The catalog, as this agent calls it. Failures are told in words: all lead to another try.
struct Catalog {
    client: CatalogClient<Channel>,
}

impl Catalog {
    fn new(channel: Channel) -> Self {
        let client = CatalogClient::new(channel)
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX);
        Self { client }
    }

    async fn node_state(&mut self, node: &Node) -> Result<Option<CatalogRegistration>, String> {
        let request = NodeStateRequest { node_name: node.name.to_string() };
        let reply = in_time(self.client.node_state(request)).await?;
        if !reply.exists {
            return Ok(None);
        }
        let held = envelope::decode(&reply.registration).map_err(|error| reason(&error))?;
        Ok(Some(held))
    }

    /// Registers before it deregisters: what moves is never missing in between.
    async fn carry_out(&mut self, differences: &Differences) -> Result<(), String> {
        if let Some(register) = &differences.register {
            for batch in Differences::batches(register.clone(), BATCH_RECORDS_MAX) {
                let registration: Bytes = envelope::encode(&batch);
                let (services, checks) = (batch.services.len(), batch.checks.len());
                in_time(self.client.register(RegisterRequest { registration })).await?;
                debug!(services, checks, "registered in the catalog");
            }
        }
        if let Some(deregister) = &differences.deregister {
            let deregistration: Bytes = envelope::encode(deregister);
            let (services, checks) = (deregister.services.len(), deregister.checks.len());
            in_time(self.client.deregister(DeregisterRequest { deregistration })).await?;
            debug!(services, checks, "deregistered from the catalog");
        }
        Ok(())
    }
}

async fn in_time<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, String> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(refusal(&status)),
        Err(_) => Err(format!("no answer within {} s", CALL_LIMIT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use weft_core::index::Index;

    use super::*;

    #[test]
    fn output_alone_is_no_news_to_the_catalog() {
        let node = Node {
            id: String::new(),
            name: "host-1".parse().expect("a name"),
            address: String::new(),
            datacenter: "dc1".parse().expect("a datacenter"),
            tagged_addresses: Default::default(),
            meta: Default::default(),
            create_index: Index::default(),
            modify_index: Index::default(),
        };
        let check = lease_check(&node);
        let with = |check: HealthCheck| LocalServices {
            checks: [(check.id.clone(), check)].into_iter().collect(),
            ..LocalServices::default()
        };
        let before = with(check.clone());
        let said = with(HealthCheck { output: "other".to_owned(), ..check.clone() });
        let worse = with(HealthCheck { status: CheckStatus::Warning, ..check });
        assert!(!differ_beyond_output(&before, &said));
        assert!(differ_beyond_output(&before, &worse));
        assert!(differ_beyond_output(&before, &LocalServices::default()));
    }
}
