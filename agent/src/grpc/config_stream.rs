//! The door for the proxies of this host: a unix socket on which each says who it is and gets
//! its newest configuration.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{error, info, warn};
use weft_core::attestation::Processes;
use weft_core::limits;
use weft_core::name::{InstanceId, ServiceName};
use weft_core::time::Timestamp;
use weft_core::traffic::tap::TapEvent;
use weft_proto::envelope;
use weft_proto::grpc::v1::proxy_control_server::{ProxyControl, ProxyControlServer};
use weft_proto::grpc::v1::proxy_request::Request as Said;
use weft_proto::grpc::v1::{
    HostHello, HostedProxies, ProxyAck, ProxyConfiguration, ProxyHello, ProxyPlaintext,
    ProxyRequest, ProxyTap, ProxyWishes, SeenByTap,
};
use weft_runtime::net;
use weft_runtime::task::TaskTree;

use super::proxy_callers::{Callers, ProxyPeer, incoming};
use crate::proxycfg::{Connected, Plaintext, PlaintextFrom, Program, Proxies, Proxy, TapWish};

/// Processes of the agent's user and group may configure themselves here; keys pass through.
const SOCKET_MODE: u32 = 0o660;
/// How long a proxy may take to say who it is.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// Configurations on their way to one proxy: one, as only the newest matters. While it is being
/// read, the next one waits where the newest always is.
const CONFIGURATIONS_IN_FLIGHT: usize = 1;

/// Listeners of one proxy of which it is shown that they are missing: more need no further ones to be
/// looked into.
const MISSING_LISTENERS_MAX: usize = 16;
/// Characters of one reason of a proxy: some lines.
const REASON_CHARS_MAX: usize = 1_024;
/// Characters of a program's version.
const VERSION_CHARS_MAX: usize = 64;

/// States that the socket for proxies cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the socket for proxies {path:?} cannot be opened")]
pub struct ProxyDoorError {
    path: String,
    #[source]
    source: io::Error,
}

/// Opens the door, also for a host proxy if some processes may be it; it closes when the tasks are cancelled, and takes its socket file along.
///
/// # Errors
/// [`ProxyDoorError`] when the socket cannot be bound.
pub fn serve_proxies(
    path: &Path,
    (proxies, host_proxy): (Proxies, Option<Processes>),
    tasks: &TaskTree,
) -> Result<(), ProxyDoorError> {
    let fail = |source| ProxyDoorError { path: path.display().to_string(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    let listener = net::bind_unix(path, SOCKET_MODE).map_err(fail)?;
    let tasks = tasks.child("proxy-door");
    let callers = Callers::new(host_proxy);
    let door = ProxyControlServer::new(Door { proxies, callers, tasks: tasks.clone() })
        .max_decoding_message_size(limits::API_BODY_BYTES_MAX);
    let path = path.to_owned();
    let token = tasks.token();
    tasks.spawn("serve", async move {
        let served = tonic::transport::Server::builder()
            .add_service(door)
            .serve_with_incoming_shutdown(incoming(listener), token.cancelled_owned())
            .await;
        if let Err(failure) = served {
            error!(error = %failure, "the door for proxies failed");
        }
        // A file that is gone already is no fault.
        let _ = std::fs::remove_file(path);
    });
    Ok(())
}

struct Door {
    proxies: Proxies,
    callers: Arc<Callers>,
    tasks: TaskTree,
}

type Configurations = mpsc::Sender<Result<ProxyConfiguration, Status>>;

#[tonic::async_trait]
impl ProxyControl for Door {
    type ConfigureStream =
        Pin<Box<dyn Stream<Item = Result<ProxyConfiguration, Status>> + Send + 'static>>;

    async fn configure(
        &self,
        request: Request<Streaming<ProxyRequest>>,
    ) -> Result<Response<Self::ConfigureStream>, Status> {
        let peer = request.extensions().get::<ProxyPeer>().cloned();
        let mut requests = request.into_inner();
        let hello = hello(&mut requests).await?;
        let proxy = find(&self.proxies, &hello)?;
        let is_hosted = hello.is_hosted;
        let takes = match hello.takes_wishes {
            true => Takes::Wishes,
            false => Takes::Configurations,
        };
        let claim = self.callers.claim(peer.as_ref(), (&proxy.id, is_hosted));
        let claim = claim.inspect_err(|refusal| {
            warn!(proxy = %proxy.id, reason = refusal.message(), "a process may not be a proxy");
        })?;
        info!(proxy = %proxy.id, program = hello.weft_version, is_hosted, "a proxy connected");
        let connected = proxy.clone().connect(Program {
            version: hello.weft_version.chars().take(VERSION_CHARS_MAX).collect(),
            pid: peer.as_ref().and_then(ProxyPeer::pid),
            is_hosted,
            generation: hello.generation,
        });
        let (sender, receiver) = mpsc::channel(CONFIGURATIONS_IN_FLIGHT);
        let name = format!("proxy/{}", proxy.id);
        let (proxies, tasks) = (self.proxies.clone(), self.tasks.clone());
        self.tasks.spawn(name, async move {
            let _claim = claim;
            tokio::select! {
                () = tasks.cancelled() => {}
                status = converse((&proxies, &proxy), &connected, requests, (&sender, takes)) => {
                    if let Some(status) = status {
                        // A proxy that has left needs no reason.
                        let _ = sender.try_send(Err(status));
                    }
                    info!(proxy = %proxy.id, "a proxy disconnected");
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type HostStream = Pin<Box<dyn Stream<Item = Result<HostedProxies, Status>> + Send + 'static>>;

    async fn host(
        &self,
        request: Request<HostHello>,
    ) -> Result<Response<Self::HostStream>, Status> {
        let peer = request.extensions().get::<ProxyPeer>().cloned();
        self.callers.check_host(peer.as_ref()).inspect_err(|refusal| {
            warn!(reason = refusal.message(), "a process may not be the host proxy");
        })?;
        info!(program = request.get_ref().weft_version, "a host proxy connected");
        let (sender, receiver) = mpsc::channel(CONFIGURATIONS_IN_FLIGHT);
        let (proxies, tasks) = (self.proxies.clone(), self.tasks.clone());
        self.tasks.spawn("host-proxy", async move {
            tokio::select! {
                () = tasks.cancelled() => {}
                () = list(&proxies, &sender) => info!("a host proxy disconnected"),
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Says whom a host proxy serves, now and whenever that changes, until it leaves.
async fn list(proxies: &Proxies, sender: &mpsc::Sender<Result<HostedProxies, Status>>) {
    let mut changes = proxies.changes();
    let mut told = None;
    loop {
        changes.mark_unchanged();
        let newest = proxies.hosted();
        if told.as_ref() != Some(&newest) {
            let proxy_ids = newest.iter().map(InstanceId::to_string).collect();
            if sender.send(Ok(HostedProxies { proxy_ids })).await.is_err() {
                return;
            }
            told = Some(newest);
        }
        tokio::select! {
            // Both only wait.
            changed = changes.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

async fn hello(requests: &mut Streaming<ProxyRequest>) -> Result<ProxyHello, Status> {
    let first = tokio::time::timeout(HELLO_LIMIT, requests.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the proxy did not say who it is"))??;
    match first.and_then(|request| request.request) {
        Some(Said::Hello(hello)) => Ok(hello),
        Some(
            Said::Ack(_)
            | Said::KeysWanted(_)
            | Said::Plaintext(_)
            | Said::Seen(_)
            | Said::Flows(_),
        )
        | None => Err(Status::invalid_argument("a proxy first says who it is")),
    }
}

fn find(proxies: &Proxies, hello: &ProxyHello) -> Result<Arc<Proxy>, Status> {
    let ProxyHello { sidecar_for, proxy_id, .. } = hello;
    match (sidecar_for.as_str(), proxy_id.as_str()) {
        ("", "") => Err(Status::invalid_argument("sidecar_for and proxy_id are both empty")),
        ("", id) => proxies.by_id(id).ok_or_else(|| {
            Status::not_found(format!(
                "no proxy with the id {id:?} is registered at this agent; register it with \
                 PUT /v1/agent/service/register and Kind connect-proxy"
            ))
        }),
        (instance, _) => proxies.sidecar_of(instance).ok_or_else(|| {
            Status::not_found(format!(
                "no sidecar for the service instance {instance:?} is registered at this agent; \
                 register the service with PUT /v1/agent/service/register and \
                 \"Connect\": {{\"SidecarService\": {{}}}}"
            ))
        }),
    }
}

/// What a proxy can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Nothing else: it is older than wishes.
    Configurations,
    Wishes,
}

/// Sends configurations and takes acknowledgements until one side ends; returns the status to
/// end with, `None` when the proxy left.
async fn converse(
    (proxies, proxy): (&Proxies, &Proxy),
    connected: &Connected,
    mut requests: Streaming<ProxyRequest>,
    (sender, takes): (&Configurations, Takes),
) -> Option<Status> {
    let (mut snapshot, mut watchers) = (proxy.snapshot(), proxies.taps().changes());
    snapshot.mark_changed();
    watchers.mark_changed();
    let mut told = ProxyWishes::default();
    loop {
        // Dropping a permit gives it back; a message that is not complete stays in the stream.
        // While the last configuration is being read there is no permit: changes pile up in
        // `snapshot`, which holds only the newest.
        tokio::select! {
            () = proxy.gone() => {
                return Some(Status::not_found(format!(
                    "the proxy {:?} is no longer registered at this agent",
                    proxy.id.as_str()
                )));
            }
            permit = ready(sender, &mut snapshot) => {
                let newest = snapshot.borrow_and_update().clone();
                if let Some(newest) = newest {
                    let version = newest.version;
                    let snapshot = envelope::encode(&*newest);
                    permit?.send(Ok(ProxyConfiguration { version, snapshot, wishes: None }));
                }
            }
            permit = ready(sender, &mut watchers), if takes == Takes::Wishes => {
                watchers.mark_unchanged();
                let newest = wishes(proxies, proxy);
                if newest != told {
                    told.clone_from(&newest);
                    let wishes = Some(newest);
                    permit?.send(Ok(ProxyConfiguration { wishes, ..Default::default() }));
                }
            }
            request = requests.message() => match request {
                Ok(Some(ProxyRequest { request: Some(said) })) => {
                    if let Err(status) = hear((proxies, proxy), connected, said) {
                        return Some(status);
                    }
                }
                Ok(Some(ProxyRequest { request: None })) => {
                    return Some(Status::invalid_argument("a request of a proxy says something"));
                }
                Ok(None) | Err(_) => return None,
            },
        }
    }
}

/// Takes what a proxy says.
///
/// # Errors
/// The status to end with.
fn hear(
    (proxies, proxy): (&Proxies, &Proxy),
    connected: &Connected,
    said: Said,
) -> Result<(), Status> {
    match said {
        Said::Ack(ack) => note(proxy, connected, ack),
        Said::Hello(_) => {
            return Err(Status::invalid_argument("a proxy says who it is only once"));
        }
        Said::KeysWanted(wanted) => {
            // A name that is none is nobody's.
            if let Ok(provider) = ServiceName::parse(&wanted.provider) {
                proxies.want_keys(&provider);
            }
        }
        Said::Plaintext(report) => connected.told(plaintext(report)),
        Said::Flows(told) => {
            // What is not readable is as good as not told.
            if let Ok(flows) = envelope::decode(&told.flows) {
                proxies.flows().deliver(&proxy.id, flows);
            }
        }
        Said::Seen(seen) => {
            let Some(service) = proxies.service_of(&proxy.id) else { return Ok(()) };
            for SeenByTap { id, events, missed } in seen.taps {
                // One that is not readable is one that is missed.
                let count = events.len();
                let events: Vec<TapEvent> =
                    events.iter().filter_map(|it| envelope::decode(it).ok()).collect();
                let unread = (count - events.len()) as u64;
                proxies.taps().deliver((id, &service), events, missed.saturating_add(unread));
            }
        }
    }
    Ok(())
}

/// Says who wants to see something of a proxy's service.
fn wishes(proxies: &Proxies, proxy: &Proxy) -> ProxyWishes {
    let Some(service) = proxies.service_of(&proxy.id) else { return ProxyWishes::default() };
    let tap = |(id, wish): (u64, TapWish)| {
        let filter = envelope::encode(&wish.filter);
        ProxyTap { id, filter, rate: wish.rate }
    };
    let taps = proxies.taps().of(&service).into_iter().map(tap).collect();
    ProxyWishes { taps, flows: proxies.flows().is_followed() }
}

/// Takes a proxy's word for who came without mutual TLS, as much of it as one may say.
fn plaintext(report: ProxyPlaintext) -> Plaintext {
    let sources = report.sources.into_iter().take(limits::PLAINTEXT_SOURCES_MAX);
    let sources = sources.map(|it| PlaintextFrom {
        source: it.source.chars().take(64).collect(),
        connections: it.connections,
        last: Timestamp(it.last_ms),
    });
    Plaintext { since: Timestamp(report.since_ms), sources: sources.collect() }
}

/// Waits until there is something new and room for it; `None` when the proxy left.
async fn ready<'a, T>(
    sender: &'a Configurations,
    snapshot: &mut tokio::sync::watch::Receiver<T>,
) -> Option<mpsc::Permit<'a, Result<ProxyConfiguration, Status>>> {
    snapshot.changed().await.ok()?;
    // Seen again if this is dropped while waiting for room.
    snapshot.mark_changed();
    sender.reserve().await.ok()
}

fn note(proxy: &Proxy, connected: &Connected, ack: ProxyAck) {
    let ProxyAck { version, refusal, missing_listeners: missing } = ack;
    let missing = missing.into_iter().take(MISSING_LISTENERS_MAX);
    let missing: Vec<String> =
        missing.map(|it| it.chars().take(REASON_CHARS_MAX).collect()).collect();
    if refusal.is_empty() {
        info!(proxy = %proxy.id, version, missing = missing.join("; "), "a configuration is in force");
        connected.acknowledged((version, missing));
    } else {
        warn!(proxy = %proxy.id, version, reason = refusal, "a proxy refused its configuration");
        connected.refused(version, refusal.chars().take(REASON_CHARS_MAX).collect());
    }
}

#[cfg(test)]
mod tests;
