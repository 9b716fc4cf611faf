//! A session from its first datagram to its last: what its plaintext end has goes over the hop, and back.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use weft_runtime::clock;

use super::hop::{Heard, Hop};
use crate::listen::Live;
use crate::observe::{Lost, Side, UdpCounts};
use crate::tcp::Tally;
use crate::transport::{Timer, Wire};

/// How long a session that is to end waits for what may still come: a usual resolver waits that long for an
/// answer (resolv.conf: `timeout`).
const QUIET: Duration = Duration::from_secs(5);
/// Datagrams one way before others have their turn.
const TURN: usize = 64;

/// The plaintext end of a session: a client, or the local instance.
pub(crate) trait End {
    /// Where datagrams towards the hop come from: those of a client go out, those of the local instance
    /// back.
    const SIDE: Side;

    /// Takes a datagram; `None` when there will be no further ones.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;

    /// Gives a datagram, or says why it is lost. Never waits.
    ///
    /// # Errors
    /// [`Lost`].
    fn give(&mut self, datagram: &[u8]) -> Result<(), Lost>;

    /// Takes note that the other proxy wants a new session for what comes.
    fn leave(&mut self);
}

/// What a session is held to, and where it is counted.
pub(crate) struct How<'a> {
    pub(crate) live: &'a Live,
    pub(crate) counts: &'a UdpCounts,
    pub(crate) tally: &'a Tally,
}

/// How a session has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The other proxy is gone, or has refused it.
    Broken(io::Error),
    /// There was nothing left to wait for.
    Over,
}

struct Exchange<'a, E, W> {
    end: &'a mut E,
    hop: &'a mut Hop<W>,
    how: How<'a>,
    /// Until there is nothing further from the plaintext end.
    is_open: bool,
    is_leaving: bool,
    moved: u64,
    moved_at: Instant,
}

/// Carries datagrams until nobody has any.
pub(crate) async fn exchange<E: End, W: Wire>(
    end: &mut E,
    hop: &mut Hop<W>,
    how: How<'_>,
) -> Ended {
    let (mut timer, moved_at) = (Timer::default(), clock::instant());
    let (is_open, is_leaving, moved) = (true, false, 0);
    let mut exchange = Exchange { end, hop, how, is_open, is_leaving, moved, moved_at };
    poll_fn(|cx| {
        let ended = match exchange.poll(cx, &mut timer) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => Ended::Over,
            Err(error) => Ended::Broken(error),
        };
        if matches!(ended, Ended::Over) {
            exchange.hop.finish(cx);
        }
        Poll::Ready(ended)
    })
    .await
}

impl<E: End, W: Wire> Exchange<'_, E, W> {
    fn poll(&mut self, cx: &mut Context<'_>, timer: &mut Timer) -> io::Result<Poll<()>> {
        let heard = self.hear(cx)?;
        let has_more = self.say(cx)?;
        self.how.counts.lost(Lost::QueueFull, self.hop.take_lost());
        let moved = self.how.tally.datagrams();
        if moved != self.moved {
            (self.moved, self.moved_at) = (moved, clock::instant());
        }
        if heard == Heard::End {
            return Ok(Poll::Ready(()));
        }
        if heard == Heard::More || has_more {
            cx.waker().wake_by_ref();
        }
        if self.how.live.is_draining() && !self.is_leaving {
            self.is_leaving = true;
            match E::SIDE {
                // The next datagram of the client goes to another process, or nowhere.
                Side::Outbound => self.end.leave(),
                Side::Inbound => {
                    self.hop.send_leave();
                    let _ = self.hop.poll_flush(cx)?;
                }
            }
        }
        let limit = match self.is_leaving || !self.is_open {
            true => QUIET,
            false => self.how.live.limits().udp_idle,
        };
        Ok(timer.poll_past(cx, self.moved_at + limit))
    }

    /// From the hop to the plaintext end.
    fn hear(&mut self, cx: &mut Context<'_>) -> io::Result<Heard> {
        let Self { end, hop, how, is_leaving, .. } = self;
        hop.poll_each(cx, &mut |came| match came {
            None => {
                *is_leaving = true;
                end.leave();
            }
            Some(datagram) => match end.give(datagram) {
                Ok(()) => note(how, E::SIDE.other(), datagram.len()),
                Err(lost) => how.counts.lost(lost, 1),
            },
        })
    }

    /// From the plaintext end to the hop; whether there may be more.
    fn say(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut has_more = self.is_open;
        for _ in 0..TURN {
            // While the hop takes nothing, what comes waits where it comes from, and is lost there.
            if !self.is_open || self.hop.poll_room(cx)?.is_pending() {
                has_more = false;
                break;
            }
            match self.end.poll_take(cx) {
                Poll::Pending => {
                    has_more = false;
                    break;
                }
                Poll::Ready(None) => self.is_open = false,
                Poll::Ready(Some(datagram)) => match self.hop.send(&datagram) {
                    true => note(&self.how, E::SIDE, datagram.len()),
                    false => self.how.counts.lost(Lost::HopFull, 1),
                },
            }
        }
        let _ = self.hop.poll_flush(cx)?;
        Ok(has_more)
    }
}

/// Counts a datagram: towards the service, or back from it.
fn note(how: &How<'_>, side: Side, bytes: usize) {
    how.tally.add(side, bytes);
    match side {
        Side::Outbound => how.counts.sent.add(1),
        Side::Inbound => how.counts.received.add(1),
    }
}
