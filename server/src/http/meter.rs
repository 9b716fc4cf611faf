//! Counts the API's requests by page and status. Nothing is looked up or allocated on the way of
//! a request: each route has a row of counters.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::http::{Method, StatusCode};
use weft_runtime::telemetry::metrics::collector::Collector;
use weft_runtime::telemetry::metrics::encoding::{DescriptorEncoder, EncodeMetric};
use weft_runtime::telemetry::metrics::{
    ConstCounter, Gauge, Histogram, Registry, exponential_buckets,
};

/// The statuses that are told apart; any other counts as `other`.
const STATUSES: [u16; 15] =
    [200, 400, 401, 403, 404, 405, 408, 409, 412, 413, 429, 500, 501, 502, 503];

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One row: a counter for each status, and one for the others.
#[derive(Debug, Default)]
struct Row([AtomicU64; STATUSES.len() + 1]);

/// The counters. Clones are the same.
#[derive(Clone)]
pub(super) struct Meter {
    names: Arc<[(Method, String)]>,
    /// One for each route, and a last one for requests that are for none.
    rows: Arc<[Row]>,
    seconds: Histogram,
    in_flight: Gauge,
}

impl Meter {
    /// Makes counters for these routes, in their order.
    pub(super) fn new(names: Vec<(Method, String)>) -> Self {
        let rows = (0..=names.len()).map(|_| Row::default()).collect();
        // 50 µs, an answer from memory, to 13 s, a write that was held while there was no leader.
        let seconds = Histogram::new(exponential_buckets(0.000_05, 4.0, 10));
        Self { names: names.into(), rows, seconds, in_flight: Gauge::default() }
    }

    /// Shows the figures.
    pub(super) fn register(&self, registry: &Registry) {
        registry.register(
            "http_request_seconds",
            "Time to the head of an answer; of blocking queries, only those that did not wait",
            self.seconds.clone(),
        );
        registry.register(
            "http_requests_in_flight",
            "Requests that are being answered, blocking queries included",
            self.in_flight.clone(),
        );
        registry.register_collector(Box::new(self.clone()));
    }

    /// Counts a request that has come, for as long as what is returned is there.
    pub(super) fn came(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts its answer; `route` is its place among the routes, `took` how long it took if it
    /// did not wait for a change.
    pub(super) fn answered(
        &self,
        route: Option<usize>,
        status: StatusCode,
        took: Option<Duration>,
    ) {
        let at = STATUSES.iter().position(|known| *known == status.as_u16());
        let row = route.filter(|route| *route < self.names.len()).unwrap_or(self.names.len());
        let at = at.unwrap_or(STATUSES.len());
        if let Some(count) = self.rows.get(row).and_then(|row| row.0.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(took) = took {
            self.seconds.observe(took.as_secs_f64());
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("routes", &self.names.len()).finish_non_exhaustive()
    }
}

impl Collector for Meter {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Requests of the HTTP API by page and status";
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family =
            encoder.encode_descriptor("weft_server_http_requests", help, None, kind)?;
        for (at, row) in self.rows.iter().enumerate() {
            let name = self.names.get(at);
            let (method, route) =
                name.map_or(("-", "none"), |(method, route)| (method.as_str(), route.as_str()));
            for (place, count) in row.0.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count == 0 {
                    continue;
                }
                let status = STATUSES.get(place).map_or("other".to_owned(), u16::to_string);
                let labels = [("method", method), ("route", route), ("status", status.as_str())];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
