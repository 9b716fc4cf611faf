//! A connection that carries bytes: counted, and told of at its end, however it ends.

use std::cell::Cell;
use std::sync::Arc;

use weft_core::log_format::LogRecord;
use weft_core::traffic::Mix64;

use super::{AccessLog, Logged, Watchers};
use crate::http::Outcome;
use crate::observe::taps::Between;
use crate::observe::{Flow, Series};
use crate::tcp::Tally;

/// A connection from its beginning until this is dropped.
pub(crate) struct Carried {
    series: Arc<Series>,
    flow: Option<Arc<Flow>>,
    line: Option<(Box<Logged>, AccessLog)>,
    /// Why it ends.
    cause: Cell<Option<&'static str>>,
    /// What has gone over it.
    pub(crate) tally: Tally,
}

impl Carried {
    /// Begins it; `fill` says what its line tells, and is asked only if there may be one.
    pub(crate) fn begin(
        (series, flow): (&Arc<Series>, Option<Arc<Flow>>),
        (watchers, between, door): (Watchers<'_>, Between<'_>, &AccessLog),
        random: &mut Mix64,
        fill: impl FnOnce(&mut LogRecord),
    ) -> Self {
        let watched = watchers.taps.connection(between);
        let line = Logged::new(watchers.plan, watched, random);
        let line = line.map(|mut line| {
            fill(&mut line.record);
            line.opened();
            (line, door.clone())
        });
        // What drops it unasked cuts it.
        let cause = Cell::new(Some("connection-cut"));
        flow.iter().for_each(|flow| flow.opened());
        Self { series: series.clone(), flow, line, cause, tally: Tally::default() }
    }

    /// Adds to what the line tells.
    pub(crate) fn tell(&mut self, fill: impl FnOnce(&mut LogRecord)) {
        if let Some((line, _)) = &mut self.line {
            fill(&mut line.record);
        }
    }

    /// Ends it as its two ends wanted.
    pub(crate) fn end(self) {
        self.cause.set(None);
    }

    /// Ends it with a failure.
    pub(crate) fn fail(self, cause: &'static str) {
        self.cause.set(Some(cause));
        self.series.cause(cause);
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let (sent, received) = (self.tally.sent.get(), self.tally.received.get());
        self.series.bytes_sent.add(sent);
        self.series.bytes_received.add(received);
        if let Some(flow) = &self.flow {
            flow.closed(self.cause.get().is_some(), (sent, received));
        }
        if let Some((line, door)) = self.line.take() {
            let outcome = Outcome {
                status: 0,
                cause: self.cause.get(),
                grpc_status: None,
                request_bytes: sent,
                response_bytes: received,
                duration: line.age(),
            };
            let datagrams = self.tally.datagrams.get();
            line.end(&door, &outcome, |record| {
                record.datagrams = record.datagrams.map(|_| datagrams);
            });
        }
    }
}
