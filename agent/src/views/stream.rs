//! The one stream over which servers keep views current. It starts over after each loss.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};
use weft_runtime::backoff::Backoff;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy};

use super::table::Shared;
use crate::grpc::{CallError, Calls, WatchEvents, WatchRequests};

/// How often unused watches are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// The pause before another attempt: views must be back before a person notices, and a server
/// that starts must not be run over.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(3);

/// Keeps the views current until the agent stops.
pub(super) async fn run(shared: Arc<Shared>, calls: Calls, tasks: TaskTree) {
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX, entropy::rng());
    loop {
        let moved = calls.moved();
        let session = async {
            let (requests, events) = calls.watch().await?;
            info!("views follow a server");
            shared.connect(clock::instant());
            follow(&shared, (requests, events), &mut backoff).await
        };
        let error = tokio::select! {
            () = tasks.cancelled() => return,
            Err(error) = session => error,
            // Where a stream is dropped, the next one takes up what it had.
            () = moved => CallError::moved_away(),
        };
        if error.is_of_move() {
            debug!("views move to another server");
            shared.disconnect();
            continue;
        }
        if shared.is_connected() {
            warn!(%error, "views lost their server; the last values stay");
        } else {
            debug!(%error, "no server for views");
        }
        shared.disconnect();
        if error.is_of_late_server() {
            shared.fall_behind(clock::instant());
            calls.move_on();
        }
        tokio::select! {
            () = tasks.cancelled() => return,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

/// Carries requests out and values in until the stream ends.
async fn follow(
    shared: &Shared,
    (requests, mut events): (WatchRequests, WatchEvents),
    backoff: &mut Backoff,
) -> Result<Infallible, CallError> {
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        // Each branch may be dropped at any time: a permit that is not used goes back, a message
        // that is not complete stays in the stream, a wake-up that is lost is seen by
        // `has_requests`.
        tokio::select! {
            // When the way in is closed, so is the way out, which says why.
            Ok(permit) = requests.reserve(), if shared.has_requests() => {
                if let Some(request) = shared.next_request() {
                    permit.send(request);
                }
            }
            event = events.next() => {
                shared.take(&event?);
                // A server that takes streams and says nothing is not asked ever faster.
                backoff.reset();
            }
            () = shared.wake.notified() => {}
            _ = sweep.tick() => {
                let now = clock::instant();
                shared.sweep(now);
                if shared.must_begin_anew(now) {
                    return Err(CallError::begin_anew());
                }
            }
        }
    }
}
