//! Calls to servers, each with a deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use weft_core::limits;
use weft_core::name::ServiceName;
use weft_core::time::Timestamp;
use weft_proto::grpc::v1::ca_client::CaClient;
use weft_proto::grpc::v1::watch_client::WatchClient;
use weft_proto::grpc::v1::{SignLeafRequest, WatchEvent, WatchRequest};

/// How long a server may take to accept a stream.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// How long a server may take to sign: it waits for its turn up to a second.
const SIGN_LIMIT: Duration = Duration::from_secs(10);
/// Watch requests on their way; when full, further ones wait where they come from.
const REQUESTS_IN_FLIGHT: usize = 64;

/// What ends a stream that moves.
const MOVED: &str = "moving to another server";

/// The way to the servers; clones share it.
#[derive(Clone)]
pub struct Calls {
    channel: Arc<dyn Fn() -> Channel + Send + Sync>,
    move_on: Arc<dyn Fn() + Send + Sync>,
    moves: Option<watch::Receiver<u64>>,
}

/// States that a server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{doing} failed: {}", status.message())]
pub struct CallError {
    doing: &'static str,
    #[source]
    status: Box<Status>,
}

impl CallError {
    fn new(doing: &'static str, status: Status) -> Self {
        Self { doing, status: Box::new(status) }
    }

    /// Ends a stream that is to begin anew.
    pub(crate) fn begin_anew() -> Self {
        Self::new("watching", Status::cancelled("servers know less than this agent; starting over"))
    }

    /// Ends a stream that is to be opened anew at another server.
    pub(crate) fn moved_away() -> Self {
        Self::new("watching", Status::failed_precondition(MOVED))
    }

    /// Whether the stream was ended to be opened anew at another server.
    pub(crate) fn is_of_move(&self) -> bool {
        self.status.code() == Code::FailedPrecondition && self.status.message() == MOVED
    }

    /// Whether the server has too much to do at the moment.
    pub(crate) fn is_of_busy_server(&self) -> bool {
        self.status.code() == Code::ResourceExhausted
    }

    /// Whether the server said that it knows less than this agent.
    pub(crate) fn is_of_late_server(&self) -> bool {
        self.status.code() == Code::Aborted
    }
}

/// The way in of a watch stream.
pub(crate) type WatchRequests = mpsc::Sender<WatchRequest>;

/// The way out of a watch stream.
pub(crate) struct WatchEvents {
    stream: Streaming<WatchEvent>,
}

/// A certificate as a server signed it.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) certificate_pem: String,
    pub(crate) valid_after: Timestamp,
    pub(crate) valid_before: Timestamp,
}

impl Calls {
    /// Calls over what `channel` returns: the channel to the current server.
    pub fn new(channel: impl Fn() -> Channel + Send + Sync + 'static) -> Self {
        Self { channel: Arc::new(channel), move_on: Arc::new(|| ()), moves: None }
    }

    /// Has `move_on` called when another server is to be tried.
    #[must_use]
    pub fn or_else(self, move_on: impl Fn() + Send + Sync + 'static) -> Self {
        Self { move_on: Arc::new(move_on), ..self }
    }

    /// Has streams opened anew whenever `moves` changes.
    #[must_use]
    pub fn moving_with(self, moves: watch::Receiver<u64>) -> Self {
        Self { moves: Some(moves), ..self }
    }

    /// Waits until streams that are open now are to be opened anew; for ever where that never
    /// happens. To be called before they are opened, and awaited after.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(crate) fn moved(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut moves = self.moves.clone();
        if let Some(moves) = &mut moves {
            moves.mark_unchanged();
        }
        async move {
            let has_moved = match &mut moves {
                Some(moves) => moves.changed().await.is_ok(),
                None => false,
            };
            if !has_moved {
                std::future::pending().await
            }
        }
    }

    /// Has the next call go to another server, if there is one.
    pub(crate) fn move_on(&self) {
        (self.move_on)();
    }

    /// Opens a watch stream.
    pub(crate) async fn watch(&self) -> Result<(WatchRequests, WatchEvents), CallError> {
        const DOING: &str = "opening the watch stream";
        let mut client =
            WatchClient::new((self.channel)()).max_decoding_message_size(limits::VIEW_BYTES_MAX);
        let (sender, receiver) = mpsc::channel(REQUESTS_IN_FLIGHT);
        let opening = client.watch(ReceiverStream::new(receiver));
        let response = within(OPEN_LIMIT, opening).await.map_err(|s| CallError::new(DOING, s))?;
        Ok((sender, WatchEvents { stream: response.into_inner() }))
    }

    /// Has a certificate for a local service signed.
    pub(crate) async fn sign_leaf(
        &self,
        service: &ServiceName,
        csr_der: Vec<u8>,
    ) -> Result<Signed, CallError> {
        let mut client = CaClient::new((self.channel)());
        let request =
            SignLeafRequest { service: service.as_str().to_owned(), csr_der: csr_der.into() };
        let reply = within(SIGN_LIMIT, client.sign_leaf(request))
            .await
            .map_err(|status| CallError::new("signing a certificate", status))?
            .into_inner();
        Ok(Signed {
            certificate_pem: reply.certificate_pem,
            valid_after: Timestamp(reply.valid_after_ms),
            valid_before: Timestamp(reply.valid_before_ms),
        })
    }
}

impl WatchEvents {
    /// Waits for the next event; an end of the stream is an error, too.
    ///
    /// # Cancel safety
    /// May be dropped at any time: what is not complete stays in the stream.
    pub(crate) async fn next(&mut self) -> Result<WatchEvent, CallError> {
        const DOING: &str = "watching";
        match self.stream.message().await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => {
                Err(CallError::new(DOING, Status::unavailable("the server ended the stream")))
            }
            Err(status) => Err(CallError::new(DOING, status)),
        }
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Status::deadline_exceeded("the server does not answer")),
    }
}
