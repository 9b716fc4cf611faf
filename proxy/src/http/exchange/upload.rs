//! The body of a request on its way to the next hop.

use std::task::{Context, Poll, ready};

use super::super::pump::{Pump, PumpError};
use super::super::watch::Watch;
use super::unanswered::Unanswered;
use crate::transport::{Buffer, Timer, Wire};

/// The request body's way.
pub(super) struct Upload {
    pub(super) pump: Pump,
    pub(super) is_done: bool,
    pub(super) bytes_max: u64,
    /// The next hop takes no more of it.
    pub(super) has_failed: bool,
}

impl Upload {
    /// Whether the next hop has got all of it.
    pub(super) fn is_sent(&self) -> bool {
        self.is_done && !self.has_failed
    }

    /// Ready when it stands still or the answer is late.
    pub(super) fn watched(
        &self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        watch: &mut Watch,
    ) -> Poll<Unanswered> {
        let is_over = self.is_done || self.has_failed;
        watch.poll(cx, timer, (is_over, self.pump.moved)).map(Unanswered::Late)
    }

    /// Moves on; an error is the client's. That the next hop takes no more is noted, and not an
    /// error: its answer counts.
    pub(super) fn poll<C: Wire, U: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        input: &mut Buffer,
        upstream: &mut U,
    ) -> Poll<Result<(), PumpError>> {
        if self.is_done || self.has_failed {
            return Poll::Ready(Ok(()));
        }
        let polled = self.pump.poll(cx, (client, input), upstream);
        if self.pump.moved > self.bytes_max {
            return Poll::Ready(Err(PumpError::TooLarge));
        }
        match ready!(polled) {
            Ok(()) => self.is_done = true,
            Err(PumpError::To(_)) => self.has_failed = true,
            Err(error) => return Poll::Ready(Err(error)),
        }
        Poll::Ready(Ok(()))
    }
}
