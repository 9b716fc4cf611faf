//! One end of a simulated connection, as the runtime's door for sockets takes it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_runtime::world::{WorldListener, WorldStream};

use crate::network::{Answer, End, Network};

/// The network, shared by all hosts of one simulation.
pub(crate) type SharedNetwork = Arc<Mutex<Network>>;

#[derive(Debug)]
pub(crate) struct SimStream {
    network: SharedNetwork,
    id: u64,
    end: End,
    peer: SocketAddr,
    is_shut: bool,
}

impl SimStream {
    fn new(network: SharedNetwork, id: u64, end: End) -> io::Result<Self> {
        let ends = network.lock().ends(id).ok_or(io::ErrorKind::ConnectionReset)?;
        let peer = match end {
            End::Client => ends[1],
            End::Server => ends[0],
        };
        Ok(Self { network, id, end, peer, is_shut: false })
    }
}

impl WorldStream for SimStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut network = self.network.lock();
        let Some(incoming) = network.incoming(self.id, self.end) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let mut taken = 0;
        while buffer.remaining() > 0
            && let Some(first) = incoming.ready.front_mut()
        {
            let length = first.len().min(buffer.remaining());
            buffer.put_slice(&first[..length]);
            first.advance(length);
            taken += length;
            if first.is_empty() {
                incoming.ready.pop_front();
            }
        }
        if taken > 0 {
            incoming.bytes -= taken;
            if let Some(writer) = incoming.writer.take() {
                drop(network);
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
        if incoming.is_ended {
            return Poll::Ready(Ok(()));
        }
        incoming.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let copy = Bytes::copy_from_slice(bytes);
        match self.network.lock().send(self.id, self.end, Some(copy), context.waker()) {
            Ok(true) => Poll::Ready(Ok(bytes.len())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_shut, true) {
            let _ = self.network.lock().send(self.id, self.end, None, context.waker());
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.network.lock().close(self.id, self.end, Waker::noop());
    }
}

#[derive(Debug)]
pub(crate) struct SimListener {
    pub(crate) network: SharedNetwork,
    pub(crate) address: SocketAddr,
}

impl WorldListener for SimListener {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn WorldStream>, SocketAddr)>> {
        Box::pin(std::future::poll_fn(|context| {
            let mut network = self.network.lock();
            let Some(backlog) = network.listeners.get_mut(&self.address) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let Some(id) = backlog.waiting.pop_front() else {
                backlog.waker = Some(context.waker().clone());
                return Poll::Pending;
            };
            drop(network);
            Poll::Ready(SimStream::new(self.network.clone(), id, End::Server).map(|stream| {
                let peer = stream.peer;
                (Box::new(stream) as Box<dyn WorldStream>, peer)
            }))
        }))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.network.lock().listeners.remove(&self.address);
    }
}

/// Connects from a host.
pub(crate) async fn connect(
    network: SharedNetwork,
    from: IpAddr,
    to: SocketAddr,
) -> io::Result<Box<dyn WorldStream>> {
    let (id, answer) = network.lock().knock(from, to);
    // From here on a drop closes the connection.
    let stream = SimStream::new(network, id, End::Client)?;
    std::future::poll_fn(|context| {
        let mut answer: parking_lot::MutexGuard<'_, Answer> = answer.lock();
        match answer.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                answer.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await?;
    Ok(Box::new(stream))
}
