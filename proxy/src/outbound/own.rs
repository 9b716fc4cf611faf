//! What a route does with a request besides sending it on: answers in place of a service, faults, cookies.

use std::time::Duration;

use weft_core::log_format::LogRecord;
use weft_core::traffic::{GivenCookie, Injected, Mirrored, Mix64, RequestView, Routed, Throttle};

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
    /// How fast the body of its answer comes.
    bytes_per_second: Option<u64>,
    /// Where a copy of it goes.
    mirror: Option<Mirrored>,
    /// What headers tell that the route writes, where they tell something.
    facts: Option<Box<LogRecord>>,
    /// What `set-cookie` says in its answer.
    cookies: Vec<Box<str>>,
}

impl OwnPart {
    /// Draws and prepares it; `None` where the route only sends the request on.
    pub(super) fn of<'a, R: RequestView + ?Sized>(
        request: &R,
        (routed, given): (&Routed<'_>, impl Iterator<Item = GivenCookie<'a>>),
        (changes, random): (&Changes<'_>, &mut Mix64),
    ) -> Option<Box<Self>> {
        if let Some((answer, matched_bytes)) = routed.answer {
            let made = answer.make(request, matched_bytes);
            let answer = Some(Refusal::of_route(made, changes));
            return Some(Box::new(Self { answer, ..Self::default() }));
        }
        let injected = routed.fault.map(|fault| Injected::draw(fault, random)).unwrap_or_default();
        let cookies: Vec<Box<str>> = given.map(|cookie| cookie.header().into()).collect();
        let mirror = routed.mirror.filter(|mirror| mirror.is_drawn(random)).cloned();
        if injected == Injected::default() && cookies.is_empty() && mirror.is_none() {
            return None;
        }
        let answer = injected.abort.map(Refusal::of_fault);
        let Injected { delay, bytes_per_second, .. } = injected;
        Some(Box::new(Self { answer, delay, bytes_per_second, mirror, cookies, ..Self::default() }))
    }

    /// Adds what headers tell that the route writes.
    pub(super) fn telling(
        part: Option<Box<Self>>,
        facts: Option<Box<LogRecord>>,
    ) -> Option<Box<Self>> {
        let Some(facts) = facts else { return part };
        let mut part = part.unwrap_or_default();
        part.facts = Some(facts);
        Some(part)
    }

    /// Returns what headers tell that the route writes.
    pub(super) fn facts(&self) -> Option<&LogRecord> {
        self.facts.as_deref()
    }

    /// Returns the values of `set-cookie` for its answer.
    pub(super) fn cookies(&self) -> &[Box<str>] {
        &self.cookies
    }
}

impl Plan {
    /// Takes what the request gets before it goes on, or in place of that; nothing the second time.
    pub(super) fn begin_own(&mut self) -> Option<Box<Own>> {
        let part = self.own.as_mut()?;
        let own = Own { delay: part.delay.take(), answer: part.answer.take() };
        if own.delay.is_some() {
            part.is_delayed = true;
            self.local_target().series.deed(DELAYED);
        }
        (own.delay.is_some() || own.answer.is_some()).then(|| Box::new(own))
    }

    /// Returns where a copy of the request goes, if one does.
    pub(super) fn mirror(&self) -> Option<&Mirrored> {
        self.own.as_ref()?.mirror.as_ref()
    }

    /// Returns how fast the body of the answer goes on that has come, if the route slows it down.
    pub(super) fn throttle(&self) -> Option<Throttle> {
        let rate = self.own.as_ref()?.bytes_per_second?;
        self.local_target().series.deed("fault-rate-limited");
        Some(Throttle::new(rate))
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
    pub(super) async fn pass(self: Box<Self>) -> Result<(), Refusal> {
        if let Some(delay) = self.delay {
            tokio::time::sleep(delay).await;
        }
        self.answer.map_or(Ok(()), Err)
    }
}

/// The cause in words of a request that a fault has delayed.
const DELAYED: &str = "fault-delayed";
