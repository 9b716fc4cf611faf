//! Copying between two connections until both directions have ended.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use weft_runtime::clock;

use crate::limits::Limits;
use crate::observe::Side;
use crate::transport::{Buffer, Lease, Timer, Wire};

/// How much has gone over a connection so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Bytes from the first connection to the second.
    pub(crate) sent: Cell<u64>,
    /// Bytes from the second to the first.
    pub(crate) received: Cell<u64>,
    /// Datagrams there and back, where it carries such.
    pub(crate) datagrams: Cell<(u64, u64)>,
}

impl Tally {
    /// Counts a datagram on its way to the service, or back.
    pub(crate) fn add(&self, side: Side, bytes: usize) {
        let (there, back) = self.datagrams.get();
        match side {
            Side::Outbound => {
                self.sent.set(self.sent.get() + bytes as u64);
                self.datagrams.set((there + 1, back));
            }
            Side::Inbound => {
                self.received.set(self.received.get() + bytes as u64);
                self.datagrams.set((there, back + 1));
            }
        }
    }

    /// Returns how many datagrams have gone over it, either way.
    pub(crate) fn datagrams(&self) -> u64 {
        let (there, back) = self.datagrams.get();
        there + back
    }
}

/// One direction.
struct Direction<'a> {
    state: State,
    bytes: &'a Cell<u64>,
    is_unflushed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Copying,
    Done,
    ShuttingDown,
}

/// Copies between a client and the connection of a lease, once a request has opened a tunnel.
/// Returns why it ended early, if it did.
pub(crate) async fn tunnel<A: Wire, B: Wire>(
    (mut client, from_client): (A, Buffer),
    (mut lease, from_upstream): (Lease<B>, Buffer),
    how: (&Limits, &Tally),
    timer: Timer,
) -> Option<io::Error> {
    let upstream = lease.wire.as_mut().expect("a lease that answered has a connection");
    copy_both((&mut client, from_client), (upstream, from_upstream), how, timer).await
}

/// Copies both ways until both have ended, one fails, or nothing moves for long. The buffers
/// may hold what was read before. Returns why it ended early, if it did.
pub(crate) async fn copy_both<A: Wire, B: Wire>(
    (a, mut from_a): (&mut A, Buffer),
    (b, mut from_b): (&mut B, Buffer),
    (limits, tally): (&Limits, &Tally),
    mut timer: Timer,
) -> Option<io::Error> {
    let mut there = Direction::new(&tally.sent);
    let mut back = Direction::new(&tally.received);
    let mut idle = Idle { bytes: 0, since: clock::instant() };
    let mut ends = Ends { a, b, is_whole: false };
    let ended = poll_fn(|cx| {
        let Ends { a, b, .. } = &mut ends;
        let sent = there.poll(cx, *a, &mut from_a, *b);
        let received = back.poll(cx, *b, &mut from_b, *a);
        match (sent, received) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(Some(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(None),
            (sent, received) => {
                let is_half_closed = sent.is_ready() || received.is_ready();
                let limit = if is_half_closed { limits.half_closed } else { limits.tcp_idle };
                ready!(idle.poll(cx, &mut timer, tally.sent.get() + tally.received.get(), limit));
                Poll::Ready(Some(io::ErrorKind::TimedOut.into()))
            }
        }
    })
    .await;
    ends.is_whole = ended.is_none();
    ended
}

/// Both connections. When the copy ends early, also by being dropped because the caller is
/// refused, neither peer may take what it got for the whole.
struct Ends<'a, A: Wire, B: Wire> {
    a: &'a mut A,
    b: &'a mut B,
    is_whole: bool,
}

impl<A: Wire, B: Wire> Drop for Ends<'_, A, B> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.a.mark_broken();
            self.b.mark_broken();
        }
    }
}

/// Notices that nothing moves, without looking at the clock while something does.
struct Idle {
    bytes: u64,
    since: Instant,
}

impl Idle {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        bytes: u64,
        limit: Duration,
    ) -> Poll<()> {
        loop {
            ready!(timer.poll_past(cx, self.since + limit));
            if self.bytes == bytes {
                return Poll::Ready(());
            }
            self.bytes = bytes;
            self.since = clock::instant();
        }
    }
}

impl<'a> Direction<'a> {
    fn new(bytes: &'a Cell<u64>) -> Self {
        Self { state: State::Copying, bytes, is_unflushed: false }
    }

    /// Ready when the source has ended and the destination knows it.
    fn poll<A: Wire, B: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut A,
        buffer: &mut Buffer,
        to: &mut B,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::ShuttingDown => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Done;
                }
                State::Copying => {
                    while !buffer.is_empty() {
                        let count = ready!(Pin::new(&mut *to).poll_write(cx, buffer.filled()))?;
                        if count == 0 {
                            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                        }
                        buffer.consume(count);
                        self.bytes.set(self.bytes.get() + count as u64);
                        self.is_unflushed = true;
                    }
                    if self.is_unflushed
                        && let Poll::Ready(flushed) = Pin::new(&mut *to).poll_flush(cx)
                    {
                        flushed?;
                        self.is_unflushed = false;
                    }
                    // A silent direction holds no buffer.
                    buffer.release();
                    match ready!(from.poll_fill_ready(cx, buffer)) {
                        Ok(0) => self.state = State::ShuttingDown,
                        Ok(_) => {}
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
            }
        }
    }
}
