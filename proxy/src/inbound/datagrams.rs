//! A session that another proxy has opened: judged before its first datagram goes on, then carried to the
//! local instance.

use std::rc::Rc;

use tracing::{debug, warn};
use weft_runtime::net::ServiceSocket;

use super::accept::{begin, may_connect};
use crate::http::chain;
use crate::listen::{Caller, Live, Local, Worker};
use crate::observe::{OpenSession, Side};
use crate::transport::Wire;
use crate::udp::{AppEnd, Ended, Hop, How, exchange};

/// Serves one session to its end, if the caller may.
pub(super) async fn carry<W: Wire>(
    (worker, local): (&Rc<Worker>, &Local),
    wire: W,
    caller: &Caller,
    live: &Live,
) {
    live.set_busy(true);
    let counts = worker.udp_counts(Side::Inbound);
    let _open = OpenSession::new(&counts);
    let (flow, from) = (Some(caller.flow.clone()), (live, caller.remote, Some(&caller.service)));
    let mut carried = begin((worker, local, flow), from, |record| {
        caller.tell(record);
        record.datagrams = Some((0, 0));
    });
    if !may_connect(local, caller) {
        return carried.fail("intention-denied");
    }
    let inbound = &local.workload.snapshot.inbound;
    if inbound.ext_authz.is_some() {
        warn!(caller = %caller.id, "session refused: an external authoriser judges requests, not datagrams");
        return carried.fail("authoriser-failed");
    }
    let Some(address) = inbound.local_app.tcp() else {
        warn!("session refused: the local instance speaks udp and is at the path of a socket");
        return carried.fail("app-unreachable");
    };
    let socket = match ServiceSocket::connect(address) {
        Ok(socket) if worker.descriptors.has_room_onwards(&socket) => socket,
        Ok(_) => return carried.fail("descriptor-limit"),
        Err(error) => {
            debug!(error = chain(&error), "cannot reach the local instance");
            carried.tell(|record| record.transport_failure = Some(chain(&error).into()));
            return carried.fail("app-unreachable");
        }
    };
    carried.tell(|record| record.upstream = Some(inbound.local_app.clone()));
    let (mut end, mut hop) = (AppEnd::new(socket, &counts), Hop::new(wire));
    let how = How { live, counts: &counts, tally: &carried.tally };
    match Box::pin(exchange(&mut end, &mut hop, how)).await {
        Ended::Over => carried.end(),
        Ended::Broken(error) => {
            debug!(caller = %caller.id, error = chain(&error), "session broke off");
            carried.fail("connection-broken");
        }
    }
}
