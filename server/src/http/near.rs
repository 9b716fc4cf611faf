//! `?near=`: the order of answers by distance.
//!
//! **Source**: Consul: api-docs/catalog#near. A node without a coordinate is far from all; when the
//! one asked from has none, the order stays as it is.

use std::cmp::Ordering;
use std::net::IpAddr;

use ::http::HeaderMap;
use rand_core::RngCore;
use weft_core::identity::Workload;
use weft_core::name::NodeName;
use weft_core::state::State;
use weft_runtime::entropy;

use super::request::ApiRequest;
use crate::propose::Caller;

/// From where distances are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Near {
    /// A host by its address, or the one that passes the request on when none has it.
    Address(IpAddr, Option<NodeName>),
    /// A host by its name.
    Node(NodeName),
}

impl Near {
    /// Reads `?near`; `None` when nothing is asked for, or no such node can be.
    pub(super) fn of(request: &ApiRequest) -> Option<Self> {
        Self::named(request.query.value("near")?, request)
    }

    /// Takes a node's name, `_agent` for that of the agent that passes the request on, or `_ip` for
    /// the caller's own.
    pub(super) fn named(text: &str, request: &ApiRequest) -> Option<Self> {
        match (text, request.asker) {
            ("_ip", Some(address)) => Some(Self::Address(address, agent(&request.caller))),
            // Who asks from an agent's own host is not told of.
            ("_agent" | "_ip", _) => agent(&request.caller).map(Self::Node),
            (name, _) => NodeName::parse(name).ok().map(Self::Node),
        }
    }

    /// Orders records by the time to their nodes and back, the own node first, those without a
    /// coordinate last; those equally far stay as they are.
    pub(super) fn sort<T>(&self, state: &State, records: &mut [T], node: impl Fn(&T) -> &NodeName) {
        let Some(own) = self.node(state) else { return };
        let from = state.coordinates().of_node(&own);
        records.sort_by_cached_key(|record| {
            let name = node(record);
            let is_other = !name.as_str().eq_ignore_ascii_case(own.as_str());
            let to = from.zip(state.coordinates().of_node(name));
            let far = to.map_or(f64::INFINITY, |(a, b)| a.coord.round_trip_seconds(&b.coord));
            (is_other, Seconds(far))
        });
    }

    fn node(&self, state: &State) -> Option<NodeName> {
        match self {
            Self::Node(name) => Some(name.clone()),
            Self::Address(address, otherwise) => {
                let address = address.to_string();
                let (_, nodes) = state.nodes();
                let found = nodes.iter().find(|node| node.address == address.as_str());
                found.map(|node| node.name.clone()).or_else(|| otherwise.clone())
            }
        }
    }
}

/// A distance, in order.
#[derive(PartialEq)]
struct Seconds(f64);

impl Eq for Seconds {}

impl Ord for Seconds {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Seconds {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The node of the agent that passes a request on.
fn agent(caller: &Caller) -> Option<NodeName> {
    match caller {
        Caller::Client { through, .. } => match &through.as_ref()?.workload {
            Workload::Agent(node) | Workload::Server(node) => Some(node.clone()),
            Workload::Service(_) => None,
        },
        Caller::Member(_) | Caller::Server => None,
    }
}

/// The address of who asked first, as those who passed the request on say.
///
/// **Source**: Consul: api-docs/query#near: `_ip` is the value of `X-Forwarded-For`, of which the
/// first is the client.
pub(super) fn asker(headers: &HeaderMap) -> Option<IpAddr> {
    let text = headers.get("x-forwarded-for")?.to_str().ok()?;
    text.split(',').next()?.trim().parse().ok()
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
