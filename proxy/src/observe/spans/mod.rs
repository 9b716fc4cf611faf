//! Spans: what a collector of traces is told of requests.
//!
//! A request that is planned gets its place in a trace ([`Traced`]); when it has ended it is
//! decided whether anybody is told, and if so [`Spans`] takes the span to the exporter's task.

mod otlp;
mod zipkin;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::transport::Channel;
use tracing::warn;
use weft_core::config_entry::{Collector, CollectorProtocol, Tracing};
use weft_core::log_format::{LatencyPart, LatencySplit};
use weft_core::traffic::{Mix64, RequestView, TraceContext};
use weft_proto::grpc::otlp::trace_service_client::TraceServiceClient;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::export::{self, ANSWER_BYTES_MAX, Signal, WAITING_MAX};
use crate::http::{Edits, Outcome};

/// Bytes of a text that comes from a request.
const TEXT_BYTES_MAX: usize = 1024;

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct SpanCounts {
    pub(super) sent: AtomicU64,
    /// The queue was full.
    pub(super) dropped: AtomicU64,
    /// The collector did not take them.
    pub(super) failed: AtomicU64,
}

impl SpanCounts {
    /// Returns the counts with what became of the spans.
    pub(super) fn counts(&self) -> [(&'static str, u64); 3] {
        let Self { sent, dropped, failed } = self;
        let each = [("sent", sent), ("dropped", dropped), ("failed", failed)];
        each.map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// The door to the exporter. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Spans {
    door: mpsc::Sender<Span>,
    counts: Arc<SpanCounts>,
}

/// Which side of a request is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpanKind {
    /// Our instance calls.
    Client,
    /// Our instance is called.
    Server,
}

/// A request's place in its trace, from its plan to its end.
#[derive(Debug)]
pub(crate) struct Traced {
    config: Arc<Tracing>,
    context: TraceContext,
    method: Box<str>,
    path: Box<str>,
    host: Box<str>,
    /// Where the time until the head of the answer went.
    latency: Option<LatencySplit>,
}

/// A request that has ended.
#[derive(Debug)]
struct Span {
    traced: Traced,
    kind: SpanKind,
    service: String,
    /// Whom it was sent to, or from whom it came.
    peer: String,
    status: u16,
    cause: Option<&'static str>,
    request_bytes: u64,
    response_bytes: u64,
    /// **Units**: nanoseconds since 1970.
    end: u64,
    duration: Duration,
}

impl Traced {
    /// Finds a request's place, and adds what the next hop gets of it to the changes.
    pub(crate) fn new(
        config: &Arc<Tracing>,
        request: &impl RequestView,
        random: &mut Mix64,
        edits: &mut Edits,
    ) -> Box<Self> {
        let context = TraceContext::of(request, config, random);
        context.each_header(|name, value| match value {
            Some(value) => edits.set(name, value.as_bytes()),
            None => edits.remove(name),
        });
        let mut host = Box::default();
        request.each_header("host", &mut |value| host = text(value));
        Box::new(Self {
            config: config.clone(),
            context,
            method: text(request.method().as_bytes()),
            path: text(request.path()),
            host,
            latency: None,
        })
    }

    /// Whether somebody is told of the request whatever becomes of it.
    pub(crate) fn is_sampled(&self) -> bool {
        self.context.is_sampled
    }

    /// Notes where the time went.
    pub(crate) fn spent(&mut self, latency: LatencySplit) {
        self.latency = Some(latency);
    }

    /// Returns the trace's id and that of the request in it.
    pub(crate) fn ids(&self) -> (u128, u64) {
        (self.context.trace, self.context.span)
    }

    /// Whether somebody is told of a request that ended so.
    fn is_told(&self, outcome: &Outcome) -> bool {
        let is_error = outcome.status >= 500 || outcome.status == 0;
        let slow = self.config.keep_slower_than.0;
        self.context.is_sampled
            || self.config.keep_errors && is_error
            || !slow.is_zero() && outcome.duration > slow
    }
}

impl Spans {
    /// Starts the exporter.
    pub(crate) fn start(counts: Arc<SpanCounts>, tasks: &TaskTree) -> Self {
        let (door, waiting) = mpsc::channel(WAITING_MAX);
        tasks.spawn("spans", export::run(waiting, counts.clone(), tasks.clone()));
        Self { door, counts }
    }

    /// Tells of a request that has ended, if it is to be told of.
    pub(crate) fn end(
        &self,
        traced: &mut Option<Box<Traced>>,
        outcome: &Outcome,
        (kind, service, peer): (SpanKind, &str, &dyn std::fmt::Display),
    ) {
        let Some(traced) = traced.take_if(|traced| traced.is_told(outcome)) else { return };
        let span = Span {
            traced: *traced,
            kind,
            service: service.to_owned(),
            peer: peer.to_string(),
            status: outcome.status,
            cause: outcome.cause,
            request_bytes: outcome.request_bytes,
            response_bytes: outcome.response_bytes,
            end: clock::unix_nanos(),
            duration: outcome.duration,
        };
        if self.door.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Signal for Span {
    type Config = Tracing;
    type Counts = SpanCounts;

    fn path(protocol: CollectorProtocol) -> &'static str {
        match protocol {
            CollectorProtocol::OtlpGrpc | CollectorProtocol::OtlpHttp => "/v1/traces",
            CollectorProtocol::Zipkin => "/api/v2/spans",
        }
    }

    fn config(&self) -> &Arc<Tracing> {
        &self.traced.config
    }

    fn collector(config: &Tracing) -> Collector {
        config.collector()
    }

    fn message(protocol: CollectorProtocol, batch: &[Self]) -> (&'static str, Vec<u8>) {
        match protocol {
            CollectorProtocol::OtlpGrpc | CollectorProtocol::OtlpHttp => {
                ("application/x-protobuf", otlp::request(batch).bytes())
            }
            CollectorProtocol::Zipkin => {
                ("application/json", zipkin::list(batch).to_string().into_bytes())
            }
        }
    }

    async fn call(channel: Channel, batch: &[Self]) -> Result<(i64, String), tonic::Status> {
        let answer = TraceServiceClient::new(channel)
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .export(otlp::request(batch))
            .await?;
        let partly = answer.into_inner().partial_success.unwrap_or_default();
        Ok((partly.rejected_spans, partly.error_message))
    }

    fn count(counts: &SpanCounts, taken: u64, lost: u64) {
        counts.sent.fetch_add(taken, Ordering::Relaxed);
        counts.failed.fetch_add(lost, Ordering::Relaxed);
    }

    fn warn(collector: &str, lost: u64, reason: &str) {
        warn!(collector, spans = lost, reason, "the collector of traces does not take spans");
    }
}

impl Span {
    fn start(&self) -> u64 {
        self.end - u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX).min(self.end)
    }

    fn is_error(&self) -> bool {
        // What a client did wrong is no error of who answered it.
        self.status >= 500
            || self.status == 0
            || self.kind == SpanKind::Client && self.status >= 400
    }

    /// Shows the attributes of the request and its end, those of the configuration included.
    ///
    /// **Source**: OpenTelemetry: Semantic conventions for HTTP spans; `weft.*` are our own.
    fn each_attribute(&self, mut visit: impl FnMut(&str, Value<'_>)) {
        visit("http.request.method", Value::Text(&self.traced.method));
        visit("url.path", Value::Text(&self.traced.path));
        visit("url.scheme", Value::Text("http"));
        if !self.traced.host.is_empty() {
            visit("server.address", Value::Text(&self.traced.host));
        }
        if self.status != 0 {
            visit("http.response.status_code", Value::Number(self.status.into()));
        }
        visit("http.request.body.size", Value::Number(self.request_bytes));
        visit("http.response.body.size", Value::Number(self.response_bytes));
        let peer = match self.kind {
            SpanKind::Client => "weft.target",
            SpanKind::Server => "weft.caller",
        };
        visit(peer, Value::Text(&self.peer));
        if let Some(cause) = self.cause {
            visit("error.type", Value::Text(cause));
        }
        for (part, time) in self.traced.latency.iter().flat_map(LatencySplit::parts) {
            let name = match part {
                LatencyPart::Application => "weft.latency.application_us",
                LatencyPart::Network => "weft.latency.network_us",
                LatencyPart::Proxy => "weft.latency.proxy_us",
                LatencyPart::RemoteProxy => "weft.latency.remote_proxy_us",
            };
            let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            visit(name, Value::Number(us));
        }
        for (key, value) in &self.traced.config.tags {
            visit(key, Value::Text(value));
        }
    }
}

/// The value of an attribute.
enum Value<'a> {
    Text(&'a str),
    Number(u64),
}

/// What is kept of a text of a request.
fn text(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_MAX)]).into()
}
