//! The one stream over which servers keep views current. It starts over after each loss.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};
use weft_core::limits;
use weft_proto::grpc::v1::watch_client::WatchClient;
use weft_proto::grpc::v1::{WatchEvent, WatchRequest};
use weft_runtime::backoff::Backoff;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy};

use super::table::Shared;

/// Requests on their way; when full, further ones stay in the table.
const REQUESTS_IN_FLIGHT: usize = 64;
/// How long a server may take to accept the stream.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// How often unused watches are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// The pause before another attempt: views must be back before a person notices, and a server
/// that starts must not be run over.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(3);

/// Keeps the views current until the agent stops.
pub(super) async fn run(shared: Arc<Shared>, channel: Channel, tasks: TaskTree) {
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX, entropy::rng());
    loop {
        let session = async {
            let (requests, events) = open(channel.clone()).await?;
            info!("views follow a server");
            backoff.reset();
            shared.connect();
            follow(&shared, requests, events).await
        };
        let status = tokio::select! {
            () = tasks.cancelled() => return,
            Err(status) = session => status,
        };
        if shared.is_connected() {
            warn!(%status, "views lost their server; the last values stay");
        } else {
            debug!(%status, "no server for views");
        }
        shared.disconnect();
        tokio::select! {
            () = tasks.cancelled() => return,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

async fn open(
    channel: Channel,
) -> Result<(mpsc::Sender<WatchRequest>, Streaming<WatchEvent>), Status> {
    let mut client = WatchClient::new(channel).max_decoding_message_size(limits::VIEW_BYTES_MAX);
    let (sender, receiver) = mpsc::channel(REQUESTS_IN_FLIGHT);
    let opening = client.watch(ReceiverStream::new(receiver));
    let response = tokio::time::timeout(OPEN_LIMIT, opening)
        .await
        .map_err(|_| Status::deadline_exceeded("the server does not answer"))??;
    Ok((sender, response.into_inner()))
}

/// Carries requests out and values in until the stream ends.
async fn follow(
    shared: &Shared,
    requests: mpsc::Sender<WatchRequest>,
    mut events: Streaming<WatchEvent>,
) -> Result<Infallible, Status> {
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        // Each branch may be dropped at any time: a permit that is not used goes back, a message
        // that is not complete stays in the stream, a wake-up that is lost is seen by
        // `has_requests`.
        tokio::select! {
            permit = requests.reserve(), if shared.has_requests() => {
                let permit = permit.map_err(|_| Status::unavailable("the stream ended"))?;
                if let Some(request) = shared.next_request() {
                    permit.send(request);
                }
            }
            event = events.message() => match event? {
                Some(event) => shared.take(&event),
                None => return Err(Status::unavailable("the server ended the stream")),
            },
            () = shared.wake.notified() => {}
            _ = sweep.tick() => shared.sweep(clock::instant()),
        }
    }
}
