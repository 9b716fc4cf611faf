//! A connection from another proxy: the handshake, and who calls.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};
use weft_core::config_entry::Protocol;
use weft_core::local_address::LocalAddress;
use weft_core::log_format::LogRecord;
use weft_core::name::ServiceName;
use weft_core::traffic::mux;
use weft_runtime::clock;
use weft_runtime::net::TcpStream;
use weft_runtime::tls::rustls::pki_types::CertificateDer;
use weft_runtime::tls::rustls::{ProtocolVersion, ServerConnection};
use weft_runtime::tls::tokio_rustls::TlsAcceptor;
use weft_runtime::tls::{PeerCertificate, peer_certificate};

use super::authorize::judge_connection;
use super::forward::LocalApp;
use super::own_app::{header, open_with};
use super::{datagrams, plaintext, rates, streams};
use crate::http::general::{Engine, serve};
use crate::http::{Session, chain};
use crate::identity::ALPN_HTTP2;
use crate::limits::Limits;
use crate::listen::{Caller, Live, Local, Place, Worker};
use crate::observe::{Carried, Flow, FlowKey, From, Open, Party, Side};
use crate::tcp::copy_both;
use crate::transport::{Buffer, ServerTls, Socket, Timer, Wire};

/// Serves one connection to its end.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    (stream, place): (TcpStream, Option<Place>),
    live: Rc<Live>,
) {
    let local = worker.current();
    let (remote, called) = (stream.peer_addr().ok(), stream.local_addr().ok());
    let inbound = &local.workload.snapshot.inbound;
    // Without TLS there are no datagrams.
    let takes_plaintext = inbound.takes_plaintext && inbound.protocol != Protocol::Udp;
    if takes_plaintext && !plaintext::is_tls(&stream).await {
        // It may have become strict while the caller was silent.
        let local = worker.current();
        if local.workload.snapshot.inbound.takes_plaintext {
            let ends = (remote, called);
            Box::pin(plaintext::carry((&worker, &local), stream, ends, &live)).await;
        }
        return;
    }
    // Boxed, so that its size is given back once it is done.
    let shaken = Box::pin(handshake(&local, stream, live.limits().handshake)).await;
    let (tls, certificate, service) = match shaken {
        Ok(shaken) => shaken,
        Err(error) => {
            local.inbound.handshakes_failed.add(1);
            let reason = chain(&error);
            debug!(error = reason, "handshake failed");
            tell_unknown((&worker, &local), &live, remote, reason);
            return;
        }
    };
    let protocol = local.workload.snapshot.inbound.protocol;
    let by = (&*worker, &*local, tls.get_ref().1);
    let caller = who_calls(by, (certificate, service), (remote, called));
    let Some((local, caller)) = recognise(&worker, &local, caller, &live) else { return };
    let _open = Open::new(&local.inbound);
    if tls.get_ref().1.alpn_protocol() == Some(mux::ALPN.as_bytes()) {
        // Its streams have places of their own.
        drop(place);
        Box::pin(streams::carry(worker, tls, caller, live)).await;
        return;
    }
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2.as_bytes());
    match (protocol, is_http2) {
        (Protocol::Tcp, _) => Box::pin(copy((&worker, &local), tls, &caller, &live)).await,
        (Protocol::Udp, _) => {
            let _place = place;
            Box::pin(datagrams::carry((&worker, &local), tls, &caller, &live)).await;
        }
        (Protocol::Http | Protocol::Http2 | Protocol::Grpc, true) => {
            let tasks = worker.tasks.clone();
            live.set_shared();
            let hop = LocalApp::new(worker, local, caller, &live);
            let input = Buffer::default();
            Box::pin(serve((tls, input), Engine::Http2, hop, &live, &tasks)).await;
        }
        (Protocol::Http | Protocol::Http2 | Protocol::Grpc, false) => {
            let hop = LocalApp::new(worker, local, caller, &live);
            Session::new(tls, hop, live, Buffer::default()).run().await;
        }
    }
}

/// Puts together who calls.
fn who_calls(
    (worker, local, tls): (&Worker, &Local, &ServerConnection),
    (certificate, service): (PeerCertificate, ServiceName),
    (remote, called): (Option<SocketAddr>, Option<SocketAddr>),
) -> Caller {
    let chain = tls.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let PeerCertificate { id, valid_before, .. } = certificate;
    let remote = remote.map(|peer| SocketAddr::new(peer.ip(), peer.port()));
    let sni = tls.server_name().map(Into::into);
    let tls_version = match tls.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let flow = flow((worker, local), Party::of(&service, &id), true);
    Caller { id, service, remote, called, sni, tls_version, chain, valid_before, flow }
}

/// Finishes mTLS and reads the caller's identity. The verifier has checked chain and trust
/// domain; a resumed session is checked for expiry here.
async fn handshake(
    local: &Local,
    stream: TcpStream,
    limit: Duration,
) -> io::Result<(ServerTls, PeerCertificate, ServiceName)> {
    let acceptor = TlsAcceptor::from(Arc::clone(&local.workload.inbound_tls));
    let tls = tokio::time::timeout(limit, acceptor.accept(Socket::new(stream))).await??;
    let tls = Box::new(tls);
    let (certificate, service) =
        identify(local, tls.get_ref().1.peer_certificates().unwrap_or_default())?;
    Ok((tls, certificate, service))
}

/// Reads the identity of who has shown a chain that was verified.
pub(super) fn identify(
    local: &Local,
    chain: &[CertificateDer<'_>],
) -> io::Result<(PeerCertificate, ServiceName)> {
    let refused = |reason: &str| io::Error::new(io::ErrorKind::PermissionDenied, reason.to_owned());
    let certificate = peer_certificate(chain).map_err(|error| refused(&error.to_string()))?;
    if certificate.valid_before <= clock::wall() {
        return Err(refused("the caller's certificate has expired"));
    }
    if certificate.id.trust_domain != local.workload.snapshot.trust_bundle.trust_domain {
        return Err(refused("the caller is of another trust domain"));
    }
    let service = certificate.id.service_name().cloned();
    let service = service.ok_or_else(|| refused("only services call services"))?;
    Ok((certificate, service))
}

/// Notes who calls on a connection, with the workload in force by now. A caller decides how long its
/// handshake takes: roots that were taken away meanwhile are judged here, intentions later.
pub(super) fn recognise(
    worker: &Worker,
    then: &Local,
    caller: Caller,
    live: &Live,
) -> Option<(Rc<Local>, Rc<Caller>)> {
    let local = worker.current();
    let credentials = &local.workload.credentials;
    let loss = credentials.loss_since(&then.workload.credentials);
    if !credentials.still_trusts(&caller.chain, loss) {
        local.inbound.handshakes_failed.add(1);
        debug!(caller = %caller.id, "the caller's root is no longer trusted");
        return None;
    }
    let caller = Rc::new(caller);
    live.set_caller(caller.clone());
    Some((local, caller))
}

/// Carries bytes to the local instance, if the caller may.
pub(super) async fn copy<W: Wire>(
    (worker, local): (&Worker, &Local),
    mut wire: W,
    caller: &Caller,
    live: &Live,
) {
    live.set_busy(true);
    let (flow, from) = (Some(caller.flow.clone()), (live, caller.remote, Some(&caller.service)));
    let carried = begin((worker, local, flow), from, |record| caller.tell(record));
    if !may_connect(local, caller) {
        return carried.fail("intention-denied");
    }
    if local.workload.snapshot.inbound.ext_authz.is_some() {
        warn!(caller = %caller.id, "connection refused: an external authoriser judges requests, not bytes");
        return carried.fail("authoriser-failed");
    }
    if !rates::may_open((worker, local), caller) {
        return carried.fail("rate-limited");
    }
    let header = header(local, caller);
    carry_bytes(local, &mut wire, (carried, &caller.id, header), live.limits()).await;
}

/// Begins to count a connection, and its line.
pub(super) fn begin(
    (worker, local, flow): (&Worker, &Local, Option<Arc<Flow>>),
    (live, remote, calling): (&Live, Option<SocketAddr>, Option<&ServiceName>),
    fill: impl FnOnce(&mut LogRecord),
) -> Carried {
    let called = &local.workload.snapshot.service;
    let log = (worker.watchers(local), (calling, Some(called)), &worker.log);
    Carried::begin((&local.inbound, flow), log, &mut worker.random.borrow_mut(), |record| {
        let (direction, connection) = ("inbound", live.number());
        let bind = local.workload.snapshot.inbound.bind;
        From { direction, connection, remote, local: LocalAddress::Tcp(bind) }.tell(record);
        fill(record);
    })
}

/// Carries bytes between a caller and the local instance.
pub(super) async fn carry_bytes<W: Wire>(
    local: &Local,
    wire: &mut W,
    (mut carried, caller, header): (Carried, &dyn Display, Option<Vec<u8>>),
    limits: &Limits,
) {
    let inbound = &local.workload.snapshot.inbound;
    let limit = inbound.connect_timeout;
    let mut app = match open_with(&inbound.local_app, limit, header.as_deref()).await {
        Ok(app) => app,
        Err(error) => {
            debug!(error = chain(&error), "cannot reach the local instance");
            carried.tell(|record| record.transport_failure = Some(chain(&error).into()));
            return carried.fail("app-unreachable");
        }
    };
    carried.tell(|record| record.upstream = Some(inbound.local_app.clone()));
    let (there, back) = (Buffer::default(), Buffer::default());
    let how = (limits, &carried.tally);
    match copy_both((wire, there), (&mut app, back), how, Timer::default()).await {
        None => carried.end(),
        Some(error) => {
            debug!(%caller, error = chain(&error), "connection broke off");
            carried.fail("connection-broken");
        }
    }
}

/// Returns the counts of what a caller asks of the local instance.
pub(super) fn flow(
    (worker, local): (&Worker, &Local),
    source: Party,
    is_mutual: bool,
) -> Arc<Flow> {
    let snapshot = &local.workload.snapshot;
    worker.flow(FlowKey {
        side: Side::Inbound,
        source,
        destination: Party::of(&snapshot.service, &snapshot.spiffe_id),
        cluster: "local_app".into(),
        route: 0,
        protocol: snapshot.inbound.protocol,
        is_mutual,
    })
}

/// Tells of a connection that ended before it was known who calls.
pub(super) fn tell_unknown(
    (worker, local): (&Worker, &Local),
    live: &Live,
    remote: Option<SocketAddr>,
    reason: String,
) {
    if local.workload.logs.as_ref().is_some_and(|logs| logs.tells_of_listeners()) {
        let carried = begin((worker, local, None), (live, remote, None), |record| {
            record.transport_failure = Some(reason.into());
        });
        carried.fail("handshake-refused");
    }
}

/// Judges a connection that carries bytes; counts and logs what is refused, or would be.
pub(super) fn may_connect(local: &Local, caller: &Caller) -> bool {
    let workload = &local.workload;
    let judgement = judge_connection(workload, caller);
    let own = &workload.snapshot.service;
    let why = || workload.judge.explain(&judgement, &caller.service, own);
    if let Some(decisions) = &local.decisions
        && let Some(verdict) = decisions.worth_telling(&judgement)
    {
        decisions.tell(verdict, caller.asking(own, None), why());
    }
    let caller = &caller.id;
    if !judgement.allowed {
        local.inbound.denied.add(1);
        debug!(%caller, why = why(), "connection refused");
    } else if judgement.is_dry_run {
        local.inbound.dry_run_denied.add(1);
        info!(%caller, why = why(), "connection would be refused");
    }
    judgement.allowed
}
