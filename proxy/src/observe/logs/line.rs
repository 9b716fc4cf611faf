//! One line from its request's beginning to its end.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use weft_core::local_address::LocalAddress;
use weft_core::log_format::{LatencySplit, LogRecord, is_failure, shown_query};
use weft_core::name::ServiceName;
use weft_core::traffic::tap::TapKind;
use weft_core::traffic::{Mix64, RequestView};
use weft_runtime::clock;

use super::otlp::Told;
use super::{AccessLog, LogPlan};
use crate::http::Outcome;
use crate::observe::taps::{Between, Taps, Watched};

/// Bytes of a method, and of a host: longer ones are cut.
const WORD_BYTES_MAX: usize = 256;
/// Bytes of a path.
const PATH_BYTES_MAX: usize = weft_core::log_format::LOG_TEXT_BYTES_MAX;

/// A line under way: for the access log, for those who watch, or for both.
#[derive(Debug)]
pub(crate) struct Logged {
    /// `None` where it is for those who watch alone.
    pub(super) plan: Option<Arc<LogPlan>>,
    pub(super) record: LogRecord,
    /// There is a line whatever becomes of it.
    is_sampled: bool,
    /// For those who watch.
    watched: Option<Watched>,
    started: Instant,
}

/// Who wants to know of requests and connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watchers<'a> {
    /// What the access log wants.
    pub(crate) plan: Option<&'a Arc<LogPlan>>,
    pub(crate) taps: &'a Taps,
}

impl Watchers<'_> {
    /// Whether there are none.
    pub(crate) fn is_nobody(&self) -> bool {
        self.plan.is_none() && !self.taps.is_watched()
    }
}

/// The lines of one connection.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Of the request that was refused last, until its end is noted.
    refused: RefCell<Option<Box<Logged>>>,
    from: From,
}

/// Where the requests of a connection come from.
#[derive(Debug)]
pub(crate) struct From {
    /// `inbound` or `outbound`.
    pub(crate) direction: &'static str,
    /// A number that no other connection has.
    pub(crate) connection: u64,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) local: LocalAddress,
}

impl From {
    /// Puts it down.
    pub(crate) fn tell(&self, record: &mut LogRecord) {
        record.direction = self.direction;
        record.connection = self.connection;
        (record.remote, record.local) = (self.remote, Some(self.local.clone()));
    }
}

impl Lines {
    /// Makes the lines of a connection; boxed, as every open connection holds this.
    pub(crate) fn new(from: From) -> Box<Self> {
        Box::new(Self { refused: RefCell::default(), from })
    }

    /// Puts down where the connection's requests come from.
    pub(crate) fn tell(&self, record: &mut LogRecord) {
        self.from.tell(record);
    }

    /// Begins the line of a request, if there may be one.
    pub(crate) fn begin<R: RequestView + ?Sized>(
        &self,
        (watchers, between): (Watchers<'_>, Between<'_>),
        random: &mut Mix64,
        (request, path): (&R, &[u8]),
    ) -> Option<Box<Logged>> {
        let plan = watchers.plan.filter(|plan| !plan.config.filter.excludes(path));
        let watched = watchers.taps.request((request, path), between);
        let mut logged = Logged::new(plan, watched, random)?;
        let record = &mut logged.record;
        self.from.tell(record);
        record.protocol = Some(request.protocol());
        record.method = text(request.method().as_bytes(), WORD_BYTES_MAX);
        record.path = text(path, PATH_BYTES_MAX);
        record.query = request.query().map(|query| shown_query(query).into());
        request.each_header("host", &mut |host| record.authority = text(host, WORD_BYTES_MAX));
        if let Some(plan) = &logged.plan {
            record.request_headers =
                plan.format.request_headers(|name, visit| request.each_header(name, visit));
        }
        Some(logged)
    }

    /// Keeps the line of a request that is about to be refused.
    pub(crate) fn refuse(&self, logged: Option<Box<Logged>>) {
        *self.refused.borrow_mut() = logged;
    }

    /// Returns the line of the request that was refused; of one that could not be read it says little.
    pub(crate) fn refused(
        &self,
        plan: Option<&Arc<LogPlan>>,
        random: &mut Mix64,
        cause: Option<&str>,
    ) -> Option<Box<Logged>> {
        if let Some(logged) = self.refused.borrow_mut().take() {
            return Some(logged);
        }
        // Of one that was read there is no line because nobody wants one.
        let is_unread = matches!(cause, Some("bad-request" | "body-timeout" | "head-timeout"));
        let mut logged = Logged::new(plan.filter(|_| is_unread), None, random)?;
        self.from.tell(&mut logged.record);
        logged.record.protocol = Some("HTTP/1.1");
        Some(logged)
    }
}

impl Logged {
    /// Begins a line that says nothing yet, if there may be one.
    pub(super) fn new(
        plan: Option<&Arc<LogPlan>>,
        watched: Option<Watched>,
        random: &mut Mix64,
    ) -> Option<Box<Self>> {
        let is_sampled = plan.is_some_and(|plan| plan.samples(random));
        let plan = plan.filter(|plan| is_sampled || plan.config.filter.has_conditions()).cloned();
        if plan.is_none() && watched.is_none() {
            return None;
        }
        let (record, started) = (LogRecord::default(), clock::instant());
        Some(Box::new(Self { plan, record, is_sampled, watched, started }))
    }

    /// Whether it tells where the time of its request goes.
    pub(crate) fn wants_latency(&self) -> bool {
        self.watched.is_some() || self.plan.as_ref().is_some_and(|plan| plan.format.has_latency())
    }

    /// Notes where the time went.
    pub(crate) fn spent(&mut self, latency: LatencySplit) {
        self.record.latency = Some(latency);
    }

    /// Shows a connection that has just been opened.
    pub(super) fn opened(&mut self) {
        if let Some(watched) = &self.watched {
            self.record.start_ns = clock::unix_nanos();
            watched.show(TapKind::ConnectionOpened, &self.record);
        }
    }

    /// Notes which route it took: the upstream's service, and the number of the route of its router.
    pub(crate) fn takes(&mut self, service: &ServiceName, route: Option<usize>) {
        self.record.route = route.map(|number| format!("{service}#{number}").into());
    }

    /// Notes the head of the answer.
    pub(crate) fn answered(&mut self, each_header: impl Fn(&str, &mut dyn FnMut(&[u8]))) {
        self.record.response_duration = Some(clock::instant() - self.started);
        self.note_grpc(&each_header);
        if let Some(plan) = &self.plan {
            self.record.response_headers = plan.format.response_headers(each_header);
        }
    }

    /// Notes the fields after the answer's body.
    pub(crate) fn trailed(&mut self, each_header: impl Fn(&str, &mut dyn FnMut(&[u8]))) {
        self.note_grpc(&each_header);
        if let Some(plan) = &self.plan {
            self.record.trailers = plan.format.trailers(each_header);
        }
    }

    /// Notes why there is no connection to where it should have gone.
    pub(crate) fn failed(&mut self, reason: &str) {
        self.record.transport_failure = Some(text(reason.as_bytes(), WORD_BYTES_MAX));
    }

    /// Notes how often it was tried to send it on, and Envoy's word for why it was not tried again.
    pub(crate) fn attempted(&mut self, count: u32, flag: Option<&'static str>) {
        (self.record.attempts, self.record.attempts_flag) = (count, flag);
    }

    fn note_grpc(&mut self, each_header: &impl Fn(&str, &mut dyn FnMut(&[u8]))) {
        each_header("grpc-status", &mut |status| {
            let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
            self.record.grpc_status = status.or(self.record.grpc_status);
        });
    }

    /// Ends the line; `fill` says what is known besides, and is asked only if it is wanted.
    pub(crate) fn end(
        mut self: Box<Self>,
        door: &AccessLog,
        outcome: &Outcome,
        fill: impl FnOnce(&mut LogRecord),
    ) {
        let (status, cause) = (outcome.status, outcome.cause);
        self.record.cause = cause;
        let (flag, more) = (self.record.flag(), self.record.attempts_flag);
        let keeps = |plan: &Arc<LogPlan>| {
            let filter = &plan.config.filter;
            let has_failed = cause.is_some_and(is_failure);
            let keeps = |flag| filter.keeps(status, has_failed, flag, outcome.duration);
            keeps(flag) || more.is_some() && keeps(more)
        };
        let is_kept = self.is_sampled || self.plan.as_ref().is_some_and(keeps);
        if !is_kept && self.watched.is_none() {
            return;
        }
        let record = &mut self.record;
        record.status = status;
        record.bytes_received = outcome.request_bytes;
        record.bytes_sent = outcome.response_bytes;
        record.duration = outcome.duration;
        let took = u64::try_from(outcome.duration.as_nanos()).unwrap_or(u64::MAX);
        record.start_ns = clock::unix_nanos().saturating_sub(took);
        fill(record);
        if let Some(watched) = self.watched.take() {
            let kind = match self.record.protocol {
                Some(_) => TapKind::Request,
                None => TapKind::ConnectionClosed,
            };
            watched.show(kind, &self.record);
        }
        if is_kept {
            door.take(self);
        }
    }

    /// Takes what a collector is told of it, if its line goes to one.
    pub(super) fn for_collector(mut self: Box<Self>) -> Result<Told, Box<Self>> {
        let plan = self.plan.take_if(|plan| plan.place.collector().is_some());
        match plan {
            Some(plan) => Ok(Told { plan, record: self.record }),
            None => Err(self),
        }
    }

    /// Returns how long ago it began.
    pub(super) fn age(&self) -> std::time::Duration {
        clock::instant() - self.started
    }
}

fn text(bytes: &[u8], max: usize) -> Box<str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into()
}
