//! Whether a request moves on: its body without standing still, then its answer within the limit.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use weft_runtime::clock;

use crate::transport::Timer;

/// Watches one request. Nothing is armed and no time is read while all goes on at once.
pub(super) struct Watch {
    limit: Option<Duration>,
    stall: Duration,
    moved: Option<u64>,
    answer_by: Option<Instant>,
    move_by: Option<Instant>,
}

impl Watch {
    /// Makes one: how long the answer may take once the request is sent, `None` for ever, until
    /// when, if that is known before, and how long a body may stand still.
    pub(super) fn new(
        (limit, answer_by): (Option<Duration>, Option<Instant>),
        stall: Duration,
    ) -> Self {
        Self { limit, stall, moved: None, answer_by, move_by: None }
    }

    /// Ready when it takes too long, given whether the request is sent and the bytes that moved.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        (is_sent, moved): (bool, u64),
    ) -> Poll<()> {
        if !is_sent {
            return self.poll_moved(cx, timer, moved);
        }
        let Some(limit) = self.limit else { return Poll::Pending };
        let at = *self.answer_by.get_or_insert_with(|| clock::instant() + limit);
        timer.poll_past(cx, at)
    }

    /// Ready when nothing has moved for too long.
    pub(super) fn poll_moved(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        moved: u64,
    ) -> Poll<()> {
        if self.moved != Some(moved) {
            self.moved = Some(moved);
            self.move_by = Some(clock::instant() + self.stall);
        }
        match self.move_by {
            Some(at) => timer.poll_past(cx, at),
            None => Poll::Pending,
        }
    }
}
