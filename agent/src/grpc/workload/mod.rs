//! SPIFFE's Workload API and Envoy's secret discovery: a unix socket on which processes of this
//! host get the certificates of the services for which they speak.
//!
//! Who is at the other end says the kernel, not the caller; what that comes to is decided by
//! `core::attestation`, anew for each message.

mod follow;
mod incoming;
mod message;
mod metrics;
mod secrets;

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::{error, info};
use weft_core::attestation::{Entry, services};
use weft_core::name::ServiceName;
use weft_proto::grpc::secret::secret_discovery_service_server::SecretDiscoveryServiceServer;
use weft_proto::grpc::workload::spiffe_workload_api_server::{
    SpiffeWorkloadApi, SpiffeWorkloadApiServer,
};
use weft_proto::grpc::workload::{
    X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use weft_runtime::net::{self, PeerError, PeerProcess};
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::metrics::Registry;

use super::attested::{Unattested, attest};
use crate::config::WorkloadApiConfig;
use crate::leaf::Leaves;
use crate::local::{Local, LocalServices};
use crate::servers::{Membership, reason};
use crate::views::Views;
use follow::Following;
use message::Told;
use metrics::{Outcome, WorkloadMetrics};

/// Every process may connect: who gets what, the entries say.
const SOCKET_MODE: u32 = 0o666;
/// What every call of the Workload API must carry, so that a program that can be led to call any
/// address cannot be led here. Envoy's calls do without.
///
/// **Source**: Spec: SPIFFE Workload Endpoint §3.
const SECURITY_HEADER: &str = "workload.spiffe.io";
/// Calls at once on one connection: Envoy makes one for each secret. When it needs more, it opens
/// another connection.
const CALLS_PER_CONNECTION_MAX: u32 = 32;
/// Bytes of a request: the known ones are empty.
const REQUEST_BYTES_MAX: usize = 1_024;
/// Bytes of a call's headers.
const HEADERS_BYTES_MAX: u32 = 16 << 10;
/// Bytes of a request of Envoy: the first of each stream tells all about the node, with the names
/// of some hundred extensions and with what its operator wrote there.
const NODE_BYTES_MAX: usize = 256 << 10;
/// Messages on their way to one caller: one, as each holds all there is. While it is being read,
/// the next one is made of what is newest then.
const MESSAGES_IN_FLIGHT: usize = 1;

/// States that the socket of the Workload API cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the socket of the Workload API {path:?} cannot be opened")]
pub struct WorkloadDoorError {
    path: String,
    #[source]
    source: io::Error,
}

/// What is given out, and on whose account.
#[derive(Clone)]
pub struct WorkloadSources {
    /// The services of this host.
    pub local: Local,
    /// Their certificates.
    pub leaves: Leaves,
    /// Whom to trust.
    pub views: Views,
    /// Of which mesh this host is.
    pub membership: Arc<Membership>,
}

/// Opens the door; it closes when the tasks are cancelled, and takes its socket file along.
///
/// # Errors
/// [`WorkloadDoorError`] when the socket cannot be bound.
pub fn serve_workloads(
    config: &WorkloadApiConfig,
    sources: WorkloadSources,
    (registry, tasks): (&Registry, &TaskTree),
) -> Result<(), WorkloadDoorError> {
    let path = config.socket.clone();
    let fail = |source| WorkloadDoorError { path: path.display().to_string(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    let listener = net::bind_unix(&path, SOCKET_MODE).map_err(fail)?;
    let tasks = tasks.isolated("workload-api");
    let metrics = WorkloadMetrics::register(registry);
    let incoming = incoming::incoming(listener, metrics.clone());
    let registered = watch_registered(&sources.local, &config.entries, &tasks);
    let entries = config.entries.clone();
    let door = Arc::new(Door { entries, registered, sources, metrics, tasks: tasks.clone() });
    let secrets = SecretDiscoveryServiceServer::new(secrets::Shown(door.clone()))
        .max_decoding_message_size(NODE_BYTES_MAX);
    let service =
        SpiffeWorkloadApiServer::new(Shown(door)).max_decoding_message_size(REQUEST_BYTES_MAX);
    let token = tasks.token();
    tasks.spawn("serve", async move {
        let served = tonic::transport::Server::builder()
            .max_concurrent_streams(Some(CALLS_PER_CONNECTION_MAX))
            .http2_max_header_list_size(Some(HEADERS_BYTES_MAX))
            .add_service(service)
            .add_service(secrets)
            .serve_with_incoming_shutdown(incoming, token.cancelled_owned())
            .await;
        if let Err(failure) = served {
            error!(error = %failure, "the door of the Workload API failed");
        }
        // A file that is gone already is no fault.
        let _ = std::fs::remove_file(path);
    });
    Ok(())
}

/// Follows which of the services in entries are registered here: checks change far more often.
fn watch_registered(
    local: &Local,
    entries: &[Entry],
    tasks: &TaskTree,
) -> watch::Receiver<BTreeSet<ServiceName>> {
    let wanted: BTreeSet<ServiceName> = entries.iter().map(|it| it.service().clone()).collect();
    let find = move |local: &LocalServices| -> BTreeSet<ServiceName> {
        let names = local.services.values().map(|service| &service.name);
        names.filter(|name| wanted.contains(*name)).cloned().collect()
    };
    let mut newest = local.subscribe();
    let (sender, registered) = watch::channel(find(&newest.borrow_and_update()));
    let token = tasks.token();
    tasks.spawn("registered", async move {
        loop {
            // Both may be dropped at any time.
            tokio::select! {
                () = token.cancelled() => return,
                changed = newest.changed() => if changed.is_err() { return },
            }
            let found = find(&newest.borrow_and_update());
            sender.send_if_modified(|known| {
                let is_new = *known != found;
                *known = found;
                is_new
            });
        }
    });
    registered
}

struct Door {
    entries: Vec<Entry>,
    /// Those of the entries' services that are registered on this host.
    registered: watch::Receiver<BTreeSet<ServiceName>>,
    sources: WorkloadSources,
    metrics: WorkloadMetrics,
    tasks: TaskTree,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

impl Door {
    /// Returns the services for which the process speaks, by what it is now.
    fn attest(&self, peer: &PeerProcess) -> Result<Vec<ServiceName>, Status> {
        let caller = attest(peer).map_err(|error| match error {
            Unattested::Peer(PeerError::Ended { .. }) => {
                Status::permission_denied(error.to_string())
            }
            Unattested::Peer(PeerError::Hidden | PeerError::System(_))
            | Unattested::Cgroup { .. } => Status::unavailable(reason(&error)),
        })?;
        let found = services(&self.entries, &caller);
        if found.is_empty() {
            info!(%caller, "a process asked for certificates and matches no entry");
            return Err(Status::permission_denied(format!(
                "no entry of this agent's workload_api matches this process: {caller}"
            )));
        }
        Ok(found)
    }

    /// Answers a call of the Workload API: refuses it, or begins to tell and goes on whenever
    /// something changes.
    fn tell<T: Told, R>(
        self: &Arc<Self>,
        request: &Request<R>,
    ) -> Result<Response<Messages<T>>, Status> {
        let following = marked(request).and_then(|()| self.follow(T::CALL, request));
        let following = following.inspect_err(|status| {
            self.metrics.fetched(T::CALL, Outcome::of(status));
        })?;
        Ok(self.answer(T::CALL, |sender| async move { following.run::<T>(&sender).await }))
    }

    /// Begins to follow what the process that makes a call is to be told.
    fn follow<R>(
        self: &Arc<Self>,
        call: &'static str,
        request: &Request<R>,
    ) -> Result<Following, Status> {
        let peer = request.extensions().get::<Arc<PeerProcess>>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the connection has no process"))?;
        let services = self.attest(&peer)?;
        let shown: Vec<&str> = services.iter().map(ServiceName::as_str).collect();
        info!(call, pid = peer.pid(), services = shown.join(","), "a workload asks");
        Ok(Following::new(self.clone(), peer))
    }

    /// Gives the caller what `run` sends, and last of all why that has ended.
    fn answer<T, F>(
        &self,
        call: &'static str,
        run: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F,
    ) -> Response<Messages<T>>
    where
        T: Send + 'static,
        F: Future<Output = Status> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(MESSAGES_IN_FLIGHT);
        let (tasks, running) = (self.tasks.clone(), Box::pin(run(sender.clone())));
        self.tasks.spawn(call, async move {
            let status = tokio::select! {
                () = tasks.cancelled() => Status::unavailable("the agent stops"),
                status = running => status,
            };
            // One who has left, or has no room, needs no reason.
            let _ = sender.try_send(Err(status));
        });
        Response::new(Box::pin(ReceiverStream::new(receiver)))
    }
}

/// Checks that a call is one of a SPIFFE library.
fn marked<R>(request: &Request<R>) -> Result<(), Status> {
    let header = request.metadata().get(SECURITY_HEADER);
    if header.is_none_or(|value| value != "true") {
        let reason = format!("the header {SECURITY_HEADER}: true is missing");
        return Err(Status::invalid_argument(reason));
    }
    Ok(())
}

/// The door as callers see it; each call holds it.
struct Shown(Arc<Door>);

#[tonic::async_trait]
impl SpiffeWorkloadApi for Shown {
    type FetchX509SVIDStream = Messages<X509svidResponse>;
    type FetchX509BundlesStream = Messages<X509BundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.0.tell(&request)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.0.tell(&request)
    }
}

#[cfg(test)]
mod tests;
