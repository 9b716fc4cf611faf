//! Connections without mutual TLS, for a service whose callers are still being brought into the
//! mesh. Nobody is known, so no intention is asked: bytes go to the local instance as they come.
//!
//! **Source**: Consul: docs/connect/config-entries/service-defaults#mutualtlsmode.

use std::net::SocketAddr;
use std::time::Duration;

use weft_runtime::net::TcpStream;

use super::accept::{begin, carry_bytes, flow};
use super::own_app::bare_header;
use crate::listen::{Live, Local, Worker};
use crate::observe::{Open, Party};

/// The first byte of every TLS connection: a record of the handshake.
///
/// **Source**: Spec: RFC 8446 §5.1.
const HANDSHAKE: u8 = 22;
/// How long a caller is waited for before it counts as one that waits for the service to speak
/// first: proxies begin at once.
const SILENCE: Duration = Duration::from_secs(1);

/// Whether the caller begins with TLS. What it has said stays to be read.
pub(super) async fn is_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    match tokio::time::timeout(SILENCE, stream.peek(&mut first)).await {
        Ok(Ok(1..)) => first[0] == HANDSHAKE,
        // An end or an error is met again in the handshake.
        Ok(Ok(0) | Err(_)) => true,
        Err(_) => false,
    }
}

/// Carries bytes to the local instance.
pub(super) async fn carry(
    (worker, local): (&Worker, &Local),
    mut stream: TcpStream,
    (remote, called): (Option<SocketAddr>, Option<SocketAddr>),
    live: &Live,
) {
    live.set_plaintext();
    live.set_busy(true);
    let source = remote.map(|remote| remote.ip());
    worker.note_plaintext(source);
    let _open = Open::new(&local.inbound);
    let flow = flow((worker, local), Party::unknown(), false);
    let carried = begin((worker, local, Some(flow)), (live, remote, None), |record| {
        record.cluster = "local_app".into();
    });
    let version = local.workload.snapshot.inbound.proxy_protocol;
    let header = bare_header(remote.zip(called), version);
    let caller = format!("{source:?}");
    carry_bytes(local, &mut stream, (carried, &caller, header), live.limits()).await;
}
