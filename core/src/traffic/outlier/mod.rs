//! Which endpoints of a target are left out for a while, as they fail: some failures in a row, or a share of
//! failures, or a time of answers, that stands out among the others.
//!
//! One machine for each target and proxy. It is told of failures, of the first success after them, and at
//! each look of what the endpoints did since the last.

mod rules;
#[cfg(test)]
mod tests;
mod window;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::traffic::Mix64;

pub use rules::OutlierRules;
pub use window::Window;

/// How a request to an endpoint failed; each is one of those before it as well.
///
/// **Source**: Envoy: outlier detection types. Differs: who gives no answer has failed in all three ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// It was answered with an error of the server.
    Server,
    /// It was answered with 502, 503 or 504.
    Gateway,
    /// The endpoint could not be reached, or gave no answer.
    NoAnswer,
}

impl Failure {
    /// Says what an answer with these statuses is.
    ///
    /// # Errors
    /// How it says that the endpoint failed.
    ///
    /// **Source**: Envoy: outlier detection, gRPC: its status as that of HTTP.
    pub fn of(status: u16, grpc_status: Option<u8>) -> Result<(), Self> {
        match (status, grpc_status) {
            (502..=504, _) | (_, Some(4 | 14)) => Err(Self::Gateway),
            (500.., _) | (_, Some(2 | 13 | 15)) => Err(Self::Server),
            (_, Some(_) | None) => Ok(()),
        }
    }
}

/// Why an endpoint is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Too many errors in a row.
    Consecutive5xx,
    /// Too many of 502, 503 and 504 in a row.
    ConsecutiveGatewayFailure,
    /// Too many in a row without an answer.
    ConsecutiveLocalOriginFailure,
    /// Too large a share of its answers fails.
    FailurePercentage,
    /// Its answers take far longer than those of others.
    Latency,
    /// Far more of its answers fail than those of others.
    SuccessRate,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Consecutive5xx,
        Self::ConsecutiveGatewayFailure,
        Self::ConsecutiveLocalOriginFailure,
        Self::FailurePercentage,
        Self::Latency,
        Self::SuccessRate,
    ];

    /// Returns Envoy's word for it, and ours where that has none.
    pub fn word(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayFailure => "consecutive_gateway_failure",
            Self::ConsecutiveLocalOriginFailure => "consecutive_local_origin_failure",
            Self::FailurePercentage => "failure_percentage",
            Self::Latency => "latency",
            Self::SuccessRate => "success_rate",
        }
    }
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// An endpoint is left out for so long.
    Ejected {
        /// Which one.
        number: usize,
        /// Why.
        cause: Cause,
        /// From now on.
        time: Duration,
    },
    /// It may be chosen again.
    Readmitted {
        /// Which one.
        number: usize,
    },
    /// It would be left out, but as many are as may be.
    Spared {
        /// Which one.
        number: usize,
    },
}

/// Decides which endpoints of a target are left out.
#[derive(Debug)]
pub struct Outliers {
    rules: OutlierRules,
    hosts: Vec<Standing>,
    /// `None` while nothing is to be looked at.
    look_due: Option<Instant>,
    /// Bounded by the endpoints: it is drained after each input, which changes each once at most.
    outputs: VecDeque<Change>,
}

/// How one endpoint stands.
#[derive(Debug, Default, Clone)]
pub struct Standing {
    /// By [`Failure`].
    in_a_row: [u32; 3],
    out_until: Option<Instant>,
    /// How often it was left out, less once for each interval that it did well since.
    times: u32,
}

impl Outliers {
    /// Begins with endpoints of which this is known; of those that are new, nothing.
    pub fn new(rules: OutlierRules, hosts: Vec<Standing>) -> Self {
        Self { rules, hosts, look_due: None, outputs: VecDeque::new() }
    }

    /// Returns when endpoints are left out.
    pub fn rules(&self) -> &OutlierRules {
        &self.rules
    }

    /// Returns what is known of an endpoint, to go on with when others come or go.
    pub fn standing(&self, number: usize) -> Standing {
        self.hosts.get(number).cloned().unwrap_or_default()
    }

    /// Whether an endpoint is left out.
    pub fn is_out(&self, number: usize) -> bool {
        self.hosts.get(number).is_some_and(|host| host.out_until.is_some())
    }

    /// Whether its last request has failed, so that the next success is news.
    pub fn is_failing(&self, number: usize) -> bool {
        self.hosts.get(number).is_some_and(|host| host.in_a_row != [0; 3])
    }

    /// Whether so few are left that all are called again: what takes all at once is no fault of single ones,
    /// and the few could not bear the load.
    pub fn is_panic(&self) -> bool {
        let left = self.hosts.len() - self.count_out();
        left * 100 < self.hosts.len() * self.rules.panic_percent as usize
    }

    fn count_out(&self) -> usize {
        self.hosts.iter().filter(|host| host.out_until.is_some()).count()
    }

    /// Takes note of the first success after failures; a later one changes nothing.
    pub fn handle_success(&mut self, number: usize) {
        if let Some(host) = self.hosts.get_mut(number) {
            host.in_a_row = [0; 3];
        }
    }

    /// Takes note of a request to an endpoint that failed; ask [`Outliers::poll_output`] after it.
    pub fn handle_failure(
        &mut self,
        number: usize,
        failure: Failure,
        (now, random): (Instant, &mut Mix64),
    ) {
        let rules = &self.rules;
        let Some(host) = self.hosts.get_mut(number) else { return };
        for kind in [Failure::Server, Failure::Gateway, Failure::NoAnswer] {
            let count = &mut host.in_a_row[kind as usize];
            *count = if kind <= failure { count.saturating_add(1) } else { 0 };
        }
        // What happened while it was left out was sent before, or as nobody else was there.
        if host.out_until.is_some() {
            return;
        }
        for kind in [Failure::NoAnswer, Failure::Gateway, Failure::Server] {
            let is_full = |most| host.in_a_row[kind as usize] >= most;
            if !rules.in_a_row[kind as usize].is_some_and(is_full) {
                continue;
            }
            host.in_a_row = [0; 3];
            let (cause, percent) = match kind {
                Failure::NoAnswer => (Cause::ConsecutiveLocalOriginFailure, 100),
                Failure::Gateway => (Cause::ConsecutiveGatewayFailure, rules.enforcing_percent),
                Failure::Server => (Cause::Consecutive5xx, rules.enforcing_percent),
            };
            if random.below(100) < percent {
                self.eject((number, cause), now);
            }
            return;
        }
    }

    /// Lets those in whose time is over, and looks at what all did since the last look when that is due;
    /// `windows` gives that, by endpoint, and begins anew. Ask [`Outliers::poll_output`] after it.
    pub fn handle_timeout(
        &mut self,
        windows: impl FnOnce() -> Vec<Window>,
        (now, random): (Instant, &mut Mix64),
    ) {
        for (number, host) in self.hosts.iter_mut().enumerate() {
            if host.out_until.is_some_and(|until| until <= now) {
                *host = Standing { times: host.times, ..Standing::default() };
                self.outputs.push_back(Change::Readmitted { number });
            }
        }
        if self.look_due.is_some_and(|due| due <= now) {
            self.look(&windows(), (now, random));
            self.look_due = None;
        }
        if self.look_due.is_none() {
            let is_wanted = self.rules.wants_windows() || self.hosts.iter().any(|it| it.times > 0);
            self.look_due = is_wanted.then(|| now + self.rules.interval);
        }
    }

    /// Returns when [`Outliers::handle_timeout`] is to be called; `None` for never, which holds until the next
    /// failure, and before the first call where shares are looked at.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.hosts.iter().filter_map(|host| host.out_until).chain(self.look_due).min()
    }

    /// Returns what has changed.
    pub fn poll_output(&mut self) -> Option<Change> {
        self.outputs.pop_front()
    }

    fn look(&mut self, windows: &[Window], (now, random): (Instant, &mut Mix64)) {
        let is_in = |number: usize| self.hosts[number].out_until.is_none();
        let count = self.hosts.len();
        let window = |number| windows.get(number).copied().filter(|_| is_in(number));
        let compared: Vec<Option<Window>> = (0..count).map(window).collect();
        for (host, window) in self.hosts.iter_mut().zip(&compared) {
            // Who is left out has not done well.
            if window.is_some_and(|window| window.failures == 0) && host.in_a_row == [0; 3] {
                host.times = host.times.saturating_sub(1);
            }
        }
        for (number, cause, percent) in window::outliers(&self.rules, &compared) {
            if !self.is_out(number) && random.below(100) < percent {
                self.eject((number, cause), now);
            }
        }
    }

    fn eject(&mut self, (number, cause): (usize, Cause), now: Instant) {
        let (out, percent) = (self.count_out(), self.rules.ejected_percent_max as usize);
        let most = if percent == 0 { 0 } else { (self.hosts.len() * percent / 100).max(1) };
        // The last one is never left out.
        if out >= most || out + 1 >= self.hosts.len() {
            self.outputs.push_back(Change::Spared { number });
            return;
        }
        let host = &mut self.hosts[number];
        host.times = host.times.saturating_add(1);
        let time = self.rules.base.saturating_mul(host.times).min(self.rules.longest);
        host.out_until = Some(now + time);
        host.in_a_row = [0; 3];
        self.look_due.get_or_insert(now + self.rules.interval);
        self.outputs.push_back(Change::Ejected { number, cause, time });
    }
}
