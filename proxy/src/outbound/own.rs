//! What a route does with a request besides sending it on: answers in place of a service, faults, cookies.

use std::time::Duration;

use weft_core::traffic::{Injected, Mix64, RequestView, Routed};

use super::route::Plan;
use crate::http::{Changes, Outcome, Own, Refusal};

/// The part of one request.
#[derive(Debug, Default)]
pub(super) struct OwnPart {
    /// What it gets in place of an answer.
    answer: Option<Refusal>,
    /// How long it waits first.
    delay: Option<Duration>,
    is_delayed: bool,
    /// What `set-cookie` says in its answer.
    cookies: Vec<Box<str>>,
}

impl OwnPart {
    /// Draws and prepares it; `None` where the route only sends the request on.
    pub(super) fn of<R: RequestView + ?Sized>(
        request: &R,
        routed: &Routed<'_>,
        (changes, random): (&Changes<'_>, &mut Mix64),
    ) -> Option<Box<Self>> {
        if let Some((answer, matched_bytes)) = routed.answer {
            let made = answer.make(request, matched_bytes);
            let answer = Some(Refusal::of_route(made, changes));
            return Some(Box::new(Self { answer, ..Self::default() }));
        }
        let injected = routed.fault.map(|fault| Injected::draw(fault, random)).unwrap_or_default();
        let cookies: Vec<Box<str>> =
            routed.cookie.iter().map(|cookie| cookie.header().into()).collect();
        if injected == Injected::default() && cookies.is_empty() {
            return None;
        }
        let answer = injected.abort.map(Refusal::of_fault);
        Some(Box::new(Self { answer, delay: injected.delay, is_delayed: false, cookies }))
    }

    /// Returns the values of `set-cookie` for its answer.
    pub(super) fn cookies(&self) -> &[Box<str>] {
        &self.cookies
    }
}

impl Plan {
    /// Takes what the request gets before it goes on, or in place of that; nothing the second time.
    pub(super) fn begin_own(&mut self) -> Option<Own> {
        let part = self.own.as_mut()?;
        let own = Own { delay: part.delay.take(), answer: part.answer.take() };
        if own.delay.is_some() {
            part.is_delayed = true;
            self.local_target().series.deed(DELAYED);
        }
        (own.delay.is_some() || own.answer.is_some()).then_some(own)
    }

    /// Returns how the request ended, of which it is told as well that it was delayed; and the flag of that where
    /// something else is told already.
    pub(super) fn own_outcome(&self, outcome: &Outcome) -> (Outcome, Option<&'static str>) {
        let is_delayed = self.own.as_ref().is_some_and(|own| own.is_delayed);
        match outcome.cause {
            None if is_delayed => (Outcome { cause: Some(DELAYED), ..*outcome }, None),
            Some(_) if is_delayed => (*outcome, Some("DI")),
            Some(_) | None => (*outcome, None),
        }
    }
}

impl Own {
    /// Waits, and then ends a request that no service gets.
    pub(super) async fn pass(self) -> Result<(), Refusal> {
        if let Some(delay) = self.delay {
            tokio::time::sleep(delay).await;
        }
        self.answer.map_or(Ok(()), Err)
    }
}

/// The cause in words of a request that a fault has delayed.
const DELAYED: &str = "fault-delayed";
