//! `?near=`: the order of answers by distance.
//!
//! **Source**: Consul: api-docs/catalog#near. A node without a coordinate is far from all; when the
//! one asked from has none, the order stays as it is.

use rand_core::RngCore;
use weft_core::identity::Workload;
use weft_core::name::NodeName;
use weft_core::state::State;
use weft_runtime::entropy;

use super::request::ApiRequest;
use crate::propose::Caller;

/// From where distances are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Near(NodeName);

impl Near {
    /// Reads `?near`; `None` when nothing is asked for, or no such node can be.
    pub(super) fn of(request: &ApiRequest) -> Option<Self> {
        Self::named(request.query.value("near")?, request)
    }

    /// Takes a node's name, `_agent` for that of the agent that passes the request on, or `_ip` for
    /// the caller's own, which is the same host.
    pub(super) fn named(text: &str, request: &ApiRequest) -> Option<Self> {
        match text {
            "_agent" | "_ip" => match &request.caller {
                Caller::Client { through, .. } => match &through.as_ref()?.workload {
                    Workload::Agent(node) | Workload::Server(node) => Some(Self(node.clone())),
                    Workload::Service(_) => None,
                },
                Caller::Member(_) | Caller::Server => None,
            },
            name => NodeName::parse(name).ok().map(Self),
        }
    }

    /// Orders records by the distance of their nodes; those equally far stay as they are.
    pub(super) fn sort<T>(
        &self,
        _state: &State,
        records: &mut [T],
        node: impl Fn(&T) -> &NodeName,
    ) {
        let own = self.0.as_str();
        records.sort_by_key(|record| !node(record).as_str().eq_ignore_ascii_case(own));
    }
}

/// Puts records into a random order, so that callers who take the first spread.
pub(super) fn shuffle<T>(records: &mut [T]) {
    let mut rng = entropy::rng();
    for last in (1..records.len()).rev() {
        let bound = u64::try_from(last + 1).unwrap_or(u64::MAX);
        let at = usize::try_from(rng.next_u64() % bound).unwrap_or(last);
        records.swap(at, last);
    }
}
