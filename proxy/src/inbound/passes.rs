//! Whether there is room for a request at the local instance, and when it is left again. How much there is,
//! is [`weft_core::traffic::gate`]'s affair.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use weft_core::traffic::RequestView;
use weft_core::traffic::gate::Gate;
use weft_runtime::clock;

use crate::http::Refusal;
use crate::listen::Local;

/// Room for one request, until this is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    entered: Instant,
    is_answered: Cell<bool>,
}

impl Pass {
    /// Takes room for a request, or says that there is none; `None` where nothing limits it.
    pub(super) fn take<R: RequestView + ?Sized>(
        local: &Local,
        request: &R,
    ) -> Result<Option<Box<Self>>, Refusal> {
        let Some(gate) = &local.workload.gate else { return Ok(None) };
        if !gate.enter(request) {
            let service = &local.workload.snapshot.service;
            let message = format!(
                "{service} has as many requests under way as its limit allows: ask again later"
            );
            return Err(Refusal::new(503, "concurrency-limit", message)
                .with_retry_after()
                .unreached());
        }
        let (gate, entered, is_answered) = (gate.clone(), clock::instant(), Cell::new(false));
        Ok(Some(Box::new(Self { gate, entered, is_answered })))
    }

    /// Takes note that the head of the answer has come.
    pub(super) fn answered(&self) {
        if !self.is_answered.replace(true) {
            let now = clock::instant();
            self.gate.answered(now - self.entered, now);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.is_answered.get() {
            let now = clock::instant();
            self.gate.given_up(now - self.entered, now);
        }
        self.gate.leave();
    }
}
