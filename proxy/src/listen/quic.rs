//! One worker's door for callers over QUIC.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::accept::{Place, Tracked};
use super::{Unbound, Worker};
use crate::inbound;
use crate::transport::quic::{Berth, Docks, Knock};
use crate::workload::Workload;

/// Handshakes under way at a worker beyond which a caller has to show that it is where it says: more are
/// begun by a flood under false addresses than by callers after a restart.
const HANDSHAKES_UNASKED_MAX: usize = 64;

/// The door, open or not.
#[derive(Debug, Default)]
pub(super) struct QuicDoor {
    open: RefCell<Option<(Berth, CancellationToken)>>,
    /// Where nobody comes in any more.
    closed: RefCell<Vec<Berth>>,
}

impl QuicDoor {
    /// Opens or closes it as a workload says, and meets callers as that says from now on.
    pub(super) fn follow(&self, worker: &Rc<Worker>, workload: &Workload) -> Option<Unbound> {
        let bind = workload.snapshot.inbound.bind;
        let Some(config) = &workload.inbound_quic else {
            self.close(worker);
            return None;
        };
        if let Some((berth, _)) = &*self.open.borrow()
            && berth.address() == bind
        {
            berth.set_config(config);
            return None;
        }
        self.close(worker);
        match worker.docks.open(worker.number, bind, config, &worker.tasks) {
            Ok(Some(berth)) => {
                let stop = CancellationToken::new();
                let accepting = accept(worker.clone(), berth.clone(), stop.clone());
                worker.tasks.spawn_local(format!("listener {bind} over UDP"), accepting);
                *self.open.borrow_mut() = Some((berth, stop));
                None
            }
            Ok(None) => None,
            Err(error) => Some(unbound(bind, error)),
        }
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self, worker: &Worker) {
        if let Some((berth, stop)) = self.open.borrow_mut().take() {
            stop.cancel();
            if worker.number == 0 {
                worker.docks.forget(berth.address());
            }
            self.closed.borrow_mut().push(berth);
        }
    }

    /// Gives up the sockets of those that have ended.
    fn give_up(&self) {
        self.closed.borrow_mut().retain(|berth| berth.connections() > 0);
    }

    /// Ends the connections that are left.
    pub(super) async fn end(&self, worker: &Worker) {
        self.close(worker);
        let closed = self.closed.take();
        for berth in &closed {
            berth.end().await;
        }
    }
}

/// Callers go by TCP meanwhile, so the proxy serves.
fn unbound(bind: SocketAddr, error: io::Error) -> Unbound {
    if error.kind() == io::ErrorKind::AddrInUse {
        info!(%bind, "another process has the UDP port: callers go by TCP until it is free");
    }
    Unbound::of_choice(error)
}

/// Accepts until told to stop; then says so to whoever comes, until the connections that are left have
/// ended.
async fn accept(worker: Rc<Worker>, berth: Berth, stop: CancellationToken) {
    loop {
        tokio::select! {
            // All are cancel-safe.
            biased;
            () = stop.cancelled() => break,
            knock = berth.knock() => match knock {
                Some(knock) => serve(&worker, &berth, knock),
                None => return,
            },
        }
    }
    loop {
        tokio::select! {
            // Both are cancel-safe.
            () = berth.idle() => break,
            knock = berth.knock() => match knock {
                Some(knock) => knock.refuse(),
                None => return,
            },
        }
    }
    worker.quic_door.give_up();
}

fn serve(worker: &Rc<Worker>, berth: &Berth, knock: Knock) {
    let shaking = berth.connections().saturating_sub(worker.quic_open());
    let knock = match shaking >= HANDSHAKES_UNASKED_MAX {
        true => knock.challenge(),
        false => Some(knock),
    };
    let Some(knock) = knock else { return };
    let Some(caller) = Place::take(&worker.callers_open, worker.limits.connections) else {
        worker.current().inbound.cause("connection-limit");
        debug!("a connection over QUIC was refused: as many are open as are allowed");
        return knock.refuse();
    };
    let (number, live) = worker.track();
    let worker = worker.clone();
    worker.tasks.clone().spawn_local("connection over QUIC", async move {
        let _caller = caller;
        let _tracked = Tracked { worker: &worker, number };
        let served = inbound::accept_quic(worker.clone(), knock, live.clone());
        live.guard(Box::pin(served)).await;
    });
}

/// The sockets of all workers.
pub(crate) fn docks(workers: usize) -> Arc<Docks> {
    Arc::new(Docks::new(workers))
}
