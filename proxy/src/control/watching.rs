//! Those who watch a workload live, as the agent names them, and what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::mpsc;
use tracing::warn;
use weft_core::traffic::tap::{TAP_RATE_MAX, TapFilter, TapRate};
use weft_proto::envelope;
use weft_proto::grpc::v1::{ProxySeen, ProxyTap, ProxyWishes, SeenByTap};
use weft_runtime::clock;

use crate::http::chain;
use crate::observe::{Seen, TapSet};
use crate::tenant::Tenant;

/// Bytes of events in one message: less than the agent takes.
const MESSAGE_BYTES: usize = 256 << 10;

/// Who watches at present, and what is under way to them.
#[derive(Debug, Default)]
pub(super) struct Watching {
    /// As the agent has said it last.
    wanted: Vec<ProxyTap>,
    wants_flows: bool,
    /// `None` while nobody watches, or it is not known yet who the workload is.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    set: Arc<TapSet>,
    seen: mpsc::Receiver<Seen>,
    /// In the order of the set.
    rates: Vec<TapRate>,
}

impl Watching {
    /// Follows the agent's list, from now on.
    pub(super) fn want(&mut self, wishes: ProxyWishes, tenant: &Tenant) {
        self.wants_flows = wishes.flows;
        if self.wanted != wishes.taps {
            self.wanted = wishes.taps;
            self.open = None;
        }
        self.begin(tenant);
    }

    /// Has nobody watch any more.
    pub(super) fn end(&mut self, tenant: &Tenant) {
        *self = Self::default();
        tenant.taps.put(None);
    }

    /// Whether somebody follows what is counted.
    pub(super) fn wants_flows(&self) -> bool {
        self.wants_flows
    }

    /// Whether anybody watches requests and connections.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Begins to watch once it is known whom.
    pub(super) fn begin(&mut self, tenant: &Tenant) {
        let workload = tenant.cell.load();
        let (true, Some(workload)) = (self.open.is_none(), &*workload) else { return };
        let snapshot = &workload.snapshot;
        let own = (snapshot.service.to_string(), snapshot.spiffe_id.to_string());
        let now = clock::instant();
        let (mut filters, mut rates) = (Vec::new(), Vec::new());
        for tap in &self.wanted {
            match envelope::decode::<TapFilter>(&tap.filter) {
                Ok(filter) => {
                    filters.push((tap.id, filter));
                    rates.push(TapRate::new(tap.rate.min(TAP_RATE_MAX), now));
                }
                Err(error) => warn!(error = chain(&error), "what is to be watched is not readable"),
            }
        }
        if filters.is_empty() {
            return tenant.taps.put(None);
        }
        let (set, seen) = TapSet::new(filters, own);
        let mut open = Open { set, seen, rates };
        open.refill(now);
        tenant.taps.put(Some(open.set.clone()));
        self.open = Some(open);
    }

    /// Returns what is to be told now, and lets more be seen.
    pub(super) fn tell(&mut self, now: Instant) -> Option<ProxySeen> {
        let open = self.open.as_mut()?;
        let mut told: BTreeMap<u64, SeenByTap> = BTreeMap::new();
        let mut bytes = 0;
        while bytes < MESSAGE_BYTES
            && let Ok(seen) = open.seen.try_recv()
        {
            let (event, taps) = seen.told();
            let event = envelope::encode(&event);
            for id in taps {
                bytes += event.len();
                told.entry(id).or_default().events.push(event.clone());
            }
        }
        for tap in open.set.taps() {
            let missed = tap.missed.swap(0, Ordering::Relaxed);
            if missed > 0 {
                told.entry(tap.id).or_default().missed += missed;
            }
        }
        open.refill(now);
        let taps = told.into_iter().map(|(id, seen)| SeenByTap { id, ..seen });
        let taps: Vec<SeenByTap> = taps.collect();
        (!taps.is_empty()).then_some(ProxySeen { taps })
    }
}

impl Open {
    fn refill(&mut self, now: Instant) {
        for (tap, rate) in self.set.taps().iter().zip(&mut self.rates) {
            let left = tap.budget.load(Ordering::Relaxed).max(0);
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            let granted = rate.take(rate.per_second().saturating_sub(left), now);
            tap.budget.fetch_add(granted.into(), Ordering::Relaxed);
        }
    }
}
