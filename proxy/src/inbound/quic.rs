//! A connection over QUIC from another proxy: the handshake, and who calls.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tracing::debug;
use weft_runtime::tls::PeerCertificate;

use super::accept::{flow, identify, recognise, tell_unknown};
use super::streams;
use crate::http::chain;
use crate::listen::{Caller, Live, Local, Worker};
use crate::observe::{Open, Party};
use crate::transport::quic::{Greeted, Knock};

/// Serves one connection to its end.
pub(crate) async fn accept_quic(worker: Rc<Worker>, knock: Knock, live: Rc<Live>) {
    let (local, remote) = (worker.current(), knock.address());
    // Boxed, so that its size is given back once it is done.
    let shaken = Box::pin(handshake((&worker, &local), knock, &live)).await;
    let (greeted, caller) = match shaken {
        Ok(shaken) => shaken,
        Err(error) => {
            local.inbound.handshakes_failed.add(1);
            worker.quic_counts.attempts_failed.add(1);
            let reason = chain(&error);
            debug!(error = reason, "handshake over QUIC failed");
            tell_unknown((&worker, &local), &live, Some(remote), reason);
            return;
        }
    };
    let Some((local, caller)) = recognise(&worker, &local, caller, &live) else { return };
    let _open = Open::new(&local.inbound);
    streams::carry_quic(worker, greeted, caller, live).await;
}

/// Finishes mTLS and reads the caller's identity, as over TCP. There are no resumed sessions.
async fn handshake(
    (worker, local): (&Worker, &Local),
    knock: Knock,
    live: &Live,
) -> io::Result<(Greeted, Caller)> {
    let greeted = tokio::time::timeout(live.limits().handshake, knock.greet()).await??;
    let chain = greeted.chain();
    let (certificate, service) = identify(local, &chain)?;
    let (remote, sni) = (greeted.address(), greeted.server_name());
    let remote = Some(SocketAddr::new(remote.ip(), remote.port()));
    let PeerCertificate { id, valid_before, .. } = certificate;
    let tls_version = "TLSv1.3";
    let called = Some(local.workload.snapshot.inbound.bind);
    let flow = flow((worker, local), Party::of(&service, &id), true);
    let caller =
        Caller { id, service, remote, called, sni, tls_version, chain, valid_before, flow };
    Ok((greeted, caller))
}
