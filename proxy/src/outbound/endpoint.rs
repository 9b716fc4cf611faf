//! Which instance of a target gets the request.

use weft_core::traffic::{Candidate, Mix64, pick_two};

use crate::http::Refusal;
use crate::listen::{LocalEndpoint, LocalTarget};
use crate::workload::{Upstream, UpstreamTarget};

/// Endpoints that one request has been turned away from, and the one that has it now.
#[derive(Debug, Default)]
pub(super) struct Tried {
    current: Option<usize>,
    failed: Vec<usize>,
}

impl Tried {
    /// Notes the endpoint that has the request now.
    pub(super) fn take(&mut self, number: usize) {
        self.current = Some(number);
    }

    /// Returns the endpoint that has the request now.
    pub(super) fn current(&self) -> Option<usize> {
        self.current
    }

    /// Notes that the endpoint that has the request is not to be asked again.
    pub(super) fn give_up_current(&mut self) {
        self.failed.extend(self.current.take());
    }

    /// Notes an endpoint that could not be reached.
    pub(super) fn fail(&mut self, number: usize) {
        self.failed.push(number);
    }

    /// Returns how many were given up.
    pub(super) fn count(&self) -> usize {
        self.failed.len()
    }
}

/// Chooses among the endpoints that were not tried.
pub(super) fn choose<'a>(
    target: &'a LocalTarget,
    tried: &Tried,
    random: &mut Mix64,
) -> Option<(usize, &'a LocalEndpoint)> {
    let candidate = |number: usize| {
        let endpoint = &target.endpoints[number];
        let weight = if tried.failed.contains(&number) { 0 } else { endpoint.weight };
        Candidate { in_flight: endpoint.pools.in_flight(), weight }
    };
    let number = pick_two(target.endpoints.len(), candidate, random)?;
    Some((number, &target.endpoints[number]))
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
