//! What is noted of one request from its plan to its end: its line, its place in a trace, and where
//! its time goes. Clocks are read for the last only if somebody wants to know.

use std::cell::Cell;
use std::time::{Duration, Instant};

use weft_core::log_format::LatencySplit;
use weft_runtime::clock;

use super::logs::Logged;
use super::spans::{SpanKind, Spans, Traced};
use crate::http::Outcome;

/// What is noted of one request. Every open connection has room for one, which is why what is rare
/// lies elsewhere.
pub(crate) struct Observed {
    /// Taken when the request has ended.
    logged: Cell<Option<Box<Logged>>>,
    /// Taken when the request has ended.
    traced: Cell<Option<Box<Traced>>>,
    /// `None` while nobody wants to know where the time goes.
    timing: Option<Box<Timing>>,
}

/// The measuring of a request.
#[derive(Debug, Default)]
struct Timing {
    /// When it left this proxy; `None` before.
    handed: Cell<Option<Instant>>,
    /// Whether the calling proxy wants to know where the time goes.
    is_asked: bool,
}

impl Observed {
    /// Begins; where the time goes is measured for a line that tells it and for a trace that is kept.
    pub(crate) fn new(logged: Option<Box<Logged>>, traced: Option<Box<Traced>>) -> Self {
        let is_wanted = logged.as_ref().is_some_and(|line| line.wants_latency())
            || traced.as_ref().is_some_and(|traced| traced.is_sampled());
        let timing = is_wanted.then(Box::default);
        Self { logged: Cell::new(logged), traced: Cell::new(traced), timing }
    }

    /// Notes that the calling proxy wants to know where the time goes.
    pub(crate) fn ask(&mut self) {
        self.timing.get_or_insert_default().is_asked = true;
    }

    /// Whether the calling proxy wants to know where the time goes.
    pub(crate) fn is_asked(&self) -> bool {
        self.timing.as_ref().is_some_and(|timing| timing.is_asked)
    }

    /// Whether somebody wants to know where the time goes.
    pub(crate) fn wants_latency(&self) -> bool {
        self.timing.is_some()
    }

    /// Notes that a connection for the request is looked for: from here the time is not this proxy's
    /// own. Further attempts change nothing.
    pub(crate) fn hand(&self) {
        if let Some(timing) = &self.timing
            && timing.handed.get().is_none()
        {
            timing.handed.set(Some(clock::instant()));
        }
    }

    /// Splits the time since the request came at where it left this proxy; `None` where nobody wants
    /// to know.
    pub(crate) fn split(&self, started: Instant) -> Option<(Duration, Duration)> {
        let handed = self.timing.as_ref()?.handed.get()?;
        Some((handed - started, clock::instant() - handed))
    }

    /// Notes where the time went.
    pub(crate) fn spent(&self, latency: LatencySplit) {
        self.with_line(|line| line.spent(latency));
        if let Some(mut traced) = self.traced.take() {
            traced.spent(latency);
            self.traced.set(Some(traced));
        }
    }

    /// Notes the head of the answer.
    pub(crate) fn answered(&self, each_header: impl Fn(&str, &mut dyn FnMut(&[u8]))) {
        self.with_line(|line| line.answered(each_header));
    }

    /// Notes the fields after the answer's body.
    pub(crate) fn trailed(&self, each_header: impl Fn(&str, &mut dyn FnMut(&[u8]))) {
        self.with_line(|line| line.trailed(each_header));
    }

    /// Notes why there is no connection to where it should have gone.
    pub(crate) fn failed(&self, reason: &str) {
        self.with_line(|line| line.failed(reason));
    }

    fn with_line(&self, note: impl FnOnce(&mut Logged)) {
        if let Some(mut line) = self.logged.take() {
            note(&mut line);
            self.logged.set(Some(line));
        }
    }

    /// Ends its place in a trace; returns the trace's id and its own.
    pub(crate) fn end_trace(
        &self,
        spans: &Spans,
        outcome: &Outcome,
        told: (SpanKind, &str, &dyn std::fmt::Display),
    ) -> Option<(u128, u64)> {
        let mut traced = self.traced.take();
        let trace = traced.as_ref().map(|traced| traced.ids());
        spans.end(&mut traced, outcome, told);
        trace
    }

    /// Takes its line, if there is one.
    pub(crate) fn take_line(&self) -> Option<Box<Logged>> {
        self.logged.take()
    }
}
