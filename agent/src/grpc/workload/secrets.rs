//! Envoy's secret discovery, state of the world: the same certificates and roots for the same
//! processes as SPIFFE's Workload API gives, under the names that Envoys ask for.
//!
//! What one stream has asked for and been told is `subscription`; what the secrets are, `message`.

mod message;
mod subscription;

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};
use tonic::{Request, Response, Status, Streaming};
use tracing::warn;
use weft_proto::grpc::secret::secret_discovery_service_server::SecretDiscoveryService;
use weft_proto::grpc::secret::{DiscoveryRequest, DiscoveryResponse};

use super::follow::{FIRST_LIMIT, Following, left};
use super::metrics::Outcome;
use super::{Door, Messages};
use subscription::{Due, Subscription};

const STREAM: &str = "stream_secrets";
const FETCH: &str = "fetch_secrets";

/// The door as Envoys see it; each call holds it.
pub(super) struct Shown(pub(super) Arc<Door>);

#[tonic::async_trait]
impl SecretDiscoveryService for Shown {
    type StreamSecretsStream = Messages<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let call = self.begin(STREAM, &request)?;
        let requests = request.into_inner();
        Ok(self.0.answer(STREAM, |sender| call.converse(requests, sender)))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let call = self.begin(FETCH, &request)?;
        let answer = tokio::select! {
            () = self.0.tasks.cancelled() => Err(Status::unavailable("the agent stops")),
            answer = Box::pin(call.once(request.into_inner())) => answer,
        };
        answer.map(Response::new)
    }
}

impl Shown {
    fn begin<R>(&self, call: &'static str, request: &Request<R>) -> Result<Call, Status> {
        let following = self.0.follow(call, request).inspect_err(|status| {
            self.0.metrics.fetched(call, Outcome::of(status));
        })?;
        let patience = Box::pin(sleep(FIRST_LIMIT));
        let subscription = Subscription::default();
        Ok(Call { door: self.0.clone(), call, following, subscription, patience, waits: true })
    }
}

/// One call of one process.
struct Call {
    door: Arc<Door>,
    call: &'static str,
    following: Following,
    subscription: Subscription,
    /// Until when what is not there yet is waited for, as long as it `waits`.
    patience: Pin<Box<Sleep>>,
    waits: bool,
}

impl Call {
    /// Tells and listens until there is a reason not to, which is returned.
    async fn converse(
        mut self,
        mut requests: Streaming<DiscoveryRequest>,
        sender: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    ) -> Status {
        loop {
            match self.due() {
                Ok(Due::New(_)) => {
                    let permit = sender.reserve().await;
                    // Between the waiting and the sending nothing may have been taken away.
                    match (permit, self.due()) {
                        (Ok(permit), Ok(Due::New(secrets))) => permit.send(Ok(self.tell(secrets))),
                        (Ok(_), Ok(Due::Nothing | Due::Told) | Err(_)) => continue,
                        (Err(_), _) => return left(),
                    }
                }
                Ok(Due::Nothing | Due::Told) => {}
                Err(status) => return status,
            }
            // Each branch may be dropped: all wait for levels, and a request that is not complete
            // stays in the stream.
            tokio::select! {
                () = sender.closed() => return left(),
                request = requests.message() => match request {
                    Ok(Some(request)) => if let Err(status) = self.hear(request) {
                        return status;
                    },
                    Ok(None) | Err(_) => return left(),
                },
                changed = self.following.changed() => if let Err(status) = changed {
                    return status;
                },
                () = &mut self.patience, if self.waits => self.waits = false,
            }
        }
    }

    /// Answers a single question.
    async fn once(mut self, request: DiscoveryRequest) -> Result<DiscoveryResponse, Status> {
        self.hear(request)?;
        loop {
            if let Due::New(secrets) = self.due()? {
                let answer = self.tell(secrets);
                // Nothing will be acknowledged.
                return Ok(DiscoveryResponse { nonce: String::new(), ..answer });
            }
            tokio::select! {
                changed = self.following.changed() => changed?,
                () = &mut self.patience, if self.waits => self.waits = false,
            }
        }
    }

    /// What is to be told now.
    fn due(&mut self) -> Result<Due, Status> {
        let known = self.following.look();
        let due = known.and_then(|known| self.subscription.due(&known, self.waits));
        let due = due.and_then(|due| match due {
            Due::Nothing if !self.waits && self.subscription.has_asked() => {
                Err(self.following.nothing())
            }
            Due::Nothing | Due::Told | Due::New(_) => Ok(due),
        });
        due.inspect_err(|status| self.failed(status))
    }

    fn tell(&mut self, secrets: message::Secrets) -> DiscoveryResponse {
        if !self.subscription.was_told() {
            self.door.metrics.fetched(self.call, Outcome::Served);
        }
        self.door.metrics.sent(self.call);
        self.waits = false;
        self.subscription.tell(secrets)
    }

    fn hear(&mut self, request: DiscoveryRequest) -> Result<(), Status> {
        let heard = self.subscription.hear(request);
        let heard = heard.inspect_err(|status| self.failed(status))?;
        if let Some(reason) = heard.rejection {
            let pid = self.following.pid();
            warn!(pid, reason, "an Envoy did not take its secrets");
            self.door.metrics.rejected();
        }
        if heard.asks_anew {
            self.waits = true;
            self.patience = Box::pin(sleep(FIRST_LIMIT));
        }
        Ok(())
    }

    fn failed(&self, status: &Status) {
        if !self.subscription.was_told() {
            self.door.metrics.fetched(self.call, Outcome::of(status));
        }
    }
}

#[cfg(test)]
mod tests;
