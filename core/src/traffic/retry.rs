//! Whether a request is tried again: after which end of an attempt, how soon, how often, and whether
//! the [budget](RetryBudget) of its target bears it. Waiting and sending are the proxy's.

mod budget;

use std::time::{Duration, Instant};

use super::Mix64;
use crate::chain::RouteAction;

pub use budget::{RetryBudget, Traffic};

/// Upper bound of the first pause; each further one may be twice as long.
///
/// **Source**: Envoy: `RetryPolicy.RetryBackOff`, whose pauses are drawn from zero to the bound.
const PAUSE_FIRST_MAX: Duration = Duration::from_millis(25);
/// Upper bound of all pauses.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// After what a request of a route is tried again, and how often.
///
/// **Source**: Envoy: `x-envoy-retry-on`, `x-envoy-retry-grpc-on`; Consul: docs/connect/config-entries/service-router#retryon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryRules {
    /// Further attempts, at least 1.
    further_max: u32,
    /// One bit for each [`Cause`].
    causes: u16,
    statuses: Box<[u16]>,
    per_try_timeout: Option<Duration>,
}

/// After what a request may be tried again, in Envoy's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
enum Cause {
    Cancelled = 1,
    ConnectFailure = 1 << 1,
    DeadlineExceeded = 1 << 2,
    EnvoyRateLimited = 1 << 3,
    FiveHundreds = 1 << 4,
    GatewayError = 1 << 5,
    Internal = 1 << 6,
    RefusedStream = 1 << 7,
    Reset = 1 << 8,
    ResetBeforeRequest = 1 << 9,
    ResourceExhausted = 1 << 10,
    Retriable4xx = 1 << 11,
    Unavailable = 1 << 12,
}

/// How an attempt ended, with nothing of its answer passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The head of an answer has come.
    Answered(Answered),
    /// There is no connection to any endpoint.
    ConnectFailed,
    /// No answer came within the time of one attempt.
    Late,
    /// The other side has said that it has not looked at the request.
    Refused,
    /// The connection broke off before an answer; whether some of the request had left.
    Reset {
        /// Some of it had.
        has_begun: bool,
    },
}

/// What the head of an answer says of trying again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The status of HTTP.
    pub status: u16,
    /// The status of gRPC, where the head tells it.
    pub grpc_status: Option<u8>,
    /// Whether it has `x-envoy-ratelimited`.
    pub is_rate_limited: bool,
    /// Whether a proxy says that the request reached no application.
    pub is_unreached: bool,
    /// Whether a proxy says that there, or further on, is too much to do.
    pub is_overload: bool,
    /// How long to wait at least before asking again.
    pub retry_after: Option<Duration>,
}

/// What becomes of a request after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again after a pause.
    Again(Duration),
    /// What has come is final.
    Final(Finality),
}

/// Why there is no further attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// It would be tried again, but its body was not kept.
    Body,
    /// It would be tried again, but there have been too many further attempts at the target.
    Budget,
    /// It would be tried again, but all attempts have been made.
    Limit,
    /// It is no end after which the route tries again, or one after which nobody should.
    Meant,
    /// It would be tried again, but not within the time of the request.
    Time,
}

/// Further attempts of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retrying {
    further: u32,
}

impl RetryRules {
    /// Reads what a route does; `None` when by it nothing is ever tried again, nor given up before its time.
    ///
    /// As in Consul and Envoy, a number alone says nothing of when, and when it is left out it is 1.
    pub fn of(action: &RouteAction) -> Option<Self> {
        let RouteAction { retries: policy, per_try_timeout, .. } = action;
        let words = policy.retry_on.iter().filter_map(|word| Cause::parse(word));
        let connect = policy.retry_on_connect_failure.then_some(Cause::ConnectFailure);
        let causes = words.chain(connect).fold(0, |causes, cause| causes | cause as u16);
        let statuses: Box<[u16]> = policy.retry_on_status_codes.as_slice().into();
        let further_max = policy.num_retries.max(1);
        let rules = Self { further_max, causes, statuses, per_try_timeout: *per_try_timeout };
        Some(rules).filter(|rules| rules.tries_again() || per_try_timeout.is_some())
    }

    /// Whether there is an end after which a request is tried again.
    pub fn tries_again(&self) -> bool {
        self.causes != 0 || !self.statuses.is_empty()
    }

    /// Returns how long one attempt may take until the head of its answer; `None` for as long as all may.
    pub fn per_try_timeout(&self) -> Option<Duration> {
        self.per_try_timeout
    }

    fn has(&self, causes: &[Cause]) -> bool {
        causes.iter().any(|cause| self.causes & *cause as u16 != 0)
    }

    /// Whether the route tries again after such an end.
    ///
    /// **Source**: Envoy: `x-envoy-retry-on`. Differs: an answer of a called proxy that reached no application is a
    /// failed connection too; one that says that there is too much to do is never asked again.
    pub fn takes(&self, end: &AttemptEnd) -> bool {
        use Cause::{ConnectFailure, FiveHundreds, GatewayError, RefusedStream, Reset};
        let no_answer = [FiveHundreds, GatewayError, Reset];
        match end {
            AttemptEnd::Answered(answered) => self.takes_answer(answered),
            AttemptEnd::ConnectFailed => {
                self.has(&no_answer) || self.has(&[ConnectFailure, Cause::ResetBeforeRequest])
            }
            AttemptEnd::Late | AttemptEnd::Reset { has_begun: true } => self.has(&no_answer),
            AttemptEnd::Refused => self.has(&no_answer) || self.has(&[RefusedStream]),
            AttemptEnd::Reset { has_begun: false } => {
                self.has(&no_answer) || self.has(&[Cause::ResetBeforeRequest])
            }
        }
    }

    fn takes_answer(&self, answered: &Answered) -> bool {
        let Answered { status, grpc_status, is_rate_limited, is_unreached, .. } = *answered;
        if answered.is_overload {
            return false;
        }
        if is_rate_limited {
            return self.has(&[Cause::EnvoyRateLimited]);
        }
        let by_grpc = match grpc_status {
            Some(1) => self.has(&[Cause::Cancelled]),
            Some(4) => self.has(&[Cause::DeadlineExceeded]),
            Some(8) => self.has(&[Cause::ResourceExhausted]),
            Some(13) => self.has(&[Cause::Internal]),
            Some(14) => self.has(&[Cause::Unavailable]),
            Some(_) | None => false,
        };
        by_grpc
            || is_unreached && self.has(&[Cause::ConnectFailure])
            || (500..600).contains(&status) && self.has(&[Cause::FiveHundreds])
            || matches!(status, 502..=504) && self.has(&[Cause::GatewayError])
            || status == 409 && self.has(&[Cause::Retriable4xx])
            || self.statuses.contains(&status)
    }
}

impl Cause {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "5xx" => Self::FiveHundreds,
            "cancelled" => Self::Cancelled,
            "connect-failure" => Self::ConnectFailure,
            "deadline-exceeded" => Self::DeadlineExceeded,
            "envoy-ratelimited" => Self::EnvoyRateLimited,
            "gateway-error" => Self::GatewayError,
            "internal" => Self::Internal,
            "refused-stream" => Self::RefusedStream,
            "reset" => Self::Reset,
            "reset-before-request" => Self::ResetBeforeRequest,
            "resource-exhausted" => Self::ResourceExhausted,
            "retriable-4xx" => Self::Retriable4xx,
            "unavailable" => Self::Unavailable,
            _ => return None,
        })
    }
}

impl Retrying {
    /// Returns the further attempts that were begun.
    pub fn further(&self) -> u32 {
        self.further
    }

    /// Takes the end of an attempt and says what becomes of the request, whose body is kept or not, and
    /// which ends at `by`. A further attempt is paid from the budget.
    pub fn handle_end(
        &mut self,
        (rules, end, body): (&RetryRules, &AttemptEnd, BodyKept),
        (budget, traffic): (&mut RetryBudget, Traffic),
        random: &mut Mix64,
        (now, by): (Instant, Option<Instant>),
    ) -> Verdict {
        if !rules.takes(end) {
            return Verdict::Final(Finality::Meant);
        }
        if self.further >= rules.further_max {
            return Verdict::Final(Finality::Limit);
        }
        if body == BodyKept::No {
            return Verdict::Final(Finality::Body);
        }
        let asked = match end {
            AttemptEnd::Answered(answered) => answered.retry_after.unwrap_or_default(),
            AttemptEnd::ConnectFailed
            | AttemptEnd::Late
            | AttemptEnd::Refused
            | AttemptEnd::Reset { .. } => Duration::ZERO,
        };
        let pause = asked.saturating_add(self.pause(random));
        // A pause that is too long for any clock is too long for the request.
        let begins = now.checked_add(pause);
        if begins.is_none_or(|begins| by.is_some_and(|by| begins >= by)) {
            return Verdict::Final(Finality::Time);
        }
        if !budget.withdraw(now, traffic) {
            return Verdict::Final(Finality::Budget);
        }
        self.further += 1;
        Verdict::Again(pause)
    }

    /// Draws the next pause: evenly from zero to a bound that doubles.
    fn pause(&self, random: &mut Mix64) -> Duration {
        let bound = PAUSE_FIRST_MAX.saturating_mul(1 << self.further.min(10)).min(PAUSE_MAX);
        let micros = u32::try_from(bound.as_micros()).unwrap_or(u32::MAX);
        Duration::from_micros(random.below(micros).into())
    }
}

/// Whether all that has left of a request's body can be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKept {
    /// It is gone.
    No,
    /// It is there, or there is none.
    Yes,
}

impl Finality {
    /// Returns Envoy's word for it in access logs; `None` where it has none.
    ///
    /// **Source**: Envoy: access log format, `%RESPONSE_FLAGS%`.
    pub fn flag(self) -> Option<&'static str> {
        match self {
            Self::Budget => Some("UO"),
            Self::Limit => Some("URX"),
            Self::Body | Self::Meant | Self::Time => None,
        }
    }
}

#[cfg(test)]
mod tests;
