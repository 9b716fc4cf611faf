//! `weft.v1.Watch`: one stream per agent carries all that it watches.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::codec::Codec as _;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Request, Status, Streaming};
use tower::Service;
use tracing::debug;
use weft_core::index::Index;
use weft_core::limits;
use weft_core::name::ServiceName;
use weft_proto::framing;
use weft_proto::grpc::{Lean, v1 as wire};
use weft_runtime::rpc::messages;
use weft_runtime::task::TaskTree;

use super::caller;
use crate::presence::{Presences, Present};
use crate::watch::{Hub, Marks, Question, Step, Subscription, Version, Views};

/// How long an agent that has seen more than this server waits for it to catch up: an election,
/// and the entries since. After that another server is the better one.
pub(super) const CATCH_UP_LIMIT: Duration = Duration::from_secs(5);

/// Bytes of one request of a stream.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// The service. Not the generated one, whose streams each keep a copy of the longest event that
/// they ever sent.
#[derive(Clone)]
pub(super) struct WatchService {
    pub(super) hub: Arc<Hub>,
    pub(super) tasks: TaskTree,
    pub(super) views: Views,
    pub(super) catch_up_limit: Duration,
    pub(super) presences: Presences,
}

impl NamedService for WatchService {
    const NAME: &'static str = wire::watch_server::SERVICE_NAME;
}

impl Service<http::Request<Body>> for WatchService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        ready(Ok(match request.uri().path() {
            "/weft.v1.Watch/Watch" => {
                self.watch(request).unwrap_or_else(|status| status.into_http())
            }
            _ => Status::unimplemented("no such method").into_http(),
        }))
    }
}

impl WatchService {
    /// `Watch.Watch`
    fn watch(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let metadata = MetadataMap::from_headers(parts.headers);
        let caller = caller::member(&Request::from_parts(metadata, parts.extensions, ()))?;
        debug!(%caller, "watch stream opened");
        // The stream of a host's agent is the host's lease.
        let lease = caller::node(&caller).ok().map(|node| self.presences.enter(node));
        let decoder = Lean::<wire::WatchEvent, wire::WatchRequest>::default().decoder();
        let requests = Streaming::new_request(decoder, body, None, Some(REQUEST_BYTES_MAX));
        // An event is made when the connection has room for it: nothing is buffered for a reader
        // that is slow, and what changes meanwhile is one event in the end.
        let events = futures::stream::unfold(self.watcher(requests, lease), Watcher::next);
        let hub = self.hub.clone();
        Ok(messages(events.map(move |event| {
            // The agent follows the roots, so this is asked in the moment of its revocation.
            if hub.state().is_barred(&caller) {
                return Err(Status::permission_denied(format!("{caller} was revoked")));
            }
            framing::watch_event(event?).map_err(|error| Status::internal(error.to_string()))
        })))
    }

    fn watcher<R>(&self, requests: R, lease: Option<Present>) -> Watcher<R> {
        self.hub.metrics().streams.inc();
        Watcher {
            hub: self.hub.clone(),
            marks: self.views.marks(),
            watches: BTreeMap::new(),
            views: self.views.clone(),
            tasks: self.tasks.clone(),
            catch_up_limit: self.catch_up_limit,
            requests,
            is_over: false,
            _lease: lease,
        }
    }
}

/// One stream.
struct Watcher<R> {
    hub: Arc<Hub>,
    marks: Arc<Marks>,
    /// Boxed, as a node of the map has room for eleven.
    watches: BTreeMap<u64, Box<Watched>>,
    views: Views,
    tasks: TaskTree,
    catch_up_limit: Duration,
    requests: R,
    is_over: bool,
    _lease: Option<Present>,
}

struct Watched {
    subscription: Subscription,
    /// What the agent has.
    has: Has,
    /// The index that was told last, or that the agent knew.
    index: Index,
    takes_deltas: bool,
}

/// What an agent has of a value.
enum Has {
    Nothing,
    /// What it said it has, by its digest.
    Known(bytes::Bytes),
    /// A version of the view, by its number.
    Version(u64),
}

impl<R> Watcher<R>
where
    R: Stream<Item = Result<wire::WatchRequest, Status>> + Unpin,
{
    /// Waits for the next event; `None` at the end of the stream.
    async fn next(mut self) -> Option<(Result<wire::WatchEvent, Status>, Self)> {
        if self.is_over {
            return None;
        }
        let event = loop {
            let shown = tokio::select! {
                // tonic's stream keeps a half-read message across drops.
                request = self.requests.next() => match request {
                    Some(Ok(request)) => self.handle(request).await,
                    Some(Err(_)) | None => return None,
                },
                // A mark that was not returned stays in the marks.
                watch = self.marks.marked() => Ok(self.show(watch).await),
                // The agent looks for another server.
                () = self.tasks.cancelled() => {
                    Err(Status::unavailable("the server is shutting down"))
                }
            };
            if let Some(event) = shown.transpose() {
                break event;
            }
        };
        self.is_over = event.is_err();
        Some((event, self))
    }

    async fn handle(
        &mut self,
        request: wire::WatchRequest,
    ) -> Result<Option<wire::WatchEvent>, Status> {
        match request.request {
            Some(wire::watch_request::Request::Start(start)) => self.start(start).await,
            Some(wire::watch_request::Request::Stop(stop)) => {
                self.end(stop.id);
                Ok(None)
            }
            None => Err(Status::invalid_argument("an empty request")),
        }
    }

    async fn start(&mut self, start: wire::WatchStart) -> Result<Option<wire::WatchEvent>, Status> {
        let question = question(start.topic(), &start.key)?;
        self.end(start.id);
        if self.watches.len() >= limits::WATCHES_PER_AGENT_MAX {
            let reason = format!("more than {} watches", limits::WATCHES_PER_AGENT_MAX);
            return Err(Status::resource_exhausted(reason));
        }
        let index = Index(start.known_index);
        self.catch_up(index).await?;
        let has = match start.known_digest {
            digest if digest.is_empty() => Has::Nothing,
            digest => Has::Known(digest),
        };
        let subscription = self.views.subscribe(question, (&self.marks, start.id));
        let takes_deltas = start.takes_deltas;
        let watched = Box::new(Watched { subscription, has, index, takes_deltas });
        self.watches.insert(start.id, watched);
        self.hub.metrics().watches.inc();
        Ok(self.show(start.id).await)
    }

    /// Waits until this server has seen as much as the agent.
    async fn catch_up(&self, index: Index) -> Result<(), Status> {
        if self.hub.state().index() >= index {
            return Ok(());
        }
        // Boxed: a stream that says nothing holds no room for it.
        let reached = tokio::select! {
            reached = Box::pin(self.hub.reaches(index, self.catch_up_limit)) => reached,
            () = self.tasks.cancelled() => false,
        };
        if reached {
            return Ok(());
        }
        let own = self.hub.state().index();
        Err(Status::aborted(format!(
            "this server is at index {own}, behind {index}, which the agent has seen"
        )))
    }

    fn end(&mut self, watch: u64) {
        if self.watches.remove(&watch).is_some() {
            self.hub.metrics().watches.dec();
        }
    }

    /// Returns what there is to say of a watch; nothing when the agent has the value.
    async fn show(&mut self, id: u64) -> Option<wire::WatchEvent> {
        let watched = self.watches.get_mut(&id)?;
        let version = self.views.newest(&watched.subscription.view).await;
        let answer = watched.answer(&version, &self.hub);
        watched.has = Has::Version(version.number());
        let answer = answer?;
        let from_index = watched.index;
        watched.index = Index(from_index.max(version.index).shown());
        let answer = match answer {
            Told::Unchanged => wire::watch_event::Answer::Unchanged(wire::WatchUnchanged {}),
            Told::Problem(problem) => wire::watch_event::Answer::Problem(problem),
            Told::Delta(changed, removed) => {
                let from_index = from_index.0;
                wire::watch_event::Answer::Delta(wire::WatchDelta { from_index, changed, removed })
            }
            Told::Value => {
                let value = version.value(&self.tasks).await;
                self.hub.metrics().bytes.inc_by(value.len() as u64);
                wire::watch_event::Answer::Value(value)
            }
        };
        Some(wire::WatchEvent { id, index: watched.index.0, answer: Some(answer) })
    }
}

impl<R> Drop for Watcher<R> {
    fn drop(&mut self) {
        let watches = i64::try_from(self.watches.len()).unwrap_or(i64::MAX);
        self.hub.metrics().watches.dec_by(watches);
        self.hub.metrics().streams.dec();
    }
}

/// What an agent is told.
enum Told {
    Delta(bytes::Bytes, bytes::Bytes),
    Problem(String),
    Unchanged,
    Value,
}

impl Watched {
    /// Decides what to tell an agent of a version.
    fn answer(&self, version: &Version, hub: &Hub) -> Option<Told> {
        let view = &self.subscription.view;
        let metrics = hub.metrics();
        let (before, is_reminded) = match &self.has {
            Has::Version(number) if *number == version.number() => return None,
            Has::Version(number) => {
                metrics.skipped.inc_by((version.number() - number).saturating_sub(1));
                (view.version(*number), false)
            }
            Has::Known(digest) if self.takes_deltas => {
                (view.version_known(self.index, digest), true)
            }
            Has::Known(_) | Has::Nothing => (None, false),
        };
        if let Some(problem) = version.problem() {
            return Some(Told::Problem(problem.to_owned()));
        }
        let step = match &before {
            Some(before) if before.number() == version.number() => Step::Nothing,
            Some(before) => version.step_from(before),
            None => Step::Whole,
        };
        match step {
            Step::Nothing if is_reminded => {
                metrics.unchanged.inc();
                Some(Told::Unchanged)
            }
            Step::Nothing => None,
            Step::Delta { changed, removed } if self.takes_deltas => {
                metrics.deltas.inc();
                metrics.bytes.inc_by((changed.len() + removed.len()) as u64);
                Some(Told::Delta(changed, removed))
            }
            Step::Delta { .. } | Step::Whole => {
                metrics.values.inc();
                Some(Told::Value)
            }
        }
    }
}

fn question(topic: wire::Topic, key: &str) -> Result<Question, Status> {
    let name =
        || ServiceName::parse(key).map_err(|error| Status::invalid_argument(error.to_string()));
    Ok(match topic {
        wire::Topic::CapturedUpstreams => Question::CapturedUpstreams(name()?),
        wire::Topic::Chain => Question::Chain(name()?),
        wire::Topic::Connect => Question::Connect(name()?),
        wire::Topic::Intentions => Question::Intentions(name()?),
        wire::Topic::MeshTls => Question::MeshTls,
        wire::Topic::Nodes => Question::Nodes,
        wire::Topic::Roots => Question::Roots,
        wire::Topic::Service => Question::Service(name()?),
        wire::Topic::ServiceDefaults => Question::ServiceDefaults(name()?),
        wire::Topic::Unspecified => {
            return Err(Status::unimplemented("this server does not know the topic"));
        }
    })
}

#[cfg(test)]
mod tests;
