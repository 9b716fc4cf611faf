//! The services of a host proxy: one driver for each that the agent lists, with a stream of its own.
//! One that comes, changes, fails or goes does nothing to the others.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tonic::{Status, Streaming};
use tracing::{debug, error, info, warn};
use weft_core::limits;
use weft_core::name::InstanceId;
use weft_core::proxycfg::ProxySnapshot;
use weft_proto::grpc::v1::proxy_control_client::ProxyControlClient;
use weft_proto::grpc::v1::{HostHello, HostedProxies};
use weft_runtime::backoff::Backoff;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy, rpc};

use super::drive::{Driver, Means, Started};
use super::subscribe::{PAUSE_MAX, PAUSE_MIN, Subject, refuses, subscribe};
use crate::StartError;
use crate::config::{Snapshots, WorkloadId};
use crate::http::chain;
use crate::tenant::{Questions, Tenant, Tenants};

/// How long the control of one service may take to end: it waits for worker threads at most.
const CONTROL_LIMIT: Duration = Duration::from_secs(10);

/// What a host proxy works with.
#[derive(Debug, Clone)]
pub(crate) struct HostMeans {
    pub(crate) means: Means,
    /// How long the connections of a service that goes may take to end.
    pub(crate) drain_limit: Duration,
    /// How long those services are waited for at the start of which the agent has no configuration
    /// yet.
    pub(crate) patience: Duration,
}

/// The services that are served.
struct Hosted {
    means: HostMeans,
    tenants: Tenants,
    tasks: TaskTree,
    all: BTreeMap<InstanceId, Service>,
    /// Until the first list has come.
    started: Option<Started>,
}

/// One of them.
struct Service {
    tenant: Arc<Tenant>,
    /// Its driver.
    tasks: TaskTree,
    /// Where snapshots are put that the program gives.
    given: Option<watch::Sender<Arc<ProxySnapshot>>>,
}

/// Where the snapshots of one service come from.
enum Feed {
    Agent(Arc<Path>),
    Given(Arc<ProxySnapshot>),
}

/// Tells when a service has its first snapshot in force, or why not.
type Settling = oneshot::Receiver<Result<(), StartError>>;

/// Serves whom the agent lists, until the tree is cancelled.
pub(super) async fn follow(
    socket: &Path,
    (means, tenants): (HostMeans, Tenants),
    started: Started,
    tasks: &TaskTree,
) {
    let mut hosted = Hosted::new((means, tenants), started, tasks);
    let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, entropy::rng());
    let socket: Arc<Path> = socket.into();
    loop {
        let ended = tokio::select! {
            // Dropping the stream ends the call; the next one begins with the whole list.
            ended = hosted.listen(&socket, &mut backoff) => ended,
            () = tasks.cancelled() => return,
        };
        match (hosted.started.is_some(), refuses(&ended)) {
            (true, true) => {
                let reason = format!("the agent refuses: {}", ended.message());
                hosted.tenants.waits_for(Some(&reason));
            }
            (true, false) => {
                let reason = format!("no agent answers at {}", socket.display());
                hosted.tenants.waits_for(Some(&reason));
            }
            (false, true) => warn!(reason = ended.message(), "the agent refuses"),
            (false, false) => debug!(error = chain(&ended), "the agent's stream ended"),
        }
        tokio::select! {
            // Both only wait.
            () = tokio::time::sleep(backoff.next()) => {}
            () = tasks.cancelled() => return,
        }
    }
}

/// Serves whom the program gives, until the tree is cancelled.
pub(super) async fn given(
    mut snapshots: watch::Receiver<Snapshots>,
    (means, tenants): (HostMeans, Tenants),
    started: Started,
    tasks: &TaskTree,
) {
    let mut hosted = Hosted::new((means, tenants), started, tasks);
    loop {
        let newest = snapshots.borrow_and_update().clone();
        let feeds = newest.into_iter().map(|(id, snapshot)| (id, Feed::Given(snapshot)));
        hosted.serve(feeds.collect()).await;
        tokio::select! {
            // Both only wait.
            changed = snapshots.changed() => if changed.is_err() {
                return tasks.cancelled().await;
            },
            () = tasks.cancelled() => return,
        }
    }
}

impl Hosted {
    fn new((means, tenants): (HostMeans, Tenants), started: Started, tasks: &TaskTree) -> Self {
        let tasks = tasks.child("services");
        Self { means, tenants, tasks, all: BTreeMap::new(), started: Some(started) }
    }

    /// One stream of lists, to its end.
    async fn listen(&mut self, socket: &Arc<Path>, backoff: &mut Backoff) -> Status {
        let mut client = ProxyControlClient::new(rpc::channel_unix(socket));
        let weft_version = env!("CARGO_PKG_VERSION").to_owned();
        let mut lists: Streaming<HostedProxies> =
            match client.host(HostHello { weft_version }).await {
                Ok(response) => response.into_inner(),
                Err(status) => return status,
            };
        loop {
            let list = match lists.message().await {
                Ok(Some(list)) => list,
                Ok(None) => return Status::unavailable("the agent ended the stream"),
                Err(status) => return status,
            };
            backoff.reset();
            let ids = list.proxy_ids.iter().filter_map(|id| {
                let parsed = InstanceId::parse(id);
                parsed.inspect_err(|error| warn!(id, %error, "no id of a proxy")).ok()
            });
            self.serve(ids.map(|id| (id, Feed::Agent(socket.clone()))).collect()).await;
        }
    }

    /// Serves exactly these: others leave, new ones come, the rest goes on.
    async fn serve(&mut self, wanted: BTreeMap<InstanceId, Feed>) {
        // Another process speaks for whom is new; whoever goes has connections here all the same.
        let is_replaced = self.means.means.standing.is_replaced();
        let gone: Vec<InstanceId> =
            self.all.keys().filter(|id| !wanted.contains_key(*id)).cloned().collect();
        for id in gone {
            if let Some(service) = self.all.remove(&id) {
                self.dismiss(&id, service).await;
            }
        }
        let mut settling = Vec::new();
        for (id, feed) in wanted {
            match (self.all.get(&id), feed) {
                (Some(Service { given: Some(given), .. }), Feed::Given(snapshot)) => {
                    given.send_if_modified(|known| {
                        let is_new = *known != snapshot;
                        *known = snapshot;
                        is_new
                    });
                }
                (Some(_), Feed::Given(_) | Feed::Agent(_)) => {}
                (None, _) if is_replaced => {}
                (None, _) if self.all.len() >= limits::HOSTED_PROXIES_MAX => {
                    let max = limits::HOSTED_PROXIES_MAX;
                    error!(proxy = %id, max, "a service is not served: there are too many");
                }
                (None, feed) => settling.push((id.clone(), self.admit(id, feed))),
            }
        }
        if let Some(started) = self.started.take() {
            self.tenants.waits_for(None);
            let (patience, tenants) = (self.means.patience, self.tenants.clone());
            self.tasks.spawn("start", async move {
                settle(settling, patience).await;
                tenants.begin();
                // Whoever waited may have ended meanwhile.
                let _ = started.send(Ok(()));
            });
        }
    }

    fn admit(&mut self, id: InstanceId, feed: Feed) -> Settling {
        info!(proxy = %id, "a service comes");
        let (tenant, questions) = self.tenants.admit(Some(id.clone()));
        let (tell, settling) = oneshot::channel();
        let driver = Driver::new(self.means.means.clone(), tenant.clone(), tell);
        // What goes wrong with one is no affair of the others.
        let tasks = self.tasks.isolated(id.as_str());
        let mut given = None;
        match feed {
            Feed::Agent(socket) => {
                let workload = WorkloadId::Proxy(id.to_string());
                let subject = Subject { workload, is_hosted: true };
                tasks.spawn("control", ask(driver, (socket, subject), questions, tasks.clone()));
            }
            Feed::Given(snapshot) => {
                let (sender, receiver) = watch::channel(snapshot);
                given = Some(sender);
                tasks.spawn("control", take(driver, receiver, tasks.clone()));
            }
        }
        self.all.insert(id, Service { tenant, tasks, given });
        settling
    }

    /// Ends what follows the service's configuration, then has its connections end.
    async fn dismiss(&self, id: &InstanceId, service: Service) {
        info!(proxy = %id, "a service goes");
        let Service { tenant, tasks, .. } = service;
        tasks.cancel();
        // It may be about to put something in force, which must not come after its end.
        if let Err(error) = tasks.join(CONTROL_LIMIT).await {
            error!(proxy = %id, %error, "the control of a service does not end");
        }
        self.tenants.dismiss(&tenant);
        let HostMeans { means, drain_limit, .. } = &self.means;
        let ended = means.crew.remove(&tenant, *drain_limit).await;
        let id = id.clone();
        self.tasks.spawn("removal", async move {
            ended.await;
            info!(proxy = %id, "the last connection of a service that went has ended");
        });
    }
}

async fn ask(
    mut driver: Driver,
    (socket, subject): (Arc<Path>, Subject),
    questions: Questions,
    tasks: TaskTree,
) {
    subscribe(&mut driver, (&socket, &subject), questions, &tasks).await;
}

async fn take(mut driver: Driver, snapshots: watch::Receiver<Arc<ProxySnapshot>>, tasks: TaskTree) {
    driver.follow(snapshots, &tasks).await;
}

/// Waits until each of the first services serves, or cannot.
async fn settle(services: Vec<(InstanceId, Settling)>, patience: Duration) {
    let give_up_at = (clock::instant() + patience).into();
    for (id, settling) in services {
        match tokio::time::timeout_at(give_up_at, settling).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                warn!(proxy = %id, error = chain(&error), "a service is not served as it should be");
            }
            Ok(Err(_)) => info!(proxy = %id, "a service went before it was served"),
            Err(_) => warn!(proxy = %id, "the agent has no configuration for a service yet"),
        }
    }
}
