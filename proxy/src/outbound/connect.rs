//! A connection to another proxy: one that waits, or a new one with both identities shown.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;
use weft_runtime::net::connect_tcp;
use weft_runtime::tls::rustls::ClientConfig;
use weft_runtime::tls::tokio_rustls::TlsConnector;

use super::endpoint::{Tried, choose, none_left};
use super::route::Plan;
use crate::http::{Refusal, Reuse, chain};
use crate::listen::{Local, LocalEndpoint, Worker};
use crate::observe::Series;
use crate::transport::{HopWire, Lease, Socket};

/// Endpoints that one request or connection tries to reach. Nothing was sent to those that
/// failed, so trying another is always safe.
pub(super) const CONNECTS_MAX: usize = 3;

/// Gets a connection for one request.
pub(super) async fn connect(
    worker: &Worker,
    plan: &mut Plan,
    reuse: Reuse,
) -> Result<Lease<HopWire>, Refusal> {
    if reuse == Reuse::Allowed {
        // On a further attempt: the one before did not pass the request on.
        plan.tried.give_up_current();
    }
    loop {
        let target = plan.local_target();
        let chosen = choose(target, &plan.tried, &mut worker.random.borrow_mut());
        let Some((number, endpoint)) = chosen else {
            return Err(none_left(plan.upstream(), plan.target(), &plan.tried));
        };
        let mut lease = match reuse {
            Reuse::Allowed => endpoint.pools.http1.lease_reused(),
            Reuse::Fresh => endpoint.pools.http1.lease(),
        };
        if lease.wire.is_none() {
            let series = &plan.local_target().series;
            // Boxed: rare beside the requests that find a connection, and large.
            let opening = open(worker, (endpoint, plan.tls()), (series, plan.connect_timeout));
            match Box::pin(opening).await {
                Ok(tls) => lease.wire = Some(tls),
                Err(error) => {
                    let refusal = failed(plan, number, endpoint, &error);
                    plan.tried.fail(number);
                    if plan.tried.count() >= CONNECTS_MAX.min(plan.target().endpoints.len()) {
                        return Err(refusal);
                    }
                    continue;
                }
            }
        }
        plan.tried.take(number);
        return Ok(lease);
    }
}

/// Opens a connection that carries bytes.
pub(super) async fn open_tcp(
    worker: &Rc<Worker>,
    local: &Local,
    (upstream, target): (usize, usize),
    limit: Duration,
) -> Result<(HopWire, Lease<HopWire>), Refusal> {
    let spec = &local.workload.upstreams[upstream];
    let of_target = &spec.targets[target];
    let local_target = &local.upstreams[upstream].targets[target];
    let mut tried = Tried::default();
    loop {
        let chosen = choose(local_target, &tried, &mut worker.random.borrow_mut());
        let Some((number, endpoint)) = chosen else {
            return Err(none_left(spec, of_target, &tried));
        };
        // Counts the connection as load on the endpoint while it lasts.
        let lease = endpoint.pools.http1.lease();
        // A chain speaks one protocol, so there is one.
        let config =
            endpoint.tcp.clone().unwrap_or_else(|| of_target.tls.tcp(endpoint.pools.http1.address));
        match open(worker, (endpoint, &config), (&local_target.series, limit)).await {
            Ok(tls) => return Ok((tls, lease)),
            Err(error) => {
                debug!(target = %of_target.id, instance = %endpoint.instance,
                    error = chain(&error), "cannot reach an endpoint");
                tried.fail(number);
                if tried.count() >= CONNECTS_MAX {
                    return Err(none_left(spec, of_target, &tried));
                }
            }
        }
    }
}

pub(super) async fn open(
    worker: &Worker,
    (endpoint, config): (&LocalEndpoint, &Arc<ClientConfig>),
    (series, limit): (&Arc<Series>, Duration),
) -> io::Result<HopWire> {
    if let Some(outside) = &endpoint.pools.outside {
        let opened = outside.open(&worker.tasks, &config.alpn_protocols, limit).await;
        let refused = opened.as_ref().err().is_some_and(is_of_handshake);
        series.handshakes_failed.add(u64::from(refused));
        return opened.map(|wire| wire.counted(series));
    }
    let before = worker.current();
    let connect = async {
        let stream = connect_tcp(endpoint.pools.http1.address, limit).await?;
        if !worker.descriptors.has_room_onwards(&stream) {
            return Err(io::Error::other("too many open files"));
        }
        let connector = TlsConnector::from(config.clone());
        let tls = connector.connect(endpoint.name.clone(), Socket::new(stream)).await?;
        Ok(Box::new(tls))
    };
    let connected = tokio::time::timeout(limit, connect).await;
    match connected.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
        Ok(mut tls) => {
            let shown = tls.get_ref().1.peer_certificates().unwrap_or_default();
            let shown: Vec<_> = shown.iter().map(|it| it.clone().into_owned()).collect();
            // Who was revoked during the handshake is judged here, later ones by the worker.
            let credentials = &worker.current().workload.credentials;
            let loss = credentials.loss_since(&before.workload.credentials);
            if !credentials.still_trusts(&shown, loss) {
                series.handshakes_failed.add(1);
                return Err(io::Error::other("who answers is no longer trusted"));
            }
            let socket = tls.get_mut().0;
            socket.watch(worker.watch_server(shown));
            socket.count(series);
            Ok(HopWire::Own(tls))
        }
        Err(error) => {
            if is_of_handshake(&error) {
                series.handshakes_failed.add(1);
            }
            Err(error)
        }
    }
}

/// Whether TLS refused; it reports that as invalid data, the rest is the network's.
fn is_of_handshake(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

pub(super) fn failed(
    plan: &Plan,
    number: usize,
    endpoint: &LocalEndpoint,
    error: &io::Error,
) -> Refusal {
    let (status, cause) = match is_of_handshake(error) {
        true => (502, "handshake-failed"),
        false => (503, "connect-failed"),
    };
    let error = chain(error);
    debug!(target = %plan.target().id, instance = %endpoint.instance, number, error,
        "cannot reach an endpoint");
    let (instance, target) = (&endpoint.instance, plan.target());
    let message = match &target.outside {
        Some(outside) => {
            format!(
                "cannot reach {instance}:{} outside the mesh for {}: {error}",
                outside.port, target.id
            )
        }
        None => format!(
            "cannot reach instance {instance} of {} at {} as {}: {error}",
            target.id, endpoint.pools.http1.address, target.spiffe_id
        ),
    };
    Refusal::new(status, cause, message).unreached()
}
