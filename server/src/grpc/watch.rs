//! `weft.v1.Watch`: one stream per agent carries all that it watches.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;
use weft_core::limits;
use weft_core::name::ServiceName;
use weft_proto::grpc::v1 as wire;
use weft_runtime::task::TaskTree;

use super::caller;
use crate::watch::{Hub, Mailbox, Question, Views};

/// Events on their way to one agent. When full: the stream's task waits, and changes of the
/// same value in the meantime become one.
const EVENTS_AHEAD: usize = 64;

pub(super) struct WatchService {
    pub(super) hub: Arc<Hub>,
    pub(super) tasks: TaskTree,
    pub(super) views: Arc<Views>,
}

type Events = Pin<Box<dyn Stream<Item = Result<wire::WatchEvent, Status>> + Send>>;

#[tonic::async_trait]
impl wire::watch_server::Watch for WatchService {
    type WatchStream = Events;

    async fn watch(
        &self,
        request: Request<Streaming<wire::WatchRequest>>,
    ) -> Result<Response<Events>, Status> {
        let caller = caller::member(&request)?;
        let (events, stream) = mpsc::channel(EVENTS_AHEAD);
        let watcher = Watcher {
            hub: self.hub.clone(),
            mailbox: self.hub.mailbox(),
            watches: BTreeMap::new(),
            events,
            views: self.views.clone(),
            tasks: self.tasks.clone(),
        };
        let requests = request.into_inner();
        self.tasks.spawn(format!("watches of {caller}"), async move {
            watcher.run(requests).await;
            debug!(%caller, "watch stream ended");
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// One stream.
struct Watcher {
    hub: Arc<Hub>,
    mailbox: Mailbox,
    watches: BTreeMap<u64, Watched>,
    events: mpsc::Sender<Result<wire::WatchEvent, Status>>,
    views: Arc<Views>,
    tasks: TaskTree,
}

struct Watched {
    question: Question,
    /// The digest of what was last sent.
    sent: Option<[u8; 32]>,
}

impl Watcher {
    async fn run(mut self, mut requests: Streaming<wire::WatchRequest>) {
        loop {
            let outcome = tokio::select! {
                // tonic's stream keeps a half-read message across drops.
                request = requests.message() => match request {
                    Ok(Some(request)) => self.handle(request).await,
                    Ok(None) | Err(_) => return,
                },
                // A mark that was not returned stays in the mailbox.
                watch = self.mailbox.marked() => self.show(watch).await,
                () = self.events.closed() => return,
                () = self.tasks.cancelled() => {
                    let bye = Status::unavailable("the server is shutting down");
                    // The agent looks for another server either way.
                    let _ = self.events.try_send(Err(bye));
                    return;
                }
            };
            if let Err(status) = outcome {
                let _ = self.events.try_send(Err(status));
                return;
            }
        }
    }

    async fn handle(&mut self, request: wire::WatchRequest) -> Result<(), Status> {
        match request.request {
            Some(wire::watch_request::Request::Start(start)) => {
                if self.mailbox.len() >= limits::WATCHES_PER_AGENT_MAX {
                    let reason = format!("more than {} watches", limits::WATCHES_PER_AGENT_MAX);
                    return Err(Status::resource_exhausted(reason));
                }
                let question = question(start.topic(), &start.key)?;
                self.watches.insert(start.id, Watched { question, sent: None });
                self.show(start.id).await
            }
            Some(wire::watch_request::Request::Stop(stop)) => {
                self.watches.remove(&stop.id);
                self.mailbox.forget(stop.id);
                Ok(())
            }
            None => Err(Status::invalid_argument("an empty request")),
        }
    }

    /// Sends what a watch sees now, when it is not what was sent last.
    async fn show(&mut self, id: u64) -> Result<(), Status> {
        let Some(watched) = self.watches.get_mut(&id) else { return Ok(()) };
        let (index, seen) = loop {
            let state = self.hub.state();
            let seen = self.views.look(&watched.question, &state);
            if self.mailbox.follows(id, &seen.topics) {
                break (state.index(), seen);
            }
            // Other topics than before: what changed until they were followed is seen by
            // looking once more.
            self.mailbox.follow(id, seen.topics.clone());
        };
        let print = fingerprint(&seen.answer);
        if watched.sent == Some(print) {
            return Ok(());
        }
        watched.sent = Some(print);
        let answer = match &seen.answer {
            Ok(value) => wire::watch_event::Answer::Value(value.clone()),
            Err(problem) => wire::watch_event::Answer::Problem(problem.clone()),
        };
        let event = wire::WatchEvent { id, index: index.shown(), answer: Some(answer) };
        tokio::select! {
            // An event that was not sent is not missed: both other ways end the stream. A
            // reader that is gone is noticed by the loop.
            _ = self.events.send(Ok(event)) => Ok(()),
            () = self.tasks.cancelled() => Err(Status::unavailable("the server is shutting down")),
        }
    }
}

/// Two answers with the same digest are the same: SHA-256 has no known collisions.
fn fingerprint(answer: &Result<bytes::Bytes, String>) -> [u8; 32] {
    let print = match answer {
        Ok(value) => digest(&SHA256, value),
        Err(problem) => digest(&SHA256, problem.as_bytes()),
    };
    let mut bytes = [0; 32];
    bytes.copy_from_slice(print.as_ref());
    bytes
}

fn question(topic: wire::Topic, key: &str) -> Result<Question, Status> {
    let name =
        || ServiceName::parse(key).map_err(|error| Status::invalid_argument(error.to_string()));
    Ok(match topic {
        wire::Topic::Chain => Question::Chain(name()?),
        wire::Topic::Connect => Question::Connect(name()?),
        wire::Topic::Intentions => Question::Intentions(name()?),
        wire::Topic::Nodes => Question::Nodes,
        wire::Topic::Roots => Question::Roots,
        wire::Topic::Service => Question::Service(name()?),
        wire::Topic::ServiceDefaults => Question::ServiceDefaults(name()?),
        wire::Topic::Unspecified => {
            return Err(Status::unimplemented("this server does not know the topic"));
        }
    })
}
