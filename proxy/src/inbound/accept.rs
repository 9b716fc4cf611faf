//! A connection from another proxy: the handshake, and who calls.

use std::fmt::Display;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};
use weft_core::config_entry::Protocol;
use weft_core::name::ServiceName;
use weft_core::traffic::mux;
use weft_runtime::net::TcpStream;
use weft_runtime::tls::rustls::pki_types::CertificateDer;
use weft_runtime::tls::tokio_rustls::TlsAcceptor;
use weft_runtime::tls::{PeerCertificate, peer_certificate};
use weft_runtime::{clock, net};

use super::authorize::judge_connection;
use super::forward::LocalApp;
use super::{plaintext, streams};
use crate::http::general::{Engine, serve};
use crate::http::{Session, chain};
use crate::identity::ALPN_HTTP2;
use crate::limits::Limits;
use crate::listen::{Caller, Live, Local, Place, Worker};
use crate::observe::Open;
use crate::tcp::copy_both;
use crate::transport::{Buffer, ServerTls, Socket, Timer, Wire};

/// Serves one connection to its end.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    (stream, place): (TcpStream, Option<Place>),
    live: Rc<Live>,
) {
    let local = worker.current();
    let address = stream.peer_addr().ok().map(|peer| peer.ip());
    if local.workload.snapshot.inbound.takes_plaintext && !plaintext::is_tls(&stream).await {
        // It may have become strict while the caller was silent.
        let local = worker.current();
        if local.workload.snapshot.inbound.takes_plaintext {
            Box::pin(plaintext::carry(&worker, &local, (stream, address), &live)).await;
        }
        return;
    }
    // Boxed, so that its size is given back once it is done.
    let shaken = Box::pin(handshake(&local, stream, live.limits().handshake)).await;
    let (tls, certificate, service) = match shaken {
        Ok(shaken) => shaken,
        Err(error) => {
            local.inbound.handshakes_failed.add(1);
            debug!(error = chain(&error), "handshake failed");
            return;
        }
    };
    let protocol = local.workload.snapshot.inbound.protocol;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let chain: Vec<CertificateDer<'static>> =
        chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    // A caller decides how long its handshake takes: roots that were taken away meanwhile are
    // judged here, intentions below.
    let (then, local) = (local, worker.current());
    let credentials = &local.workload.credentials;
    let loss = credentials.loss_since(&then.workload.credentials);
    if !credentials.still_trusts(&chain, loss) {
        local.inbound.handshakes_failed.add(1);
        debug!(caller = %certificate.id, "the caller's root is no longer trusted");
        return;
    }
    let sni = tls.get_ref().1.server_name().map(Into::into);
    let PeerCertificate { id, valid_before, .. } = certificate;
    let caller = Rc::new(Caller { id, service, address, sni, chain, valid_before });
    live.set_caller(caller.clone());
    let _open = Open::new(&local.inbound);
    if tls.get_ref().1.alpn_protocol() == Some(mux::ALPN.as_bytes()) {
        // Its streams have places of their own.
        drop(place);
        Box::pin(streams::carry(worker, tls, caller, live)).await;
        return;
    }
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2.as_bytes());
    match (protocol, is_http2) {
        (Protocol::Tcp, _) => Box::pin(copy(&local, tls, &caller, &live)).await,
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

/// Finishes mTLS and reads the caller's identity. The verifier has checked chain and trust
/// domain; a resumed session is checked for expiry here.
async fn handshake(
    local: &Local,
    stream: TcpStream,
    limit: Duration,
) -> io::Result<(ServerTls, PeerCertificate, ServiceName)> {
    let refused = |reason: &str| io::Error::new(io::ErrorKind::PermissionDenied, reason.to_owned());
    let acceptor = TlsAcceptor::from(Arc::clone(&local.workload.inbound_tls));
    let tls = tokio::time::timeout(limit, acceptor.accept(Socket::new(stream))).await??;
    let tls = Box::new(tls);
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = peer_certificate(chain).map_err(|error| refused(&error.to_string()))?;
    if certificate.valid_before <= clock::wall() {
        return Err(refused("the caller's certificate has expired"));
    }
    if certificate.id.trust_domain != local.workload.snapshot.trust_bundle.trust_domain {
        return Err(refused("the caller is of another trust domain"));
    }
    let service = certificate.id.service_name().cloned();
    let service = service.ok_or_else(|| refused("only services call services"))?;
    Ok((tls, certificate, service))
}

/// Carries bytes to the local instance, if the caller may.
pub(super) async fn copy<W: Wire>(local: &Local, mut wire: W, caller: &Caller, live: &Live) {
    live.set_busy(true);
    if !may_connect(local, caller) {
        return;
    }
    let inbound = &local.workload.snapshot.inbound;
    if inbound.ext_authz.is_some() {
        local.inbound.cause("authoriser-failed");
        warn!(caller = %caller.id, "connection refused: an external authoriser judges requests, not bytes");
        return;
    }
    carry_bytes(local, &mut wire, &caller.id, live.limits()).await;
}

/// Carries bytes between a caller and the local instance.
pub(super) async fn carry_bytes<W: Wire>(
    local: &Local,
    wire: &mut W,
    caller: &dyn Display,
    limits: &Limits,
) {
    let inbound = &local.workload.snapshot.inbound;
    let mut app = match net::connect_local(&inbound.local_app, inbound.connect_timeout).await {
        Ok(app) => app,
        Err(error) => {
            local.inbound.cause("app-unreachable");
            debug!(error = chain(&error), "cannot reach the local instance");
            return;
        }
    };
    let (there, back) = (Buffer::default(), Buffer::default());
    let copied = copy_both((wire, there), (&mut app, back), limits, Timer::default()).await;
    local.inbound.bytes_sent.add(copied.sent);
    local.inbound.bytes_received.add(copied.received);
    if let Some(error) = copied.error {
        local.inbound.cause("connection-broken");
        debug!(%caller, error = chain(&error), "connection broke off");
    }
}

/// Judges a connection that carries bytes; counts and logs what is refused, or would be.
fn may_connect(local: &Local, caller: &Caller) -> bool {
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
        local.inbound.cause("intention-denied");
        debug!(%caller, why = why(), "connection refused");
    } else if judgement.is_dry_run {
        local.inbound.dry_run_denied.add(1);
        info!(%caller, why = why(), "connection would be refused");
    }
    judgement.allowed
}
