//! The local instance's side of a session: a socket of its own, so that what comes back is known by it.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use weft_runtime::net::ServiceSocket;

use super::exchange::End;
use super::table::lost;
use crate::observe::{Lost, Side, UdpCounts};

thread_local! {
    /// Where datagrams of all sessions of the thread are taken.
    static TAKEN: RefCell<Box<[u8]>> = RefCell::new(vec![0; 1 << 16].into_boxed_slice());
}

/// A socket towards the local instance.
#[derive(Debug)]
pub(crate) struct AppEnd {
    socket: ServiceSocket,
    counts: Arc<UdpCounts>,
}

impl AppEnd {
    /// Makes it of a socket.
    pub(crate) fn new(socket: ServiceSocket, counts: &Arc<UdpCounts>) -> Self {
        Self { socket, counts: counts.clone() }
    }
}

impl End for AppEnd {
    const SIDE: Side = Side::Inbound;

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let taken = TAKEN.with_borrow_mut(|taken| {
                let length = ready!(self.socket.poll_take(cx, taken))?;
                Poll::Ready(Ok::<_, io::Error>(Bytes::copy_from_slice(&taken[..length])))
            });
            match ready!(taken) {
                Ok(datagram) => return Poll::Ready(Some(datagram)),
                // Each that found nobody there is told of once.
                Err(error) => self.counts.lost(lost(&error), 1),
            }
        }
    }

    fn give(&mut self, datagram: &[u8]) -> Result<(), Lost> {
        match self.socket.send(datagram) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // That was about an earlier one; this one was not sent.
                self.counts.lost(Lost::Unreachable, 1);
                self.socket.send(datagram)
            }
            sent => sent,
        }
        .map_err(|error| lost(&error))
    }

    /// The local instance knows nothing of sessions.
    fn leave(&mut self) {}
}
