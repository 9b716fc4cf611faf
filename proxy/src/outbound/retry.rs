//! Further attempts of requests, where their route has them: whether there is one, is decided in
//! [`weft_core::traffic`]; here it is counted and paid for, and another endpoint takes its turn.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response};
use weft_core::traffic::{
    AttemptEnd, BodyKept, Finality, RetryBudget, RetryRules, Retrying, Routed, Verdict,
};
use weft_runtime::clock;

use super::breaker::Place;
use super::endpoint::Called;
use super::route::{Plan, flow};
use super::stream::{Unsent, attempt, set_timeout};
use crate::http::general::{Incoming, Replay, RequestBody, each_value};
use crate::http::{ATTEMPT_FIELD, Outcome, Refusal, Told, answered};
use crate::observe::RetryResult;

/// The further attempts of one request whose route has some.
#[derive(Debug)]
pub(super) struct Further {
    rules: Arc<RetryRules>,
    retrying: Retrying,
    /// Why there was no more, if an attempt has ended for good.
    finality: Option<Finality>,
    /// Its place among the further attempts that the target may have at once.
    place: Option<Place>,
}

impl Further {
    /// Begins where the route has further attempts.
    pub(super) fn of(routed: &Routed<'_>) -> Option<Box<Self>> {
        let rules = routed.retries?.clone();
        Some(Box::new(Self { rules, retrying: Retrying::default(), finality: None, place: None }))
    }
}

impl Plan {
    /// Whether the request's route has further attempts.
    pub(super) fn may_try_again(&self) -> bool {
        self.further.as_ref().is_some_and(|further| further.rules.tries_again())
    }

    /// Returns how long one attempt may take; `None` for as long as all may.
    pub(super) fn attempt_limit(&self) -> Option<Duration> {
        self.further.as_ref().and_then(|further| further.rules.per_try_timeout())
    }

    /// Returns what the next hop is told of attempts.
    pub(super) fn told(&self) -> Told {
        if self.target().outside.is_some() { Told::Nothing } else { Told::Attempts }
    }

    /// Takes the end of an attempt; returns after what pause the next one begins, if there is one. The
    /// endpoints before are not asked again while there are others.
    pub(super) fn attempt_ended(
        &mut self,
        end: &AttemptEnd,
        (body, by): (BodyKept, Option<Instant>),
    ) -> Option<Duration> {
        let local = self.local.clone();
        let target = &local.upstreams[self.upstream].targets[self.target];
        let further = self.further.as_mut()?;
        if target.endpoints.is_empty() {
            further.finality = Some(Finality::Meant);
            return None;
        }
        let (now, traffic) = (clock::instant(), target.series.traffic());
        let verdict = {
            let mut budget = target.retries.borrow_mut();
            let workers = self.worker.mux.workers;
            let budget = budget.get_or_insert_with(|| RetryBudget::new(workers, now, traffic));
            let random = &mut self.worker.random.borrow_mut();
            let request = (&*further.rules, end, body);
            further.retrying.handle_end(request, (budget, traffic), random, (now, by))
        };
        match verdict {
            Verdict::Again(pause) => {
                if let Some(breaker) =
                    &self.local.workload.upstreams[self.upstream].targets[self.target].breaker
                    && further.place.is_none()
                {
                    further.place = breaker.retry();
                    if further.place.is_none() {
                        further.finality = Some(Finality::Budget);
                        return None;
                    }
                }
                self.count(RetryResult::Retried);
                let (worker, upstream, number) = (&self.worker, self.upstream, self.target);
                let called = Called { worker, local: &local, upstream, target: number };
                self.tried.attempt_failed(called, end);
                self.tried.give_up_current();
                if self.tried.count() >= target.endpoints.len() {
                    self.tried.forget_failed();
                }
                Some(pause)
            }
            Verdict::Final(finality) => {
                further.finality = Some(finality);
                None
            }
        }
    }

    fn count(&self, result: RetryResult) {
        let place = (self.upstream, self.target);
        flow(&self.worker, &self.local, place, self.route).retried(result);
    }

    /// Counts what further attempts came to. Returns how many attempts there were, and Envoy's word for why
    /// there were no more.
    pub(super) fn end_attempts(&self, outcome: &Outcome) -> (u32, Option<&'static str>) {
        let Some(further) = &self.further else { return (1, None) };
        let count = further.retrying.further();
        match further.finality {
            Some(Finality::Body) => self.count(RetryResult::Body),
            Some(Finality::Budget) => self.count(RetryResult::Budget),
            Some(Finality::Limit) => self.count(RetryResult::Limit),
            Some(Finality::Meant) if count > 0 && (1..500).contains(&outcome.status) => {
                self.count(RetryResult::Success);
            }
            Some(Finality::Meant) | None => {}
            Some(Finality::Time) => self.count(RetryResult::Time),
        }
        (count + 1, further.finality.and_then(Finality::flag))
    }
}

/// Sends a request that is a value, and again as its route says.
pub(super) async fn attempts(
    plan: &mut Plan,
    request: Request<RequestBody>,
) -> Result<Response<Incoming>, Refusal> {
    let (parts, body) = request.into_parts();
    let room = if plan.may_try_again() { plan.worker.limits.retry_body_bytes } else { 0 };
    let (replay, limit) = (Replay::new(body, room), plan.attempt_limit());
    let by = plan.request_timeout.map(|limit| clock::instant() + limit);
    let mut number = 1u32;
    loop {
        let mut request = Request::from_parts(parts.clone(), replay.begin());
        if number > 1 && plan.told() == Told::Attempts {
            request.headers_mut().insert(ATTEMPT_FIELD, HeaderValue::from(number));
            if let Some(by) = by {
                let left = by.saturating_duration_since(clock::instant());
                set_timeout(request.headers_mut(), left);
            }
        }
        let sent = match limit {
            Some(limit) => in_time(limit, &replay, attempt(plan, request)).await,
            None => attempt(plan, request).await,
        };
        let end = match &sent {
            Ok(answer) => {
                let headers = answer.headers();
                let each = |name: &str, visit: &mut dyn FnMut(&[u8])| {
                    each_value(headers, name, visit);
                };
                let is_unreached = headers.contains_key("x-weft-unreached");
                let status = answer.status().as_u16();
                Some(AttemptEnd::Answered(answered(status, is_unreached, each)))
            }
            Err(unsent) => unsent.end,
        };
        let end = end.filter(|_| !replay.is_broken());
        let pause = end.and_then(|end| plan.attempt_ended(&end, (replay.state(), by)));
        let Some(pause) = pause else {
            replay.forget();
            return sent.map_err(|Unsent { refusal, .. }| *refusal);
        };
        drop(sent);
        number = number.saturating_add(1);
        tokio::time::sleep(pause).await;
    }
}

/// Carries out an attempt that may take so long once its request has come.
async fn in_time<T>(
    limit: Duration,
    replay: &Replay,
    attempt: impl Future<Output = Result<T, Unsent>>,
) -> Result<T, Unsent> {
    let mut attempt = pin!(attempt);
    loop {
        match tokio::time::timeout(limit, &mut attempt).await {
            Ok(ended) => return ended,
            Err(_) if replay.is_over() => return Err(Unsent::late()),
            // It begins anew while the body comes.
            Err(_) => {}
        }
    }
}
