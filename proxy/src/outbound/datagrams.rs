//! A session of a client over UDP: which instance it goes to, and what it carries there.

use std::io;
use std::rc::Rc;

use tracing::{debug, warn};
use weft_core::config_entry::Protocol;
use weft_core::local_address::LocalAddress;

use super::connect::open_tcp;
use super::route::{flow, route_number};
use crate::http::chain;
use crate::http::h1::RequestRef;
use crate::listen::{Live, Worker};
use crate::observe::{Carried, From, Side};
use crate::udp::{ClientEnd, Ended, Hop, How, exchange};

/// Serves one session to its end.
pub(crate) async fn session(worker: Rc<Worker>, mut end: ClientEnd, live: Rc<Live>) {
    let (local, bind) = (worker.current(), LocalAddress::from(end.bind()));
    // The listener's upstream may be gone since the datagram came.
    let Some(number) = local.workload.upstream_at(&bind) else { return };
    let upstream = &local.workload.upstreams[number];
    if upstream.protocol != Protocol::Udp {
        return;
    }
    let (target, route, limit) = {
        let splits = &mut *local.upstreams[number].splits.borrow_mut();
        let routed = upstream.table.route::<RequestRef<'_>>(None, splits);
        let target = routed.standing_in(|target| upstream.is_usable(target));
        (target, route_number(&routed), routed.connect_timeout)
    };
    let series = &local.upstreams[number].targets[target].series;
    let mut carried = {
        let random = &mut worker.random.borrow_mut();
        let called = upstream.targets[target].spiffe_id.service_name();
        let between = (Some(&local.workload.snapshot.service), called);
        let log = (worker.watchers(&local), between, &worker.log);
        let flow = flow(&worker, &local, (number, target), route);
        let remote = Some(end.client());
        Carried::begin((series, Some(flow)), log, random, |record| {
            let (direction, connection) = ("outbound", live.number());
            From { direction, connection, remote, local: bind }.tell(record);
            record.cluster = upstream.targets[target].sni.as_str().into();
            record.upstream_peer = Some(upstream.targets[target].spiffe_id.to_string().into());
            record.datagrams = Some((0, 0));
        })
    };
    let opened =
        Box::pin(open_tcp(&worker, &local, (number, target), (limit, Some(end.client().ip()))))
            .await;
    let ((wire, lease), address) = match opened {
        Ok(opened) => opened,
        Err(refusal) => {
            debug!(upstream = %upstream.service, cause = refusal.message, "session refused");
            carried.tell(|record| record.transport_failure = Some(refusal.message.into()));
            return carried.fail(refusal.cause);
        }
    };
    carried.tell(|record| record.upstream = Some(LocalAddress::Tcp(address)));
    end.goes_to(address);
    live.set_busy(true);
    let (mut hop, counts) = (Hop::new(wire), worker.udp_counts(Side::Outbound));
    let how = How { live: &live, counts: &counts, tally: &carried.tally };
    let ended = Box::pin(exchange(&mut end, &mut hop, how)).await;
    drop(lease);
    match ended {
        Ended::Over => carried.end(),
        Ended::Broken(error) if error.kind() == io::ErrorKind::Unsupported => {
            let (service, instance) = (&upstream.service, address);
            warn!(%service, %instance, "the proxy there does not take datagrams for its service");
            carried.fail("not-spoken");
        }
        Ended::Broken(error) => {
            debug!(upstream = %upstream.service, error = chain(&error), "session broke off");
            carried.fail("connection-broken");
        }
    }
}
