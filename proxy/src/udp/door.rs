//! One listener of one worker: takes the datagrams of clients and begins their sessions.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;
use weft_runtime::clock;
use weft_runtime::net::{Arrivals, ClientSocket};

use super::table::{ClientEnd, Table};

/// How long to wait when a socket cannot be read.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes datagrams until told to stop; `begin` serves each new session.
pub(crate) async fn receive(
    (socket, table): (Rc<ClientSocket>, Rc<Table>),
    begin: impl Fn(ClientEnd),
    stop: CancellationToken,
) {
    let mut arrivals = Box::<Arrivals>::default();
    let mut watching = pin!(table.watch());
    loop {
        let taken = tokio::select! {
            // All only wait. Told to stop, it takes none that another process would.
            biased;
            () = stop.cancelled() => return,
            taken = poll_fn(|cx| socket.poll_take(cx, &mut arrivals)) => taken,
            () = &mut watching => return,
        };
        if let Err(error) = taken {
            warn!(address = %socket.address(), %error, "cannot take datagrams");
            tokio::select! {
                // Both only wait.
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => return,
            }
            continue;
        }
        let now = clock::instant();
        for arrived in arrivals.each() {
            if let Some(end) = table.take(&socket, arrived, now) {
                begin(end);
            }
        }
        // The socket may always have more; sessions are to have their turn.
        tokio::task::yield_now().await;
    }
}
