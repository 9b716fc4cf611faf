//! A connection from the local instance: which upstream it is for, and what speaks on it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tracing::debug;
use weft_core::config_entry::Protocol;
use weft_core::local_address::LocalAddress;
use weft_runtime::net::TcpStream;

use super::breaker::CONNECTION_LIMIT;
use super::connect::open_tcp;
use super::hello::server_name;
use super::protocol::{Spoken, detect};
use super::route::{HttpUpstream, flow, route_number};
use crate::http::general::{Engine, serve};
use crate::http::h1::RequestRef;
use crate::http::{Session, chain};
use crate::listen::{Live, Local, Worker};
use crate::observe::{Carried, From};
use crate::tcp::copy_both;
use crate::transport::{Buffer, Timer, preamble};

/// Serves one connection to its end.
///
/// What differs most in size is boxed: an idle HTTP/1 connection is not to pay for the others.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    mut stream: TcpStream,
    bind: LocalAddress,
    live: Rc<Live>,
) {
    let local = worker.current();
    let told = match preamble(&local.workload, &mut stream).await {
        Ok(told) => told,
        Err(error) => return debug!(error = chain(&error), "connection refused"),
    };
    let from = told.as_ref().and_then(|told| told.ends).map(|(from, _)| from);
    let remote = from.or_else(|| stream.peer_addr().ok());
    // The listener's upstream may be gone since the connection was queued.
    let Some(number) = local.workload.upstream_at(&bind) else { return };
    match local.workload.upstreams[number].protocol {
        // The listener became one of UDP meanwhile.
        Protocol::Udp => {}
        Protocol::Tcp => Box::pin(copy(&worker, (stream, remote), (number, bind), &live)).await,
        Protocol::Http => {
            let mut timer = Timer::default();
            let Some((spoken, input)) = detect(&mut stream, &live, &mut timer).await else {
                return;
            };
            match spoken {
                Spoken::Http1 => {
                    let from = (&*live, remote, told);
                    let hop = HttpUpstream::new((worker, local), (bind, number), from);
                    Session::new(stream, hop, live, input).run().await;
                }
                Spoken::Http2 => {
                    let tasks = worker.tasks.clone();
                    let from = (&*live, remote, told);
                    let hop = HttpUpstream::new((worker, local), (bind, number), from);
                    Box::pin(serve((stream, input), Engine::Http2, hop, &live, &tasks)).await;
                }
            }
        }
        Protocol::Grpc | Protocol::Http2 => {
            let tasks = worker.tasks.clone();
            let from = (&*live, remote, told);
            let hop = HttpUpstream::new((worker, local), (bind, number), from);
            let input = Buffer::default();
            Box::pin(serve((stream, input), Engine::Any, hop, &live, &tasks)).await;
        }
    }
}

/// Says where a connection that carries bytes goes and by which route; `None` when it has not said what it must.
async fn target(
    (worker, number): (&Worker, usize),
    stream: &mut TcpStream,
    there: &mut Buffer,
    live: &Live,
) -> Option<(Rc<Local>, (usize, u32), Duration)> {
    let local = worker.current();
    let upstream = &local.workload.upstreams[number];
    let named = match upstream.table.needs_server_name() {
        true => match Box::pin(server_name(stream, there, live)).await {
            Ok(name) => Some(name),
            Err(error) => {
                if let Some(target) = local.upstreams[number].targets.first() {
                    target.series.cause("no-server-name");
                }
                debug!(upstream = %upstream.service, error = chain(&error), "connection refused");
                return None;
            }
        },
        // The service may speak first, so nothing is awaited from the caller.
        false => None,
    };
    let (taken, limit) = {
        let splits = &mut *local.upstreams[number].splits.borrow_mut();
        let routed = match named {
            Some(name) => upstream.table.route_tls(name.as_deref(), splits),
            None => upstream.table.route::<RequestRef<'_>>(None, splits),
        };
        let target = routed.standing_in(|target| upstream.is_usable(target));
        ((target, route_number(&routed)), routed.connect_timeout)
    };
    Some((local, taken, limit))
}

/// Carries bytes: one connection to another proxy for each of the local instance's.
async fn copy(
    worker: &Rc<Worker>,
    (mut stream, remote): (TcpStream, Option<SocketAddr>),
    (number, bind): (usize, LocalAddress),
    live: &Live,
) {
    let mut there = Buffer::default();
    let found = target((worker, number), &mut stream, &mut there, live).await;
    let Some((local, (target, route), limit)) = found else { return };
    let upstream = &local.workload.upstreams[number];
    let series = &local.upstreams[number].targets[target].series;
    let mut carried = {
        let random = &mut worker.random.borrow_mut();
        let called = upstream.targets[target].spiffe_id.service_name();
        let between = (Some(&local.workload.snapshot.service), called);
        let log = (worker.watchers(&local), between, &worker.log);
        let flow = flow(worker, &local, (number, target), route);
        Carried::begin((series, Some(flow)), log, random, |record| {
            let (direction, connection) = ("outbound", live.number());
            From { direction, connection, remote, local: bind }.tell(record);
            record.cluster = upstream.targets[target].sni.as_str().into();
            record.upstream_peer = Some(upstream.targets[target].spiffe_id.to_string().into());
        })
    };
    let opened =
        open_tcp(worker, &local, (number, target), (limit, remote.map(|it| it.ip()))).await;
    let ((mut tls, lease), address) = match opened {
        Ok(opened) => opened,
        Err(refusal) => {
            debug!(upstream = %upstream.service, cause = refusal.message, "connection refused");
            if refusal.cause == CONNECTION_LIMIT {
                flow(worker, &local, (number, target), route).overflowed();
            }
            carried.tell(|record| record.transport_failure = Some(refusal.message.into()));
            carried.fail(refusal.cause);
            return;
        }
    };
    carried.tell(|record| record.upstream = Some(LocalAddress::Tcp(address)));
    live.set_busy(true);
    let back = Buffer::default();
    let how = (live.limits(), &carried.tally);
    let failed = copy_both((&mut stream, there), (&mut tls, back), how, Timer::default()).await;
    drop(lease);
    match failed {
        None => carried.end(),
        Some(error) => {
            debug!(upstream = %upstream.service, error = chain(&error), "connection broke off");
            carried.fail("connection-broken");
        }
    }
}
