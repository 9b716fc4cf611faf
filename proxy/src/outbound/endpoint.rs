//! Which instance of a target gets the request, and what is remembered of how it did.

use std::cell::Cell;
use std::time::Instant;

use weft_core::traffic::{Endpoints, Mix64, Moment, says_failed};
use weft_runtime::clock;

use crate::http::{Outcome, Refusal};
use crate::listen::{LocalEndpoint, LocalTarget};
use crate::workload::{Upstream, UpstreamTarget};

/// Endpoints that one request has been turned away from, and the one that has it now.
#[derive(Debug, Default)]
pub(super) struct Tried {
    current: Option<usize>,
    failed: Vec<usize>,
    /// The hash of what it has of what is hashed.
    key: Option<u64>,
    /// Since when the one that has it owes an answer; `None` where nobody wants to know.
    since: Cell<Option<Instant>>,
}

impl Tried {
    /// Begins with the hash of what the request has of what is hashed.
    pub(super) fn keyed(key: Option<u64>) -> Self {
        Self { key, ..Self::default() }
    }

    /// Notes the endpoint that has the request now.
    pub(super) fn take(&mut self, number: usize) {
        self.current = Some(number);
        // The time of the connection is not the instance's.
        if self.since.get().is_some() {
            self.since.set(Some(clock::instant()));
        }
    }

    /// Returns the endpoint that has the request now.
    pub(super) fn current(&self) -> Option<usize> {
        self.current
    }

    /// Notes that the endpoint that has the request is not to be asked again.
    pub(super) fn give_up_current(&mut self) {
        self.failed.extend(self.current.take());
    }

    /// Notes that another attempt is made, as what the endpoint did that has the request is not good
    /// enough.
    pub(super) fn attempt_failed(&self, target: &LocalTarget) {
        if let Some((endpoint, since)) = self.owing(target) {
            note_failed(endpoint, since);
        }
    }

    /// Lets all endpoints be asked again.
    pub(super) fn forget_failed(&mut self) {
        self.failed.clear();
    }

    /// Notes an endpoint that could not be reached.
    pub(super) fn fail(&mut self, number: usize) {
        self.failed.push(number);
    }

    /// Returns how many were given up.
    pub(super) fn count(&self) -> usize {
        self.failed.len()
    }

    /// Notes at the head of an answer how long it took.
    pub(super) fn answered(&self, target: &LocalTarget) {
        let Some((endpoint, since)) = self.owing(target) else { return };
        let now = clock::instant();
        let mut latency = endpoint.pools.latency.get();
        latency.answered(now.saturating_duration_since(since), now);
        endpoint.pools.latency.set(latency);
    }

    /// Notes when a request ends whether the endpoint that had it has failed.
    pub(super) fn ended(&self, target: &LocalTarget, outcome: &Outcome) {
        if let Some((endpoint, since)) = self.owing(target)
            && says_failed(outcome.status, outcome.grpc_status)
        {
            note_failed(endpoint, since);
        }
    }

    fn owing<'a>(&self, target: &'a LocalTarget) -> Option<(&'a LocalEndpoint, Instant)> {
        Some((target.endpoints.get(self.current?)?, self.since.get()?))
    }
}

/// Notes that an endpoint could not be reached.
pub(super) fn note_unreached(target: &LocalTarget, endpoint: &LocalEndpoint) {
    if target.balance.wants_latency() {
        note_failed(endpoint, clock::instant());
    }
}

fn note_failed(endpoint: &LocalEndpoint, since: Instant) {
    let now = clock::instant();
    let mut latency = endpoint.pools.latency.get();
    latency.failed(now.saturating_duration_since(since), now);
    endpoint.pools.latency.set(latency);
}

/// A target's endpoints as one request finds them.
struct Seen<'a> {
    target: &'a LocalTarget,
    tried: &'a Tried,
    /// `None` where choices do not depend on time.
    now: Option<Instant>,
}

impl Endpoints for Seen<'_> {
    fn is_usable(&self, number: usize) -> bool {
        !self.tried.failed.contains(&number)
    }

    fn in_flight(&self, number: usize) -> u32 {
        self.target.endpoints[number].pools.in_flight()
    }

    fn expected_ns(&self, number: usize) -> f64 {
        let pools = &self.target.endpoints[number].pools;
        self.now.map_or(0.0, |now| pools.latency.get().expected_ns(pools.in_flight(), now))
    }
}

/// Chooses among the endpoints that were not tried.
pub(super) fn choose<'a>(
    target: &'a LocalTarget,
    tried: &Tried,
    random: &mut Mix64,
) -> Option<(usize, &'a LocalEndpoint)> {
    let now = target.balance.wants_latency().then(clock::instant);
    let seen = Seen { target, tried, now };
    let turn = &mut *target.turn.borrow_mut();
    let number = target.balance.choose(&seen, Moment { key: tried.key, turn, random })?;
    let endpoint = &target.endpoints[number];
    tried.since.set(now);
    if let Some(now) = now {
        let mut latency = endpoint.pools.latency.get();
        latency.sent(endpoint.pools.in_flight(), now);
        endpoint.pools.latency.set(latency);
    }
    Some((number, endpoint))
}

/// Says that there is no instance to send to.
pub(super) fn none_left(upstream: &Upstream, target: &UpstreamTarget, tried: &Tried) -> Refusal {
    let message = match tried.count() {
        0 => format!(
            "{} has no healthy instance with a sidecar (target {})",
            upstream.service, target.id
        ),
        count => format!("none of {count} instances of {} could be reached", target.id),
    };
    Refusal::new(503, "no-endpoint", message).unreached()
}
