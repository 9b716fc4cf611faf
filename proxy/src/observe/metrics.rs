//! Counts. Each worker writes its own, without locks; a scrape adds them up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use weft_core::chain::TargetId;
use weft_core::log_format::{LatencyPart, LatencySplit, is_failure};
use weft_core::name::ServiceName;
use weft_core::traffic::Traffic;
use weft_core::traffic::gate::Gate;
use weft_runtime::clock;
use weft_runtime::telemetry::audit::AuditLog;

use super::captured::CapturedCounts;
use super::flows::{Dialect, Flows};
use super::logs::LineCounts;
use super::plaintext::{PlaintextReport, PlaintextSources};
use super::quic::{Board, QuicCounts};
use super::spans::SpanCounts;
use super::udp::UdpCounts;
use crate::handover::Standing;
use crate::http::Outcome;

/// Series kept at once, of all workloads: labels come from configuration, whose changes over months must not
/// fill the memory. What comes later is counted under `other`.
const SERIES_MAX: usize = 16_384;

/// Upper bounds of the duration histogram: half a millisecond is a good hop on loopback, ten
/// seconds the usual end of patience.
///
/// **Units**: microseconds.
pub(super) const DURATION_BOUNDS_US: [u64; 12] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_000_000, 10_000_000,
];

/// A count that one thread writes and others read.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds to the count. Only the owning thread does: a plain load and store, no bus lock.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Reads the count.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the count.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// One kind of count among others.
pub(super) type Pick<C> = fn(&C) -> &Count;

/// Which way a series looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Inbound,
    Outbound,
}

impl Side {
    /// Returns the other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Inbound => Self::Outbound,
            Self::Outbound => Self::Inbound,
        }
    }
}

/// The labels of a series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Labels {
    /// In a host proxy the id of the proxy's registration, else empty.
    pub(super) proxy: Box<str>,
    /// In a host proxy who calls, outbound; else empty.
    pub(super) source: Box<str>,
    pub(super) side: Side,
    /// Outbound the upstream's service, inbound the local one.
    pub(super) service: Box<str>,
    /// Outbound the target's id, inbound empty.
    pub(super) target: Box<str>,
}

/// How long requests spent somewhere, in buckets of [`DURATION_BOUNDS_US`].
#[derive(Debug, Default)]
pub(crate) struct Durations {
    pub(super) buckets: [Count; DURATION_BOUNDS_US.len() + 1],
    pub(super) us: Count,
}

impl Durations {
    fn add(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = DURATION_BOUNDS_US.iter().position(|bound| us <= *bound);
        self.buckets[bucket.unwrap_or(DURATION_BOUNDS_US.len())].add(1);
        self.us.add(us);
    }
}

/// Counts of one direction to one target, by one worker.
#[derive(Debug, Default)]
pub(crate) struct Series {
    /// Requests by the hundreds of their status; 0 those that broke off.
    pub(super) requests: [Count; 6],
    pub(super) durations: Durations,
    /// Where the time went, in the order of [`LatencyPart::ALL`], of requests of which somebody wanted
    /// to know it. Made when the first comes.
    pub(super) latencies: OnceLock<Box<[Durations; LatencyPart::ALL.len()]>>,
    pub(crate) bytes_sent: Count,
    pub(crate) bytes_received: Count,
    pub(crate) connections_opened: Count,
    pub(crate) connections_closed: Count,
    pub(crate) handshakes_failed: Count,
    pub(crate) denied: Count,
    /// Let through by intentions that are tried out.
    pub(crate) dry_run_denied: Count,
    /// Let through, refused and left without an answer by an external authoriser.
    pub(crate) authorised: Count,
    pub(crate) unauthorised: Count,
    pub(crate) authorisers_failed: Count,
    /// Rare, and of few values: causes are words in the code.
    pub(super) causes: Mutex<BTreeMap<&'static str, u64>>,
    /// What routes do besides sending requests on; words in the code as well.
    pub(super) deeds: Mutex<BTreeMap<&'static str, u64>>,
}

impl Series {
    /// Counts a request.
    pub(crate) fn request(&self, outcome: &Outcome) {
        let class = usize::from(outcome.status / 100).min(5);
        self.requests[class].add(1);
        self.durations.add(outcome.duration);
        self.bytes_sent.add(outcome.request_bytes);
        self.bytes_received.add(outcome.response_bytes);
        match outcome.cause {
            Some(cause) if is_failure(cause) => self.cause(cause),
            Some(cause) => self.deed(cause),
            None => {}
        }
    }

    /// Returns how many requests there were, and how many of them were answered well.
    pub(crate) fn traffic(&self) -> Traffic {
        let count = |classes: &[Count]| classes.iter().map(Count::value).sum();
        Traffic { ended: count(&self.requests), good: count(&self.requests[1..5]) }
    }

    /// Counts where the time of a request went.
    pub(crate) fn spent(&self, latency: &LatencySplit) {
        let parts = self.latencies.get_or_init(Box::default);
        for (part, time) in latency.parts() {
            parts[part as usize].add(time);
        }
    }

    /// Counts a cause of failure.
    pub(crate) fn cause(&self, cause: &'static str) {
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        *causes.entry(cause).or_default() += 1;
    }

    /// Counts what a route has done besides sending a request on.
    pub(crate) fn deed(&self, deed: &'static str) {
        let mut deeds = self.deeds.lock().unwrap_or_else(PoisonError::into_inner);
        *deeds.entry(deed).or_default() += 1;
    }
}

/// Counts of one worker's connections of many streams, on one side.
#[derive(Debug, Default)]
pub(crate) struct MuxCounts {
    pub(crate) connections_opened: Count,
    pub(crate) connections_closed: Count,
    pub(crate) streams_opened: Count,
    pub(crate) streams_closed: Count,
    pub(crate) bytes_sent: Count,
    pub(crate) bytes_received: Count,
    pub(crate) resets_received: Count,
    /// Connections ended since the peer broke the rules.
    pub(crate) violations: Count,
}

/// The counts of each worker by its number, on each side that it has.
#[derive(Debug, Default)]
pub(super) struct BySide<C>(Mutex<BTreeMap<Side, BTreeMap<usize, Arc<C>>>>);

impl<C: Default> BySide<C> {
    fn of_worker(&self, side: Side, worker: usize) -> Arc<C> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(side).or_default().entry(worker).or_default().clone()
    }

    /// Adds up one of the counts of all workers.
    pub(super) fn sums(&self, pick: Pick<C>) -> Vec<(Side, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |of: &BTreeMap<usize, Arc<C>>| of.values().map(|it| pick(it).value()).sum();
        all.iter().map(|(side, workers)| (*side, sum(workers))).collect()
    }
}

/// All counts of the process. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics(pub(super) Arc<Registry>);

#[derive(Debug, Default)]
pub(super) struct Registry {
    /// By proxy. Each is there for as long as somebody counts.
    workloads: Mutex<BTreeMap<Box<str>, Weak<Counts>>>,
    series_count: Arc<AtomicUsize>,
    /// Counts its records itself.
    pub(super) audit: OnceLock<AuditLog>,
    pub(super) standing: OnceLock<Standing>,
    pub(super) spans: Arc<SpanCounts>,
    pub(super) lines: Arc<LineCounts>,
    pub(super) flows: Flows,
    /// Names beside our own in which flows are told.
    pub(super) dialects: OnceLock<BTreeSet<Dialect>>,
}

/// What is counted of one workload.
#[derive(Debug)]
pub(super) struct Counts {
    /// In a host proxy the id of the proxy's registration, else empty.
    pub(super) proxy: Box<str>,
    pub(super) series: Mutex<BTreeMap<Labels, BTreeMap<usize, Arc<Series>>>>,
    series_count: Arc<AtomicUsize>,
    pub(super) mux: BySide<MuxCounts>,
    pub(super) quic: BySide<QuicCounts>,
    pub(super) udp: BySide<UdpCounts>,
    pub(super) captured: BySide<CapturedCounts>,
    board: Board,
    pub(super) snapshot_version: Count,
    pub(super) snapshots_refused: Count,
    pub(super) leaf_valid_before_ms: Count,
    pub(super) listeners_failed: Count,
    pub(super) plaintext: PlaintextSources,
    /// Of the configuration in force.
    pub(super) gate: Mutex<Option<Arc<Gate>>>,
}

impl Drop for Counts {
    fn drop(&mut self) {
        let series = self.series.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.series_count.fetch_sub(series.len(), Ordering::Relaxed);
    }
}

/// The door to the counts of one workload. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadMetrics(Arc<Counts>);

/// One worker's door to the counts of one workload.
#[derive(Debug, Clone)]
pub(crate) struct WorkerMetrics {
    counts: Arc<Counts>,
    worker: usize,
}

impl Metrics {
    /// Returns the counts of a workload; those of one that comes back while its connections still
    /// end go on. The name is empty for a sidecar, which is the only one.
    pub(crate) fn workload(&self, proxy: &str) -> WorkloadMetrics {
        let mut all = self.0.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, counts| counts.strong_count() > 0);
        if let Some(counts) = all.get(proxy).and_then(Weak::upgrade) {
            return WorkloadMetrics(counts);
        }
        let counts = Arc::new(Counts {
            proxy: proxy.into(),
            series: Mutex::default(),
            series_count: self.0.series_count.clone(),
            mux: BySide::default(),
            quic: BySide::default(),
            udp: BySide::default(),
            captured: BySide::default(),
            board: Board::default(),
            snapshot_version: Count::default(),
            snapshots_refused: Count::default(),
            leaf_valid_before_ms: Count::default(),
            listeners_failed: Count::default(),
            plaintext: PlaintextSources::default(),
            gate: Mutex::default(),
        });
        all.insert(proxy.into(), Arc::downgrade(&counts));
        WorkloadMetrics(counts)
    }

    /// Returns the counts of all workloads, by proxy.
    pub(super) fn workloads(&self) -> Vec<Arc<Counts>> {
        let all = self.0.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().filter_map(Weak::upgrade).collect()
    }

    /// Has the records of the audit log shown.
    pub(crate) fn show_audit(&self, log: AuditLog) {
        // Started once.
        let _ = self.0.audit.set(log);
    }

    /// Has it shown how many processes had the listeners before.
    pub(crate) fn stands(&self, standing: Standing) {
        // Started once.
        let _ = self.0.standing.set(standing);
    }

    /// Returns the counts of spans.
    pub(crate) fn spans(&self) -> Arc<SpanCounts> {
        self.0.spans.clone()
    }

    /// Returns who calls whom.
    pub(crate) fn flows(&self) -> Flows {
        self.0.flows.clone()
    }

    /// Has flows told in further names.
    pub(crate) fn speaks(&self, dialects: BTreeSet<Dialect>) {
        // Started once.
        let _ = self.0.dialects.set(dialects);
    }

    /// Returns the counts of lines about requests.
    pub(crate) fn lines(&self) -> Arc<LineCounts> {
        self.0.lines.clone()
    }
}

impl WorkloadMetrics {
    /// Makes a worker's door.
    pub(crate) fn worker(&self, worker: usize) -> WorkerMetrics {
        WorkerMetrics { counts: self.0.clone(), worker }
    }

    /// Notes the configuration in force.
    pub(crate) fn applied(&self, version: u64, leaf_valid_before_ms: u64) {
        self.0.snapshot_version.set(version);
        self.0.leaf_valid_before_ms.set(leaf_valid_before_ms);
    }

    /// Has the limit of requests under way shown.
    pub(crate) fn shows_gate(&self, gate: Option<Arc<Gate>>) {
        *self.0.gate.lock().unwrap_or_else(PoisonError::into_inner) = gate;
    }

    /// Counts a configuration that was refused.
    pub(crate) fn refused(&self) {
        self.0.snapshots_refused.add(1);
    }

    /// Notes how many listeners could not be opened.
    pub(crate) fn listeners_failed(&self, count: usize) {
        self.0.listeners_failed.set(count as u64);
    }

    /// Returns what is spoken with an endpoint, each once; nothing where there is no choice.
    pub(crate) fn spoken(&self, endpoint: SocketAddr) -> Vec<&'static str> {
        self.0.board.spoken(endpoint)
    }

    /// Returns who came without mutual TLS.
    pub(crate) fn plaintext(&self) -> PlaintextReport {
        self.0.plaintext.report()
    }
}

impl WorkerMetrics {
    /// Counts a connection without mutual TLS.
    pub(crate) fn plaintext(&self, source: Option<IpAddr>) {
        self.counts.plaintext.note(source, clock::wall());
    }

    /// Returns this worker's counts of connections of many streams.
    pub(crate) fn mux(&self, side: Side) -> Arc<MuxCounts> {
        self.counts.mux.of_worker(side, self.worker)
    }

    /// Returns this worker's counts of QUIC connections.
    pub(crate) fn quic(&self, side: Side) -> Arc<QuicCounts> {
        self.counts.quic.of_worker(side, self.worker)
    }

    /// Returns the worker's counts of redirected connections.
    pub(crate) fn captured(&self) -> Arc<CapturedCounts> {
        self.counts.captured.of_worker(Side::Outbound, self.worker)
    }

    /// Returns this worker's counts of UDP.
    pub(crate) fn udp(&self, side: Side) -> Arc<UdpCounts> {
        self.counts.udp.of_worker(side, self.worker)
    }

    /// Returns where it is written what is spoken with endpoints.
    pub(crate) fn board(&self) -> &Board {
        &self.counts.board
    }

    /// Returns the counts of calls of the local service to one target of another.
    pub(crate) fn outbound(
        &self,
        (source, service): (&ServiceName, &ServiceName),
        target: &TargetId,
    ) -> Arc<Series> {
        let proxy = self.counts.proxy.clone();
        self.series(Labels {
            source: if proxy.is_empty() { "".into() } else { source.as_str().into() },
            proxy,
            side: Side::Outbound,
            service: service.as_str().into(),
            target: target.as_str().into(),
        })
    }

    /// Returns the counts of calls to the local instance.
    pub(crate) fn inbound(&self, service: &ServiceName) -> Arc<Series> {
        let (proxy, service) = (self.counts.proxy.clone(), service.as_str().into());
        let (source, target) = ("".into(), "".into());
        self.series(Labels { proxy, source, side: Side::Inbound, service, target })
    }

    fn series(&self, mut labels: Labels) -> Arc<Series> {
        let mut all = self.counts.series.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &self.counts.series_count;
        if count.load(Ordering::Relaxed) >= SERIES_MAX && !all.contains_key(&labels) {
            (labels.service, labels.target) = ("other".into(), "other".into());
        }
        let workers = all.entry(labels).or_insert_with(|| {
            count.fetch_add(1, Ordering::Relaxed);
            BTreeMap::new()
        });
        workers.entry(self.worker).or_default().clone()
    }
}

/// Counts a connection while it is open.
#[derive(Debug)]
pub(crate) struct Open(Arc<Series>);

impl Open {
    /// Counts it as opened.
    pub(crate) fn new(series: &Arc<Series>) -> Self {
        series.connections_opened.add(1);
        Self(series.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections_closed.add(1);
    }
}

impl Outcome {
    /// Makes the outcome of something that was refused before it began.
    pub(crate) fn refused(status: u16, cause: &'static str, duration: Duration) -> Self {
        let cause = Some(cause);
        Self { status, cause, grpc_status: None, request_bytes: 0, response_bytes: 0, duration }
    }
}
