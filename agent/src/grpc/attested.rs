//! A connection over a unix socket with what is known of the process that made it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use weft_core::attestation::{Caller, Cgroup};
use weft_runtime::net::{PeerError, PeerProcess, UnixStream};

/// A connection, what its calls are told of who made it, and what is held for as long as it is open.
pub(super) struct Attested<P, H = ()> {
    stream: UnixStream,
    peer: P,
    _held: H,
}

impl<P, H> Attested<P, H> {
    pub(super) fn new(stream: UnixStream, peer: P, held: H) -> Self {
        Self { stream, peer, _held: held }
    }
}

/// States why it is not known what a process is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unattested {
    /// The process has ended, or the system does not tell.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// What the system says of its control group is of no use.
    #[error("/proc/{pid}/cgroup is of no use: {reason}")]
    Cgroup {
        /// Its number.
        pid: u32,
        /// What is wrong.
        reason: String,
    },
}

/// Tells what the process is at this moment.
///
/// # Errors
/// [`Unattested`].
pub(super) fn attest(peer: &PeerProcess) -> Result<Caller, Unattested> {
    let cgroup = Cgroup::parse(&peer.cgroup()?)
        .map_err(|error| Unattested::Cgroup { pid: peer.pid(), reason: error.to_string() })?;
    Ok(Caller { uid: peer.uid(), gid: peer.gid(), pid: peer.pid(), cgroup })
}

impl<P: Clone + Send + Sync + 'static, H> Connected for Attested<P, H> {
    type ConnectInfo = P;

    fn connect_info(&self) -> P {
        self.peer.clone()
    }
}

impl<P: Unpin, H: Unpin> AsyncRead for Attested<P, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<P: Unpin, H: Unpin> AsyncWrite for Attested<P, H> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
