//! One listener of one worker.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;
use weft_core::config_entry::Protocol;
use weft_core::local_address::LocalAddress;
use weft_runtime::net::{LocalListener, TcpStream};

use super::{Caller, Live, Worker};
use crate::http::Refusal;
use crate::{inbound, outbound};

/// How long to wait when no connection can be accepted, e.g. for want of file descriptors:
/// those in use may end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who comes in at a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Door {
    /// The local instance, on its way to wherever it called: the host has redirected it.
    Captured(SocketAddr),
    /// Those who have no identity, to some paths of the local instance.
    Exposed(SocketAddr),
    /// Other proxies.
    Inbound,
    /// The local instance, on its way to the upstream bound here.
    Outbound(LocalAddress),
}

/// Accepts until told to stop.
pub(super) async fn accept(
    worker: Rc<Worker>,
    (listener, door): (Rc<LocalListener>, Door),
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            // Both are cancel-safe by their documentation. Told to stop, it takes none that
            // another process would.
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) if worker.descriptors.has_room_for_caller(&stream) => {
                if listener.hasten(&stream).is_ok() {
                    serve(&worker, stream, &door);
                }
            }
            Ok(stream) => {
                worker.close_waiting();
                turn_away(&worker, &stream, &door, "descriptor-limit");
            }
            Err(error) if is_of_peer(&error) => {}
            Err(error) => {
                warn!(?door, %error, "cannot accept a connection");
                worker.close_waiting();
                if !turn_one_away(&worker, &listener, &door).await {
                    tokio::select! {
                        // Both only wait.
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                        () = stop.cancelled() => return,
                    }
                }
            }
        }
    }
}

/// Uses the reserve to tell the next caller at once that there is no room, instead of leaving it
/// to wait; whether that has worked.
async fn turn_one_away(worker: &Worker, listener: &LocalListener, door: &Door) -> bool {
    worker.descriptors.give_up_reserve();
    let accepted = poll_fn(|cx| match listener.poll_accept(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
        // Somebody else has it.
        Poll::Pending => Poll::Ready(None),
    })
    .await;
    let is_told = accepted.is_some();
    if let Some(stream) = accepted {
        turn_away(worker, &stream, door, "descriptor-limit");
    }
    worker.descriptors.take_reserve();
    is_told
}

/// Counts a caller for whom there is no room, and says so in a way that it understands, if that
/// can be done at once. TLS has no way before the handshake.
fn turn_away(worker: &Worker, stream: &TcpStream, door: &Door, cause: &'static str) {
    let local = worker.current();
    match door {
        Door::Captured(_) => worker.captured_counts().refused.add(1),
        Door::Exposed(_) | Door::Inbound => local.inbound.cause(cause),
        Door::Outbound(bind) => {
            let Some(number) = local.workload.upstream_at(bind) else { return };
            if let Some(target) = local.upstreams[number].targets.first() {
                target.series.cause(cause);
            }
            if local.workload.upstreams[number].protocol == Protocol::Http {
                let mut answer = Vec::new();
                let refusal = Refusal::new(503, cause, "this proxy has no room for a connection");
                refusal.with_retry_after().write(false, true, &mut answer);
                // What has come must be read, or the end would destroy the answer. Both are done
                // as far as that goes without waiting.
                let _ = stream.try_read(&mut [0; 4096]);
                let _ = stream.try_write(&answer);
            }
        }
    }
}

fn serve(worker: &Rc<Worker>, stream: TcpStream, door: &Door) {
    let Some(caller) = Place::take(&worker.callers_open, worker.limits.connections) else {
        return turn_away(worker, &stream, door, "connection-limit");
    };
    let local = worker.current();
    let inbound_max = match door {
        Door::Inbound => local.workload.snapshot.inbound.connections_max.unwrap_or(u32::MAX),
        Door::Captured(_) | Door::Exposed(_) | Door::Outbound(_) => u32::MAX,
    };
    let counter = if *door == Door::Inbound { Some(&worker.tenant.inbound_open) } else { None };
    let inbound = match counter.map(|open| Place::take(open, inbound_max)) {
        Some(None) => return turn_away(worker, &stream, door, "connection-limit"),
        taken => taken.flatten(),
    };
    let (number, live) = worker.track();
    let (worker, door) = (worker.clone(), door.clone());
    worker.tasks.clone().spawn_local("connection", async move {
        let _caller = caller;
        let _tracked = Tracked { worker: &worker, number };
        match door {
            Door::Captured(bind) => {
                let served = outbound::accept_captured(worker.clone(), stream, bind, live.clone());
                live.guard(Box::pin(served)).await;
            }
            Door::Exposed(bind) => {
                let served = inbound::accept_exposed(worker.clone(), stream, bind, live.clone());
                live.guard(Box::pin(served)).await;
            }
            Door::Inbound => {
                let served = inbound::accept(worker.clone(), (stream, inbound), live.clone());
                live.guard(Box::pin(served)).await;
            }
            Door::Outbound(bind) => {
                let served = outbound::accept(worker.clone(), stream, bind, live.clone());
                live.guard(Box::pin(served)).await;
            }
        }
    });
}

/// Serves a stream of a caller's connection, as a connection of its own is served.
pub(crate) fn serve_stream<F: Future<Output = ()> + 'static>(
    worker: &Rc<Worker>,
    (caller, place): (Rc<Caller>, Place),
    serve: impl FnOnce(Rc<Live>) -> F,
) {
    let (number, live) = worker.track();
    live.set_caller(caller);
    let served = serve(live.clone());
    let worker = worker.clone();
    worker.tasks.clone().spawn_local("stream", async move {
        let _tracked = Tracked { worker: &worker, number };
        live.guard(Box::pin(served)).await;
        drop(place);
    });
}

/// Serves a session of a client over UDP.
pub(super) fn serve_session<F: Future<Output = ()> + 'static>(
    worker: &Rc<Worker>,
    serve: impl FnOnce(Rc<Live>) -> F,
) {
    let (number, live) = worker.track();
    let served = serve(live.clone());
    let worker = worker.clone();
    worker.tasks.clone().spawn_local("session", async move {
        let _tracked = Tracked { worker: &worker, number };
        live.guard(Box::pin(served)).await;
    });
}

/// Takes the connection out of the worker's list, also when serving it panics.
pub(super) struct Tracked<'a> {
    pub(super) worker: &'a Worker,
    pub(super) number: u64,
}

impl Drop for Tracked<'_> {
    fn drop(&mut self) {
        self.worker.untrack(self.number);
    }
}

/// One of the connections that a limit allows, over all workers.
pub(crate) struct Place(Arc<AtomicU32>);

impl Place {
    /// Takes the place of a stream, which counts as a connection to the local instance.
    pub(crate) fn of_stream(worker: &Worker) -> Option<Self> {
        let local = worker.current();
        let limit = local.workload.snapshot.inbound.connections_max.unwrap_or(u32::MAX);
        let place = Self::take(&worker.tenant.inbound_open, limit);
        if place.is_none() {
            local.inbound.cause("connection-limit");
        }
        place
    }

    pub(super) fn take(open: &Arc<AtomicU32>, limit: u32) -> Option<Self> {
        let before = open.fetch_add(1, Ordering::Relaxed);
        let place = Self(open.clone());
        (before < limit).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::Live;

    /// The size of what a function returns, without calling it.
    fn size_of_future<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    /// What every open connection costs, busy or idle. Raise a bound only with a reason: a
    /// kilobyte is ten megabytes for ten thousand connections.
    #[test]
    fn a_connection_costs_little_while_it_is_open() {
        type Ends = (Rc<Worker>, TcpStream, Rc<Live>);
        let inbound = size_of_future(|(worker, stream, live): Ends| {
            inbound::accept(worker, (stream, None), live)
        });
        let outbound = size_of_future(|((worker, stream, live), bind): (Ends, LocalAddress)| {
            outbound::accept(worker, stream, bind, live)
        });
        let live = size_of::<Live>();
        let sizes = format!("inbound {inbound}, outbound {outbound}, handle {live} bytes");
        assert!(inbound <= 3584 && outbound <= 3072 && live <= 320, "{sizes}");
    }
}
