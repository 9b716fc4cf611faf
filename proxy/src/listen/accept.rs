//! One listener of one worker.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;
use weft_runtime::net::{TcpListener, TcpStream, unpace_loopback};

use super::Worker;
use crate::{inbound, outbound};

/// How long to wait when no connection can be accepted, e.g. for want of file descriptors:
/// those in use may end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who comes in at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Other proxies.
    Inbound,
    /// The local instance, on its way to the upstream bound here.
    Outbound(SocketAddr),
}

/// Accepts until told to stop.
pub(super) async fn accept(
    worker: Rc<Worker>,
    listener: Rc<TcpListener>,
    door: Door,
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
            Ok((stream, _)) => serve(&worker, stream, door),
            Err(error) if is_of_peer(&error) => {}
            Err(error) => {
                warn!(?door, %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn serve(worker: &Rc<Worker>, stream: TcpStream, door: Door) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    unpace_loopback(&stream);
    let place = match door {
        Door::Inbound => match Place::take(worker) {
            Some(place) => Some(place),
            None => return,
        },
        Door::Outbound(_) => None,
    };
    let (number, live) = worker.track();
    let worker = worker.clone();
    worker.tasks.clone().spawn_local("connection", async move {
        let _tracked = Tracked { worker: &worker, number };
        match door {
            Door::Inbound => {
                let served = inbound::accept(worker.clone(), stream, live.clone());
                live.guard(Box::pin(served)).await;
            }
            Door::Outbound(bind) => {
                let served = outbound::accept(worker.clone(), stream, bind, live.clone());
                live.guard(Box::pin(served)).await;
            }
        }
        drop(place);
    });
}

/// Takes the connection out of the worker's list, also when serving it panics.
struct Tracked<'a> {
    worker: &'a Worker,
    number: u64,
}

impl Drop for Tracked<'_> {
    fn drop(&mut self) {
        self.worker.untrack(self.number);
    }
}

/// One of the connections that the local instance's limit allows, over all workers.
struct Place(Arc<AtomicU32>);

impl Place {
    fn take(worker: &Worker) -> Option<Self> {
        let local = worker.current();
        let limit = local.workload.snapshot.inbound.connections_max.unwrap_or(u32::MAX);
        let open = worker.inbound_open.clone();
        let before = open.fetch_add(1, Ordering::Relaxed);
        let place = Self(open);
        if before >= limit {
            local.inbound.cause("connection-limit");
            return None;
        }
        Some(place)
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
