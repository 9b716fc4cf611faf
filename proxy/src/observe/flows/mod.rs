//! Who calls whom, by which route, and with what result: counts in more detail than a
//! [`super::Series`], in the names of Weft, of Istio and of Envoy.
//!
//! Each worker writes its own counts without locks; a flow that nobody uses any more is forgotten
//! after a while, and beyond a bound further ones are counted as one.

mod counts;
mod envoy;
mod istio;
mod native;
mod page;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use weft_core::config_entry::Protocol;
use weft_core::identity::SpiffeId;
use weft_core::name::ServiceName;
use weft_core::traffic::flow::{FLOWS_TOLD_MAX, FlowCounts};
use weft_runtime::clock;

use counts::Sum;
pub(crate) use counts::{Flow, RateResult, RetryResult};
use page::Page;

use super::Side;

/// Flows told apart: each costs some kilobytes for every worker that counts it, and some hundred
/// lines of a scrape.
const FLOWS_MAX: usize = 2_048;
/// How long a flow that nobody can use any more is shown: longer than scrapes are apart, so that the
/// last of its counts is seen.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// How often room is looked for beyond the bound: that looks at all flows, while connections wait.
const FORGET_EVERY: Duration = Duration::from_secs(10);
/// What stands for flows beyond the bound.
const OTHER: &str = "other";

/// A family of names beside our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// Envoy's, with the tags that Consul gives its proxies.
    Envoy,
    /// Istio's.
    Istio,
}

/// What tells flows apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlowKey {
    pub(crate) side: Side,
    pub(crate) source: Party,
    pub(crate) destination: Party,
    /// The name of the target, as it is given in TLS; inbound `local_app`.
    pub(crate) cluster: Box<str>,
    /// The number of the route of the destination's router, from 1; 0 for none.
    pub(crate) route: u32,
    pub(crate) protocol: Protocol,
    /// Whether both ends show certificates.
    pub(crate) is_mutual: bool,
}

impl FlowKey {
    /// Returns the end at which it was counted.
    fn own(&self) -> &Party {
        match self.side {
            Side::Inbound => &self.destination,
            Side::Outbound => &self.source,
        }
    }
}

/// One end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Party {
    pub(crate) service: Box<str>,
    pub(crate) datacenter: Box<str>,
    /// Its SPIFFE ID.
    pub(crate) identity: Box<str>,
}

impl Party {
    /// Names a service of the mesh.
    pub(crate) fn of(service: &ServiceName, id: &SpiffeId) -> Self {
        Self {
            service: service.as_str().into(),
            datacenter: id.datacenter.as_str().into(),
            identity: id.to_string().into(),
        }
    }

    /// Names somebody of whom nothing is known.
    pub(crate) fn unknown() -> Self {
        let unknown = || "unknown".into();
        Self { service: unknown(), datacenter: unknown(), identity: unknown() }
    }

    fn other() -> Self {
        let (service, identity) = (OTHER.into(), OTHER.into());
        Self { service, datacenter: OTHER.into(), identity }
    }
}

/// All flows of the process. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flows(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: Mutex<AllKnown>,
    overflowed: AtomicU64,
    expired: AtomicU64,
}

#[derive(Debug, Default)]
struct AllKnown {
    /// A scrape takes the keys along without copying what they hold.
    flows: BTreeMap<Arc<FlowKey>, Known>,
    /// When it was last looked for such as nobody uses.
    forgot: Option<Instant>,
}

/// One flow.
#[derive(Debug)]
struct Known {
    /// By the worker's number.
    workers: BTreeMap<usize, Arc<Flow>>,
    /// How much was counted when it was last looked at, and since when it is no more.
    activity: u64,
    since: Instant,
}

impl Flows {
    /// Returns a worker's counts of a flow.
    pub(crate) fn flow(&self, worker: usize, key: FlowKey) -> Arc<Flow> {
        let mut all = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.flows.get_mut(&key) {
            return known.workers.entry(worker).or_default().clone();
        }
        let (mut key, now) = (key, clock::instant());
        let is_full = all.flows.len() >= FLOWS_MAX;
        if is_full && all.forgot.is_none_or(|at| now >= at + FORGET_EVERY) {
            self.forget(&mut all, now);
        }
        if all.flows.len() >= FLOWS_MAX {
            self.0.overflowed.fetch_add(1, Ordering::Relaxed);
            let (source, destination) = (Party::other(), Party::other());
            key = FlowKey { source, destination, cluster: OTHER.into(), route: 0, ..key };
        }
        let known = all.flows.entry(Arc::new(key)).or_insert_with(|| {
            let workers = BTreeMap::new();
            Known { workers, activity: 0, since: now }
        });
        known.workers.entry(worker).or_default().clone()
    }

    /// Forgets flows that nobody uses and that have long not changed.
    fn forget(&self, all: &mut AllKnown, now: Instant) {
        all.forgot = Some(now);
        let before = all.flows.len();
        all.flows.retain(|_, known| {
            let activity = known.workers.values().map(|flow| flow.activity()).sum();
            if activity != known.activity {
                (known.activity, known.since) = (activity, now);
            }
            let is_used = known.workers.values().any(|flow| Arc::strong_count(flow) > 1);
            is_used || now < known.since + IDLE_MAX
        });
        let gone = (before - all.flows.len()) as u64;
        self.0.expired.fetch_add(gone, Ordering::Relaxed);
    }

    /// Adds up the flows that are asked for, without the lock: whoever opens a connection needs that.
    fn sums(&self, is_meant: impl Fn(&FlowKey) -> bool) -> Vec<(Arc<FlowKey>, Sum)> {
        let flows: Vec<(Arc<FlowKey>, Vec<Arc<Flow>>)> = {
            let all = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
            let workers = |known: &Known| known.workers.values().cloned().collect();
            let meant = all.flows.iter().filter(|(key, _)| is_meant(key));
            meant.map(|(key, known)| (key.clone(), workers(known))).collect()
        };
        flows.into_iter().map(|(key, workers)| (key, Sum::of(&workers))).collect()
    }

    /// Returns what was counted of the flows in and out of a service, the busiest ones.
    pub(crate) fn of(&self, service: &str) -> Vec<FlowCounts> {
        let is_own = |key: &FlowKey| *key.own().service == *service;
        let sums = self.sums(is_own).into_iter();
        let mut counts: Vec<FlowCounts> = sums.map(|(key, sum)| sum.counts(&key)).collect();
        if counts.len() > FLOWS_TOLD_MAX {
            counts.sort_by_key(|counts| Reverse(counts.requests + counts.opened));
            counts.truncate(FLOWS_TOLD_MAX);
        }
        counts
    }

    /// Writes all flows in our own names and in those of the dialects.
    pub(super) fn encode(&self, dialects: &BTreeSet<Dialect>, out: &mut String) {
        {
            let mut all = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
            self.forget(&mut all, clock::instant());
        }
        let sums = self.sums(|_| true);
        let mut page = Page(out);
        page.single(
            "weft_proxy_flows",
            ("gauge", "Flows that are told apart at present."),
            sums.len() as u64,
        );
        page.single(
            "weft_proxy_flows_overflowed_total",
            ("counter", "Times that a flow was counted under other, as there are too many."),
            self.0.overflowed.load(Ordering::Relaxed),
        );
        page.single(
            "weft_proxy_flows_expired_total",
            ("counter", "Flows that were forgotten, as nobody uses them."),
            self.0.expired.load(Ordering::Relaxed),
        );
        native::write(&sums, &mut page);
        for dialect in dialects {
            match dialect {
                Dialect::Envoy => envoy::write(&sums, &mut page),
                Dialect::Istio => istio::write(&sums, &mut page),
            }
        }
    }
}

#[cfg(test)]
mod tests;
