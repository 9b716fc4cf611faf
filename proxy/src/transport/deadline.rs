//! Deadlines that cost next to nothing while they are kept.
//!
//! A connection's deadline moves with each request, nearly always to later. The runtime's timer
//! is therefore left where it is and asked again when it fires: per request a comparison, not
//! an entry in the timer wheel.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;
use weft_runtime::clock;

/// The timer of one connection. Polled by one task only.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed_for: Option<Instant>,
}

/// States that a deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time limit passed")]
pub(crate) struct Elapsed;

impl Timer {
    /// Runs a future until the deadline; `None` waits for ever.
    ///
    /// # Errors
    /// [`Elapsed`] when the deadline passed first.
    pub(crate) fn bound<F: Future>(
        &mut self,
        deadline: Option<Instant>,
        future: F,
    ) -> Bound<'_, F> {
        Bound { timer: self, deadline, future }
    }

    /// Ready once the deadline has passed; else the task is woken not later than that.
    pub(crate) fn poll_past(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = match (&mut self.sleep, self.armed_for) {
            // The task that polls is always the same, so the waker left in the timer is right.
            (Some(sleep), Some(armed_for)) if armed_for <= deadline && !sleep.is_elapsed() => {
                return Poll::Pending;
            }
            (Some(sleep), _) => sleep,
            (none, _) => none.insert(Box::pin(tokio::time::sleep(Duration::ZERO))),
        };
        if clock::instant() >= deadline {
            return Poll::Ready(());
        }
        sleep.as_mut().reset(deadline.into());
        self.armed_for = Some(deadline);
        sleep.as_mut().poll(cx)
    }
}

pin_project_lite::pin_project! {
    /// A future under a deadline.
    pub(crate) struct Bound<'a, F> {
        timer: &'a mut Timer,
        deadline: Option<Instant>,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Bound<'_, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match this.deadline {
            Some(deadline) => this.timer.poll_past(cx, *deadline).map(|()| Err(Elapsed)),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_is_kept() {
        let mut timer = Timer::default();
        let start = clock::instant();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let elapsed = |start: Instant| clock::instant() - start;
        for (deadline, wait, want_ms) in [
            (at(100), 50, 50),
            (at(200), 100, 150),
            (at(170), 100, 170),
            (at(1_000), 5_000, 1_000),
            (at(1_500), 5_000, 1_500),
            (None, 10, 1_510),
        ] {
            let sleep = tokio::time::sleep(Duration::from_millis(wait));
            let in_time = timer.bound(deadline, sleep).await.is_ok();
            assert_eq!(elapsed(start).as_millis(), want_ms);
            assert_eq!(in_time, deadline.is_none_or(|deadline| clock::instant() < deadline));
        }
    }
}
