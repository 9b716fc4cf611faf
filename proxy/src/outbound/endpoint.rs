//! Which instance of a target gets the request, and what is remembered of how it did.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Instant;

use tracing::info;
use weft_core::traffic::outlier::{Change, Failure};
use weft_core::traffic::{AttemptEnd, Endpoints, Moment, says_failed};
use weft_runtime::clock;

use super::Health;
use super::route::flow;
use crate::http::{Outcome, Refusal};
use crate::listen::{Local, LocalEndpoint, LocalTarget, Worker};
use crate::workload::{Upstream, UpstreamTarget};

/// A target as one worker calls it.
#[derive(Clone, Copy)]
pub(super) struct Called<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) local: &'a Local,
    pub(super) upstream: usize,
    pub(super) target: usize,
}

impl<'a> Called<'a> {
    fn of_worker(self) -> &'a LocalTarget {
        &self.local.upstreams[self.upstream].targets[self.target]
    }

    fn of_all(self) -> &'a UpstreamTarget {
        &self.local.workload.upstreams[self.upstream].targets[self.target]
    }

    fn health(self) -> Option<&'a Health> {
        self.of_all().health.as_deref()
    }

    /// Notes how a request to an endpoint ended, for those who leave out who fails.
    pub(super) fn ended(self, number: usize, end: Result<(), Failure>) {
        let Some(health) = self.health() else { return };
        let changes = health.ended(number, end, &mut self.worker.random.borrow_mut());
        self.tell(&changes);
    }

    /// Counts and logs who is left out, and who is taken back.
    fn tell(self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let (all, of) = (self.of_all(), (self.upstream, self.target));
        let counts = flow(self.worker, self.local, of, 0);
        for change in changes {
            match *change {
                Change::Ejected { number, cause, time } => {
                    counts.ejected(cause);
                    let (seconds, cause) = (time.as_secs_f64(), cause.word());
                    info!(target = %all.id, instance = %all.endpoints[number].instance, cause, seconds,
                        "an instance is left out for a while");
                }
                Change::Readmitted { number } => {
                    counts.readmitted();
                    info!(target = %all.id, instance = %all.endpoints[number].instance,
                        "an instance is called again");
                }
                Change::Spared { .. } => counts.spared(),
            }
        }
    }
}

/// What a proxy says with an answer of its own.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// The request reached no application.
    pub(super) is_unreached: bool,
    /// There is too much to do, which is no reason to leave anybody out.
    pub(super) is_overload: bool,
}

/// Endpoints that one request has been turned away from, and the one that has it now.
#[derive(Debug, Default)]
pub(super) struct Tried {
    /// Its number from 1: small, as each open connection has room for it.
    current: Option<NonZeroU32>,
    failed: Vec<usize>,
    /// The hash of what it has of what is hashed.
    key: Option<u64>,
    /// Since when the one that has it owes an answer; `None` where nobody wants to know.
    since: Cell<Option<Instant>>,
    /// What the proxy there has said last.
    said: Cell<Said>,
}

impl Tried {
    /// Begins with the hash of what the request has of what is hashed.
    pub(super) fn keyed(key: Option<u64>) -> Self {
        Self { key, ..Self::default() }
    }

    /// Notes the endpoint that has the request now.
    pub(super) fn take(&mut self, number: usize) {
        self.current = u32::try_from(number + 1).ok().and_then(NonZeroU32::new);
        self.said.take();
        // The time of the connection is not the instance's.
        if self.since.get().is_some() {
            self.since.set(Some(clock::instant()));
        }
    }

    /// Returns the endpoint that has the request now.
    pub(super) fn current(&self) -> Option<usize> {
        self.current.map(|number| number.get() as usize - 1)
    }

    /// Notes that the endpoint that has the request is not to be asked again.
    pub(super) fn give_up_current(&mut self) {
        self.failed.extend(self.current());
        self.current = None;
    }

    /// Notes what the proxy says that has answered itself.
    pub(super) fn hears(&self, said: Said) {
        self.said.set(said);
    }

    /// Notes that another attempt is made, as what the endpoint did that has the request is not good
    /// enough.
    pub(super) fn attempt_failed(&self, called: Called<'_>, end: &AttemptEnd) {
        if let Some((endpoint, since)) = self.owing(called.of_worker()) {
            note_failed(endpoint, since);
        }
        let failure = match end {
            // Who cannot be reached was noted when that was tried.
            AttemptEnd::ConnectFailed | AttemptEnd::Refused => return,
            AttemptEnd::Answered(answered) if answered.is_overload => return,
            AttemptEnd::Answered(answered) if answered.is_unreached => Failure::NoAnswer,
            AttemptEnd::Answered(answered) => {
                match Failure::of(answered.status, answered.grpc_status) {
                    Ok(()) => return,
                    Err(failure) => failure,
                }
            }
            AttemptEnd::Late => Failure::Gateway,
            AttemptEnd::Reset { .. } => Failure::NoAnswer,
        };
        if let Some(number) = self.current() {
            called.ended(number, Err(failure));
        }
    }

    /// Notes that the endpoint that has the request has not passed it on.
    pub(super) fn turned_away(&self, called: Called<'_>) {
        let Some(number) = self.current() else { return };
        note_slow(called.of_worker(), number);
        let said = self.said.get();
        if said.is_unreached && !said.is_overload {
            called.ended(number, Err(Failure::NoAnswer));
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
    pub(super) fn answered(&self, called: Called<'_>) {
        let Some((endpoint, since)) = self.owing(called.of_worker()) else { return };
        let now = clock::instant();
        let took = now.saturating_duration_since(since);
        let mut latency = endpoint.pools.latency.get();
        latency.answered(took, now);
        endpoint.pools.latency.set(latency);
        if let (Some(health), Some(number)) = (called.health(), self.current()) {
            health.timed(number, took);
        }
    }

    /// Notes when a request ends whether the endpoint that had it has failed.
    pub(super) fn ended(&self, called: Called<'_>, outcome: &Outcome) {
        let Outcome { status, grpc_status, cause, .. } = *outcome;
        if let Some((endpoint, since)) = self.owing(called.of_worker())
            && says_failed(status, grpc_status)
        {
            note_failed(endpoint, since);
        }
        let Some(number) = self.current() else { return };
        let said = self.said.get();
        let end = match cause {
            Some("upstream-failed" | "upstream-malformed") => Err(Failure::NoAnswer),
            Some("request-timeout") => Err(Failure::Gateway),
            // The caller's doing, or nobody could say whose.
            Some(_) => return,
            None if said.is_overload || status == 0 => return,
            None if said.is_unreached => Err(Failure::NoAnswer),
            None => Failure::of(status, grpc_status),
        };
        called.ended(number, end);
    }

    fn owing<'a>(&self, target: &'a LocalTarget) -> Option<(&'a LocalEndpoint, Instant)> {
        Some((target.endpoints.get(self.current()?)?, self.since.get()?))
    }
}

/// Notes that an endpoint could not be reached.
pub(super) fn note_unreached(called: Called<'_>, number: usize) {
    note_slow(called.of_worker(), number);
    called.ended(number, Err(Failure::NoAnswer));
}

fn note_slow(target: &LocalTarget, number: usize) {
    if target.balance.wants_latency() {
        note_failed(&target.endpoints[number], clock::instant());
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
    /// Who is left out; `None` to pass nobody over.
    health: Option<&'a Health>,
    /// Since when each is there.
    since: &'a [Option<Instant>],
    /// `None` where choices do not depend on time.
    now: Option<Instant>,
}

impl Endpoints for Seen<'_> {
    fn is_usable(&self, number: usize) -> bool {
        !self.tried.failed.contains(&number)
            && self.health.is_none_or(|health| health.passes(number))
    }

    fn in_flight(&self, number: usize) -> u32 {
        self.target.endpoints[number].pools.in_flight()
    }

    fn expected_ns(&self, number: usize) -> f64 {
        let pools = &self.target.endpoints[number].pools;
        self.now.map_or(0.0, |now| pools.latency.get().expected_ns(pools.in_flight(), now))
    }

    fn part(&self, number: usize) -> f64 {
        let since = [self.since[number], self.health.and_then(|health| health.back(number))];
        match (self.now, since.into_iter().flatten().max()) {
            (Some(now), Some(since)) => {
                self.target.balance.part(now.saturating_duration_since(since))
            }
            (None, _) | (_, None) => 1.0,
        }
    }
}

/// Chooses among the endpoints that were not tried.
pub(super) fn choose<'a>(called: Called<'a>, tried: &Tried) -> Option<(usize, &'a LocalEndpoint)> {
    let (target, health) = (called.of_worker(), called.health());
    let since = &*called.of_all().since;
    let is_timed = target.balance.wants_latency()
        || target.balance.wants_age()
        || health.is_some_and(Health::wants_latency);
    let now = is_timed.then(clock::instant);
    if let Some(health) = health {
        let changes = health.look(now, &mut called.worker.random.borrow_mut());
        called.tell(&changes);
    }
    let random = &mut *called.worker.random.borrow_mut();
    let turn = &mut *target.turn.borrow_mut();
    let mut among = |health| {
        let (turn, random) = (&mut *turn, &mut *random);
        let seen = Seen { target, tried, health, since, now };
        target.balance.choose(&seen, Moment { key: tried.key, turn, random })
    };
    // Once all others were tried, one that is left out is better than none.
    let number = among(health).or_else(|| health.and_then(|_| among(None)))?;
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
