//! Requests that wait because their route says so, or that no service gets.

use std::time::Instant;

use weft_runtime::clock;

use super::super::own::Own;
use super::super::session::{Hop, Outcome, Session};
use super::super::watch::Lateness;
use super::Next;
use crate::transport::Wire;

impl<C: Wire, H: Hop> Session<C, H> {
    /// Has the request that came at `started` wait, and answers it where no service gets it; `None` where it
    /// goes on. It is a HEAD or not.
    pub(super) async fn own_part(
        &mut self,
        plan: &H::Plan,
        own: Box<Own>,
        (started, to_head): (Instant, bool),
    ) -> Option<Next<H::Wire, H::Plan>> {
        if let Some(delay) = own.delay {
            let limit = self.hop.answer_limit(plan).unwrap_or(delay);
            if self.pause(delay.min(limit)).await {
                let duration = clock::instant() - started;
                let outcome = Outcome::refused(0, "client-gone", duration);
                self.hop.record(Some(plan), &outcome);
                return Some(Next::Abort);
            }
            if limit < delay {
                let refusal = Lateness::Answer.refusal();
                return Some(self.refuse(Some(plan), &refusal, to_head, started).await);
            }
        }
        let answer = own.answer?;
        Some(self.refuse(Some(plan), &answer, to_head, started).await)
    }
}
