//! What one worker counts of a flow, and what all of them have counted together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use weft_core::log_format::flag_of;
use weft_core::traffic::flow::{
    FlowCounts, FlowName, FlowSide, HISTOGRAM_BOUNDS as BOUNDS, HistogramCounts, has_failed,
};
use weft_core::traffic::outlier::Cause;

use super::super::metrics::Count;
use super::{FlowKey, Side};
use crate::http::Outcome;

/// What became of a request: its status, its flag (`-` for none), and the status of gRPC.
pub(super) type Ending = (u16, &'static str, Option<u8>);

/// What stands for each status of gRPC that is none.
pub(super) const GRPC_OTHER: u8 = 17;

/// Counts of instances that are left out: by cause, those spared, those taken back.
const SPARED: usize = Cause::ALL.len();
const READMITTED: usize = SPARED + 1;
const EJECTIONS: usize = READMITTED + 1;

/// What further attempts came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryResult {
    /// Wanted, and not made: the body was not kept.
    Body,
    /// The same: the target's budget was spent.
    Budget,
    /// The same: all attempts had been made.
    Limit,
    /// Begun.
    Retried,
    /// A request was answered well after some.
    Success,
    /// Wanted, and not made: the time of the request would have been over.
    Time,
}

impl RetryResult {
    pub(super) const ALL: [Self; 6] =
        [Self::Body, Self::Budget, Self::Limit, Self::Retried, Self::Success, Self::Time];

    /// Returns the word for it in metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Budget => "budget",
            Self::Limit => "limit",
            Self::Retried => "retried",
            Self::Success => "success",
            Self::Time => "time",
        }
    }
}

/// What rate limits made of requests and connections that they are there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RateResult {
    /// Refused.
    Limited,
    /// Let through, by limits that are tried out.
    Shadowed,
    Within,
}

impl RateResult {
    pub(super) const ALL: [Self; 3] = [Self::Limited, Self::Shadowed, Self::Within];

    /// Returns the word for it in metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Limited => "limited",
            Self::Shadowed => "shadowed",
            Self::Within => "within",
        }
    }
}

/// One worker's counts of a flow.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Requests without a flag, by status: hundreds, then the rest. Made when the first comes.
    by_status: [OnceLock<Box<[Count; 100]>>; 6],
    /// Calls of gRPC without a flag that HTTP calls 200, by their own status. Made when the first
    /// comes.
    by_grpc: OnceLock<Box<[Count; GRPC_OTHER as usize + 1]>>,
    /// Rare beside the others, and of few values.
    flagged: Mutex<BTreeMap<Ending, u64>>,
    /// In the order of [`RetryResult::ALL`]. Made when the first comes.
    retries: OnceLock<Box<[Count; RetryResult::ALL.len()]>>,
    /// In the order of [`RateResult::ALL`]. Made when the first comes.
    rates: OnceLock<Box<[Count; RateResult::ALL.len()]>>,
    durations: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    opened: Count,
    closed: Count,
    failed: Count,
    overflowed: Count,
    /// In the order of [`Cause::ALL`]; then those spared and those taken back. Made when the first comes.
    ejections: OnceLock<Box<[Count; EJECTIONS]>>,
    sent: Count,
    received: Count,
}

#[derive(Debug)]
struct Histogram {
    buckets: [Count; BOUNDS.len() + 1],
    /// In thousandths.
    sum: Count,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Count::default()), sum: Count::default() }
    }
}

impl Histogram {
    fn add(&self, thousandths: u64) {
        let value = thousandths as f64 / 1e3;
        let bucket = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].add(1);
        self.sum.add(thousandths);
    }
}

impl Flow {
    /// Counts a request.
    pub(crate) fn request(&self, outcome: &Outcome) {
        let flag = outcome.cause.and_then(flag_of);
        let grpc = outcome.grpc_status.map(|status| status.min(GRPC_OTHER));
        match (flag, grpc) {
            (None, Some(grpc)) if outcome.status == 200 => {
                let made = || Box::new(std::array::from_fn(|_| Count::default()));
                self.by_grpc.get_or_init(made)[usize::from(grpc)].add(1);
            }
            (None, None) => {
                let class = usize::from(outcome.status / 100).min(5);
                let rest = usize::from(outcome.status % 100);
                let made = || Box::new(std::array::from_fn(|_| Count::default()));
                self.by_status[class].get_or_init(made)[rest].add(1);
            }
            (flag, grpc) => {
                let mut all = self.flagged.lock().unwrap_or_else(PoisonError::into_inner);
                *all.entry((outcome.status, flag.unwrap_or("-"), grpc)).or_default() += 1;
            }
        }
        self.durations.add(u64::try_from(outcome.duration.as_micros()).unwrap_or(u64::MAX));
        self.request_bytes.add(outcome.request_bytes.saturating_mul(1000));
        self.response_bytes.add(outcome.response_bytes.saturating_mul(1000));
    }

    /// Counts what a further attempt came to.
    pub(crate) fn retried(&self, result: RetryResult) {
        self.retries.get_or_init(Box::default)[result as usize].add(1);
    }

    /// Counts what found as many connections as there may be.
    pub(crate) fn overflowed(&self) {
        self.overflowed.add(1);
    }

    /// Counts what rate limits made of a request or a connection.
    pub(crate) fn metered(&self, result: RateResult) {
        self.rates.get_or_init(Box::default)[result as usize].add(1);
    }

    /// Counts an instance that is left out.
    pub(crate) fn ejected(&self, cause: Cause) {
        self.ejections.get_or_init(Box::default)[cause as usize].add(1);
    }

    /// Counts an instance that is not, as as many are as may be.
    pub(crate) fn spared(&self) {
        self.ejections.get_or_init(Box::default)[SPARED].add(1);
    }

    /// Counts an instance that is called again.
    pub(crate) fn readmitted(&self) {
        self.ejections.get_or_init(Box::default)[READMITTED].add(1);
    }

    /// Counts a connection of bytes that begins.
    pub(crate) fn opened(&self) {
        self.opened.add(1);
    }

    /// Counts a connection of bytes that has ended.
    pub(crate) fn closed(&self, has_failed: bool, (sent, received): (u64, u64)) {
        self.closed.add(1);
        self.failed.add(u64::from(has_failed));
        self.sent.add(sent);
        self.received.add(received);
    }

    /// Returns a number that rises with everything that is counted.
    pub(super) fn activity(&self) -> u64 {
        let requests: u64 = self.durations.buckets.iter().map(Count::value).sum();
        requests + self.opened.value() + self.closed.value()
    }
}

/// What all workers have counted of a flow.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) requests: BTreeMap<Ending, u64>,
    retries: [u64; RetryResult::ALL.len()],
    rates: [u64; RateResult::ALL.len()],
    pub(super) durations: Buckets,
    pub(super) request_bytes: Buckets,
    pub(super) response_bytes: Buckets,
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) failed: u64,
    pub(super) overflowed: u64,
    ejections: [u64; EJECTIONS],
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// A histogram of a sum.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    pub(super) counts: HistogramCounts,
    thousandths: u64,
}

impl Buckets {
    fn add(&mut self, histogram: &Histogram) {
        for (sum, count) in self.counts.iter_mut().zip(&histogram.buckets) {
            *sum += count.value();
        }
        self.thousandths = self.thousandths.wrapping_add(histogram.sum.value());
    }

    pub(super) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn sum(&self) -> f64 {
        self.thousandths as f64 / 1e3
    }
}

impl Sum {
    pub(super) fn of(workers: &[Arc<Flow>]) -> Self {
        let mut sum = Self::default();
        for flow in workers {
            for (class, rests) in flow.by_status.iter().enumerate() {
                let rests = rests.get().into_iter().flat_map(|rests| rests.iter().enumerate());
                for (rest, count) in rests.filter(|(_, count)| count.value() > 0) {
                    let status = u16::try_from(class * 100 + rest).unwrap_or_default();
                    *sum.requests.entry((status, "-", None)).or_default() += count.value();
                }
            }
            let grpc = flow.by_grpc.get().into_iter().flat_map(|all| (0..).zip(all.iter()));
            for (grpc, count) in grpc.filter(|(_, count)| count.value() > 0) {
                *sum.requests.entry((200, "-", Some(grpc))).or_default() += count.value();
            }
            let flagged = flow.flagged.lock().unwrap_or_else(PoisonError::into_inner);
            flagged.iter().for_each(|(key, count)| *sum.requests.entry(*key).or_default() += count);
            for (sum, count) in
                sum.retries.iter_mut().zip(flow.retries.get().into_iter().flat_map(|it| it.iter()))
            {
                *sum += count.value();
            }
            for (sum, count) in
                sum.rates.iter_mut().zip(flow.rates.get().into_iter().flat_map(|it| it.iter()))
            {
                *sum += count.value();
            }
            sum.durations.add(&flow.durations);
            sum.request_bytes.add(&flow.request_bytes);
            sum.response_bytes.add(&flow.response_bytes);
            sum.opened += flow.opened.value();
            sum.closed += flow.closed.value();
            sum.failed += flow.failed.value();
            sum.overflowed += flow.overflowed.value();
            let ejections = flow.ejections.get().into_iter().flat_map(|it| it.iter());
            for (sum, count) in sum.ejections.iter_mut().zip(ejections) {
                *sum += count.value();
            }
            sum.sent += flow.sent.value();
            sum.received += flow.received.value();
        }
        sum
    }

    /// Returns the same for those who follow what goes on.
    pub(super) fn counts(&self, key: &FlowKey) -> FlowCounts {
        let direction = match key.side {
            Side::Inbound => FlowSide::Inbound,
            Side::Outbound => FlowSide::Outbound,
        };
        let name = FlowName {
            direction,
            source: key.source.service.to_string(),
            destination: key.destination.service.to_string(),
            target: key.cluster.to_string(),
            route: key.route,
            protocol: key.protocol,
        };
        let failed =
            self.requests.iter().filter(|((status, _, grpc), _)| has_failed(*status, *grpc));
        FlowCounts {
            name,
            requests: self.durations.total(),
            failed: failed.map(|(_, count)| count).sum(),
            durations: self.durations.counts,
            opened: self.opened,
            closed: self.closed,
            sent: self.sent,
            received: self.received,
        }
    }

    /// Returns how often further attempts came to this.
    pub(super) fn retries(&self, result: RetryResult) -> u64 {
        self.retries[result as usize]
    }

    /// Returns how often instances were left out for this.
    pub(super) fn ejections(&self, cause: Cause) -> u64 {
        self.ejections[cause as usize]
    }

    /// Returns how often instances were left out, were not as too many were, and were called again.
    pub(super) fn ejections_total(&self) -> (u64, u64, u64) {
        let [by_cause @ .., spared, readmitted] = &self.ejections;
        (by_cause.iter().sum(), *spared, *readmitted)
    }

    /// Returns how many requests were refused as there were as many as there may be.
    pub(super) fn refused(&self) -> u64 {
        self.requests.iter().filter(|((_, flag, _), _)| *flag == "UO").map(|(_, count)| count).sum()
    }

    /// Returns of how many requests and connections rate limits made this.
    pub(super) fn rates(&self, result: RateResult) -> u64 {
        self.rates[result as usize]
    }

    /// Returns the requests by what is made of their status.
    pub(super) fn by(&self, of: impl Fn(u16) -> u16) -> BTreeMap<u16, u64> {
        let mut all = BTreeMap::new();
        for ((status, _, _), count) in &self.requests {
            *all.entry(of(*status)).or_default() += count;
        }
        all
    }
}
