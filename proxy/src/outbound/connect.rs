//! A connection to another proxy: one that waits, or a new one with both identities shown.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::debug;
use weft_core::config_entry::Protocol;
use weft_core::traffic::mux::{self, StreamKind};
use weft_runtime::clock;
use weft_runtime::net::connect_tcp;
use weft_runtime::tls::rustls::ClientConfig;
use weft_runtime::tls::rustls::pki_types::{CertificateDer, ServerName};
use weft_runtime::tls::tokio_rustls::TlsConnector;

use super::breaker::{Admitted, Breaker, Place};
use super::endpoint::{Called, Tried, choose, none_left, note_unreached};
use super::route::Plan;
use crate::http::general::Stream;
use crate::http::{Refusal, Reuse, chain};
use crate::listen::{Local, LocalEndpoint, Pools, Worker};
use crate::observe::Series;
use crate::transport::quic::{self, Company, Dialled};
use crate::transport::{ClientTls, HopWire, Host, Lease, Socket};

/// Endpoints that one request or connection tries to reach. Nothing was sent to those that
/// failed, so trying another is always safe.
pub(super) const CONNECTS_MAX: usize = 3;

/// Gets a connection for one request.
pub(super) async fn connect(
    worker: &Rc<Worker>,
    plan: &mut Plan,
    reuse: Reuse,
) -> Result<Lease<HopWire>, Refusal> {
    plan.observed.hand();
    if plan.is_limited() {
        // Boxed, as all that is rare: each request would have to have room for it.
        Box::pin(plan.admit()).await?;
    }
    if reuse == Reuse::Allowed {
        // On a further attempt: the one before did not pass the request on.
        plan.tried.turned_away(plan.called());
        plan.tried.give_up_current();
    }
    loop {
        let Some((number, endpoint)) = choose(plan.called(), &plan.tried) else {
            return Err(none_left(plan.upstream(), plan.target(), &plan.tried));
        };
        let mut lease = match reuse {
            Reuse::Allowed => endpoint.pools.http1.lease_reused(),
            Reuse::Fresh => endpoint.pools.http1.lease(),
        };
        if is_outdone(worker, &lease, (endpoint, plan)) {
            lease = endpoint.pools.http1.lease();
        }
        if lease.wire.is_none() {
            let series = &plan.local_target().series;
            let waiting = plan.wait()?;
            // Boxed: rare beside the requests that find a connection, and large.
            let dial = Dial::new(worker, (endpoint, plan.tls()), (series, plan.connect_timeout));
            match Box::pin(waiting_for(waiting, dial.kept())).await {
                Ok(wire) => lease.wire = Some(wire),
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

/// Opens a connection while the request counts as one that waits.
async fn waiting_for<T>(_place: Option<Box<Place>>, opening: impl Future<Output = T>) -> T {
    opening.await
}

/// Whether a connection that waited is one over TCP, and QUIC has come since.
fn is_outdone(
    worker: &Rc<Worker>,
    lease: &Lease<HopWire>,
    (endpoint, plan): (&LocalEndpoint, &Plan),
) -> bool {
    let (Some(wire), Some(quic)) = (&lease.wire, &endpoint.pools.shared.quic) else { return false };
    if quic.has_left() {
        endpoint.pools.http1.close_unfit();
    }
    match wire {
        HopWire::Quic(_) | HopWire::Plain(_) => false,
        HopWire::Mux(_) | HopWire::Own(_) => quic.is_better(&worker.tasks, || {
            let how = (&plan.local_target().series, plan.connect_timeout);
            OverQuic(Dial::new(worker, (endpoint, plan.tls()), how))
        }),
    }
}

/// Opens a connection that carries bytes, or datagrams; returns where to, as well.
pub(super) async fn open_tcp(
    worker: &Rc<Worker>,
    local: &Local,
    (upstream, target): (usize, usize),
    (limit, from): (Duration, Option<IpAddr>),
) -> Result<((HopWire, (Lease<HopWire>, Admitted)), SocketAddr), Refusal> {
    let spec = &local.workload.upstreams[upstream];
    let of_target = &spec.targets[target];
    let local_target = &local.upstreams[upstream].targets[target];
    let kind = match spec.protocol {
        Protocol::Udp => StreamKind::Datagrams,
        Protocol::Grpc | Protocol::Http | Protocol::Http2 | Protocol::Tcp => StreamKind::Bytes,
    };
    let admitted = of_target.breaker.as_ref().map(Breaker::connection).transpose();
    let admitted = admitted.map_err(|overflow| overflow.refusal(of_target))?.unwrap_or_default();
    let called = Called { worker, local, upstream, target };
    let mut tried = Tried::keyed(of_target.balance.connection_key(from));
    loop {
        let Some((number, endpoint)) = choose(called, &tried) else {
            return Err(none_left(spec, of_target, &tried));
        };
        // Counts the connection as load on the endpoint while it lasts.
        let lease = endpoint.pools.http1.lease();
        // A chain speaks one protocol, so there is one.
        let config =
            endpoint.tcp.clone().unwrap_or_else(|| of_target.tls.tcp(endpoint.pools.address));
        let how = (&local_target.series, limit);
        let dial = Dial::new(worker, (endpoint, &config), how);
        match Box::pin(dial.wire(kind)).await {
            Ok(wire) => {
                called.ended(number, Ok(()));
                return Ok(((wire, (lease, admitted)), endpoint.pools.address));
            }
            Err(error) => {
                debug!(target = %of_target.id, instance = %endpoint.instance,
                    error = chain(&error), "cannot reach an endpoint");
                note_unreached(called, number);
                tried.fail(number);
                if tried.count() >= CONNECTS_MAX {
                    return Err(none_left(spec, of_target, &tried));
                }
            }
        }
    }
}

/// On what a request that is a value goes.
pub(super) enum Way {
    /// A connection of HTTP/2.
    Http2(Stream),
    /// A stream of its own.
    Stream(Lease<HopWire>),
}

/// What a connection to one endpoint is opened with.
#[derive(Clone)]
pub(super) struct Dial {
    worker: Rc<Worker>,
    pools: Rc<Pools>,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    series: Arc<Series>,
    limit: Duration,
}

impl Dial {
    pub(super) fn new(
        worker: &Rc<Worker>,
        (endpoint, config): (&LocalEndpoint, &Arc<ClientConfig>),
        (series, limit): (&Arc<Series>, Duration),
    ) -> Self {
        let (pools, name) = (endpoint.pools.clone(), endpoint.name.clone());
        let (config, series) = (config.clone(), series.clone());
        Self { worker: worker.clone(), pools, name, config, series, limit }
    }

    /// Gets a connection for a request. It is opened apart from whoever waits for it: when he gives
    /// up, it is there for the next.
    async fn kept(self) -> io::Result<HopWire> {
        let (worker, pools) = (self.worker.clone(), self.pools.clone());
        let opening = self.wire(StreamKind::Http1);
        let opened = apart(&worker, opening, move |wire| {
            let mut lease = pools.http1.lease();
            lease.wire = Some(wire);
            lease.give_back(clock::instant());
        });
        opened.await
    }

    /// Gets a way for a request that is a value, opened apart as well: a stream beside others, or a
    /// place on a connection of HTTP/2 where the other side has no such streams.
    pub(super) async fn way(self) -> io::Result<Way> {
        let (worker, pools) = (self.worker.clone(), self.pools.clone());
        let opening = async move {
            let found = || pools.http2.place().map(Way::Http2);
            let open = async || match self.clone().wire(StreamKind::Messages).await? {
                wire @ (HopWire::Mux(_) | HopWire::Quic(_)) => {
                    let mut lease = pools.messages.lease();
                    lease.wire = Some(wire);
                    Ok(Way::Stream(lease))
                }
                wire @ (HopWire::Own(_) | HopWire::Plain(_)) => {
                    pools.http2.adopt(wire, &self.worker.tasks).await.map(Way::Http2)
                }
            };
            pools.http2.once(found, open).await
        };
        apart(&worker, opening, |opened| {
            if let Way::Stream(lease) = opened {
                lease.give_back(clock::instant());
            }
        })
        .await
    }

    /// Gets a place for a request on an HTTP/2 connection, opened apart as well.
    pub(super) async fn stream(self) -> io::Result<Stream> {
        let (worker, pools) = (self.worker.clone(), self.pools.clone());
        let tasks = worker.tasks.clone();
        let opening = async move { pools.http2.stream(|| self.own(), &tasks).await };
        apart(&worker, opening, drop).await
    }

    /// Gets a stream on a connection shared with others, or a connection of its own.
    async fn wire(self, kind: StreamKind) -> io::Result<HopWire> {
        if let Some(quic) = &self.pools.shared.quic {
            let over_quic = || OverQuic(self.clone());
            if let Some(stream) = quic.stream(kind, &self.worker.tasks, over_quic).await {
                return Ok(HopWire::Quic(Box::new(stream)));
            }
        }
        let Some(pool) = self.pools.shared.mux.clone() else { return self.own().await };
        let worker = self.worker.clone();
        if pool.wants_spread() {
            let (pool, dial) = (pool.clone(), self.clone());
            worker.tasks.spawn_local("another connection of streams", async move {
                let host = host(&dial.worker);
                if let Err(error) = pool.spread(host, || dial.clone().open()).await {
                    debug!(error = chain(&error), "cannot open another connection of streams");
                }
            });
        }
        let limit = self.limit;
        pool.wire(kind, host(&worker), limit, || self.open()).await
    }

    /// Opens a connection of its own, to a proxy or outside the mesh.
    ///
    /// # Errors
    /// Those of the network and of the handshake; `TimedOut` after the limit.
    pub(super) async fn own(self) -> io::Result<HopWire> {
        let Some(outside) = &self.pools.outside else {
            return Ok(HopWire::Own(self.open().await?));
        };
        // Connections are shared with proxies only.
        let offered = self.config.alpn_protocols.iter();
        let offered: Vec<Vec<u8>> =
            offered.filter(|protocol| **protocol != mux::ALPN.as_bytes()).cloned().collect();
        let opened = outside.open(&self.worker.tasks, &offered, self.limit).await;
        let refused = opened.as_ref().err().is_some_and(is_of_handshake);
        self.series.handshakes_failed.add(u64::from(refused));
        opened.map(|wire| wire.counted(&self.series))
    }

    /// Opens a connection to a proxy.
    async fn open(self) -> io::Result<ClientTls> {
        let Self { worker, pools, name, config, series, limit } = self;
        let before = worker.current();
        let connect = async {
            let began = clock::instant();
            let stream = connect_tcp(pools.address, limit).await?;
            if let Some(quic) = &pools.shared.quic {
                quic.note_round_trip(clock::instant() - began);
            }
            if !worker.descriptors.has_room_onwards(&stream) {
                return Err(io::Error::other("too many open files"));
            }
            let tls = TlsConnector::from(config).connect(name, Socket::new(stream)).await?;
            Ok(Box::new(tls))
        };
        let connected = tokio::time::timeout(limit, connect).await;
        welcome(&worker, &before, &series, connected.unwrap_or(Err(io::ErrorKind::TimedOut.into())))
    }
}

/// Carries out what opens something in a task of its own; what nobody waits for any more is left to
/// `keep`.
async fn apart<T: 'static>(
    worker: &Worker,
    opening: impl Future<Output = io::Result<T>> + 'static,
    keep: impl FnOnce(T) + 'static,
) -> io::Result<T> {
    let (tell, told) = oneshot::channel();
    worker.tasks.spawn_local("opening a connection", async move {
        if let Err(Ok(opened)) = tell.send(opening.await) {
            keep(opened);
        }
    });
    told.await.unwrap_or_else(|_| Err(io::ErrorKind::ConnectionAborted.into()))
}

/// Opens a connection over QUIC.
struct OverQuic(Dial);

impl quic::Dial for OverQuic {
    async fn dial(self, config: quic::CallerConfig) -> io::Result<(Dialled, Company)> {
        let Dial { worker, pools, name, series, .. } = self.0;
        let before = worker.current();
        let dialled = worker.quic.call(config, pools.address, &name.to_str()).await;
        let dialled = dialled.inspect_err(|error| count_handshake(error, &series))?;
        let shown = dialled.chain();
        check_shown(&worker, &before, &series, &shown)?;
        let live = worker.watch_server(shown);
        Ok((dialled, Dialled::company(live, &series)))
    }
}

fn host(worker: &Worker) -> Host<'_> {
    Host { tasks: &worker.tasks, counts: &worker.mux.outbound, workers: worker.mux.workers }
}

/// Takes a connection into service, or counts why there is none.
fn welcome(
    worker: &Worker,
    before: &Local,
    series: &Arc<Series>,
    connected: io::Result<ClientTls>,
) -> io::Result<ClientTls> {
    let mut tls = connected.inspect_err(|error| count_handshake(error, series))?;
    let shown = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let shown: Vec<_> = shown.iter().map(|it| it.clone().into_owned()).collect();
    check_shown(worker, before, series, &shown)?;
    let socket = tls.get_mut().0;
    socket.watch(worker.watch_server(shown));
    socket.count(series);
    Ok(tls)
}

/// Judges who was revoked during the handshake; later ones are judged by the worker.
fn check_shown(
    worker: &Worker,
    before: &Local,
    series: &Series,
    shown: &[CertificateDer<'static>],
) -> io::Result<()> {
    let credentials = &worker.current().workload.credentials;
    let loss = credentials.loss_since(&before.workload.credentials);
    if credentials.still_trusts(shown, loss) {
        return Ok(());
    }
    series.handshakes_failed.add(1);
    Err(io::Error::other("who answers is no longer trusted"))
}

fn count_handshake(error: &io::Error, series: &Series) {
    series.handshakes_failed.add(u64::from(is_of_handshake(error)));
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
    note_unreached(plan.called(), number);
    let error = chain(error);
    debug!(target = %plan.target().id, instance = %endpoint.instance, number, error,
        "cannot reach an endpoint");
    plan.observed.failed(&error);
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
            target.id, endpoint.pools.address, target.spiffe_id
        ),
    };
    Refusal::new(status, cause, message).unreached()
}
