//! Whether a request moves on: its body without standing still, then its answer within the limit.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use weft_runtime::clock;

use super::refusal::Refusal;
use crate::transport::Timer;

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the answer once the request is sent; `None` for ever.
    pub(crate) answer: Option<Duration>,
    /// How long a body may stand still.
    pub(crate) stall: Duration,
    /// How long nothing may move at all, if the route says so; it stands in place of `stall`.
    pub(crate) idle: Option<Duration>,
}

/// What took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lateness {
    /// The answer, or a body that stood still.
    Answer,
    /// Nothing has moved for as long as the route allows.
    Idle,
}

impl Lateness {
    /// Returns what the caller is told.
    pub(crate) fn refusal(self) -> Refusal {
        let (cause, message) = match self {
            Self::Answer => (
                "request-timeout",
                "the next hop did not answer within the route's request timeout",
            ),
            Self::Idle => ("idle-timeout", "nothing has moved for the route's idle timeout"),
        };
        Refusal::new(504, cause, message)
    }
}

/// Watches one request. Nothing is armed and no time is read while all goes on at once.
pub(super) struct Watch {
    patience: Patience,
    moved: Option<u64>,
    answer_by: Option<Instant>,
    move_by: Option<Instant>,
}

impl Watch {
    /// Makes one: how long things may take, and until when the answer, if that is known before.
    pub(super) fn new(patience: Patience, answer_by: Option<Instant>) -> Self {
        Self { patience, moved: None, answer_by, move_by: None }
    }

    /// Ready when it takes too long, given whether the request is sent and the bytes that moved.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        (is_sent, moved): (bool, u64),
    ) -> Poll<Lateness> {
        if !is_sent {
            return self.poll_moved(cx, timer, moved);
        }
        let answer_by = self
            .patience
            .answer
            .map(|limit| *self.answer_by.get_or_insert_with(|| clock::instant() + limit));
        let idle_by = self.patience.idle.map(|_| self.move_by(moved));
        match (answer_by, idle_by) {
            (None, None) => Poll::Pending,
            (Some(at), None) => timer.poll_past(cx, at).map(|()| Lateness::Answer),
            (Some(at), Some(idle_by)) if at <= idle_by => {
                timer.poll_past(cx, at).map(|()| Lateness::Answer)
            }
            (_, Some(at)) => timer.poll_past(cx, at).map(|()| Lateness::Idle),
        }
    }

    /// Ready when nothing has moved for too long.
    pub(super) fn poll_moved(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        moved: u64,
    ) -> Poll<Lateness> {
        let at = self.move_by(moved);
        let lateness = self.patience.idle.map_or(Lateness::Answer, |_| Lateness::Idle);
        timer.poll_past(cx, at).map(|()| lateness)
    }

    /// Returns until when something must move next.
    fn move_by(&mut self, moved: u64) -> Instant {
        match self.move_by {
            Some(at) if self.moved == Some(moved) => at,
            Some(_) | None => {
                self.moved = Some(moved);
                let limit = self.patience.idle.unwrap_or(self.patience.stall);
                *self.move_by.insert(clock::instant() + limit)
            }
        }
    }
}
