//! How far a request's body has come, and how long its answer may take.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::super::refusal::Refusal;
use super::super::watch::{Patience, Watch};
use crate::transport::Timer;

/// How far a request's body has come on its way to the next hop.
#[derive(Debug, Default)]
pub(super) struct Progress {
    bytes: Cell<u64>,
    /// Nothing of it is to come any more.
    is_over: Cell<bool>,
    /// Who waits for that.
    waiting: RefCell<Option<Waker>>,
}

impl Progress {
    /// Returns the bytes that have passed.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Counts bytes that pass.
    pub(super) fn pass(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    /// Notes that nothing more comes.
    pub(super) fn end(&self) {
        self.is_over.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    fn poll_over(&self, cx: &mut Context<'_>) -> bool {
        let is_over = self.is_over.get();
        if !is_over {
            *self.waiting.borrow_mut() = Some(cx.waker().clone());
        }
        is_over
    }

    /// Waits for an answer: while the body comes, as long as it does not stand still for too long;
    /// then within its limit.
    ///
    /// # Errors
    /// Those of the future, and 504 when it takes too long.
    pub(super) async fn answered<T>(
        &self,
        patience: Patience,
        sending: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let (mut watch, mut timer) = (Watch::new(patience, None), Timer::default());
        let mut sending = pin!(sending);
        poll_fn(|cx| {
            if let Poll::Ready(answer) = sending.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            let is_over = self.poll_over(cx);
            let late = watch.poll(cx, &mut timer, (is_over, self.bytes()));
            late.map(|lateness| Err(lateness.refusal()))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_runtime::clock;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(15);
    const STALL: Duration = Duration::from_secs(300);

    #[tokio::test(start_paused = true)]
    async fn time_for_the_answer_begins_with_the_end_of_the_body() {
        let (progress, started) = (Progress::default(), clock::instant());
        let sending = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(200)).await;
                progress.pass(1);
            }
            progress.end();
            std::future::pending::<Result<(), Refusal>>().await
        };
        let patience = Patience { answer: Some(LIMIT), stall: STALL, idle: None };
        let answered = progress.answered(patience, sending).await;
        assert_eq!(answered.err().map(|refusal| refusal.status), Some(504));
        assert_eq!((clock::instant() - started).as_secs(), 615);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_given_up() {
        let (progress, started) = (Progress::default(), clock::instant());
        let sending = std::future::pending::<Result<(), Refusal>>();
        let patience = Patience { answer: None, stall: STALL, idle: None };
        assert!(progress.answered(patience, sending).await.is_err());
        assert_eq!((clock::instant() - started).as_secs(), STALL.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_on_which_nothing_moves_is_ended_by_its_route() {
        let (progress, started) = (Progress::default(), clock::instant());
        let idle = Duration::from_secs(7);
        let sending = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                progress.pass(1);
            }
            progress.end();
            std::future::pending::<Result<(), Refusal>>().await
        };
        let patience = Patience { answer: Some(LIMIT), stall: STALL, idle: Some(idle) };
        let answered = progress.answered(patience, sending).await;
        assert_eq!(answered.err().map(|refusal| refusal.cause), Some("idle-timeout"));
        assert_eq!((clock::instant() - started).as_secs(), 22);
    }
}
