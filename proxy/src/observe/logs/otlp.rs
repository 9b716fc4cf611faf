//! Lines as records of OTLP. What they say is decided by `core::log_format`.
//!
//! **Source**: OpenTelemetry: opentelemetry/proto/logs/v1.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tonic::transport::Channel;
use tracing::warn;
use weft_core::config_entry::{Collector, CollectorProtocol};
use weft_core::log_format::{Attribute, LogRecord as LineRecord};
use weft_proto::grpc::otlp::any_value::Value as Any;
use weft_proto::grpc::otlp::{AnyValue, KeyValue, Resource, Scope};
use weft_proto::grpc::otlp_logs::logs_service_client::LogsServiceClient;
use weft_proto::grpc::otlp_logs::{
    ExportLogsServiceRequest, LogRecord, ResourceLogs, ScopeLogs, SeverityNumber,
};
use weft_runtime::clock;

use super::{LineCounts, LogPlan};
use crate::observe::export::{ANSWER_BYTES_MAX, Signal};

/// A line for a collector.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) plan: Arc<LogPlan>,
    pub(super) record: LineRecord,
}

impl Signal for Box<Told> {
    type Config = Collector;
    type Counts = LineCounts;

    fn path(_protocol: CollectorProtocol) -> &'static str {
        "/v1/logs"
    }

    fn config(&self) -> &Arc<Collector> {
        self.plan.place.collector().expect("lines for other places go to the writing thread")
    }

    fn collector(config: &Collector) -> Collector {
        config.clone()
    }

    fn message(_protocol: CollectorProtocol, batch: &[Self]) -> (&'static str, Vec<u8>) {
        ("application/x-protobuf", request(batch).bytes())
    }

    async fn call(channel: Channel, batch: &[Self]) -> Result<(i64, String), tonic::Status> {
        let answer = LogsServiceClient::new(channel)
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .export(request(batch))
            .await?;
        let partly = answer.into_inner().partial_success.unwrap_or_default();
        Ok((partly.rejected_log_records, partly.error_message))
    }

    fn count(counts: &LineCounts, taken: u64, lost: u64) {
        counts.written.fetch_add(taken, Ordering::Relaxed);
        counts.failed.fetch_add(lost, Ordering::Relaxed);
    }

    fn warn(collector: &str, lost: u64, reason: &str) {
        warn!(collector, lines = lost, reason, "the collector of logs does not take lines");
    }
}

/// Puts lines into one message, by their proxy.
fn request(lines: &[Box<Told>]) -> ExportLogsServiceRequest {
    let mut by_proxy: Vec<(&LogPlan, Vec<LogRecord>)> = Vec::new();
    for line in lines {
        let record = record(line);
        match by_proxy.iter_mut().find(|(plan, _)| plan.scope == line.plan.scope) {
            Some((_, records)) => records.push(record),
            None => by_proxy.push((&line.plan, vec![record])),
        }
    }
    let resource_logs = by_proxy.into_iter().map(|(plan, log_records)| {
        let mut attributes = Vec::new();
        plan.scope.each_attribute(&mut |name, value| attributes.push(pair(name, value)));
        let scope =
            Scope { name: "weft-proxy".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        ResourceLogs {
            resource: Some(Resource { attributes }),
            scope_logs: vec![ScopeLogs { scope: Some(scope), log_records }],
        }
    });
    ExportLogsServiceRequest { resource_logs: resource_logs.collect() }
}

fn record(line: &Told) -> LogRecord {
    let told = &line.record;
    let mut attributes = Vec::new();
    told.each_attribute(&mut |name, value| attributes.push(pair(name, value)));
    let body = match line.plan.config.has_format() {
        true => {
            let mut text = String::new();
            line.plan.format.write(&line.plan.scope, told, &mut text);
            text
        }
        false => told.headline(),
    };
    let (severity, severity_text) = match told.has_failed() {
        true => (SeverityNumber::Error, "ERROR"),
        false => (SeverityNumber::Info, "INFO"),
    };
    let trace_id = told.trace.map(|id| id.to_be_bytes().to_vec().into());
    let span_id = told.span.map(|id| id.to_be_bytes().to_vec().into());
    LogRecord {
        time_unix_nano: told.start_ns,
        observed_time_unix_nano: clock::unix_nanos(),
        severity_number: severity.into(),
        severity_text: severity_text.to_owned(),
        body: Some(AnyValue { value: Some(Any::StringValue(body)) }),
        attributes,
        trace_id: trace_id.unwrap_or_default(),
        span_id: span_id.unwrap_or_default(),
    }
}

fn pair(name: &str, value: Attribute<'_>) -> KeyValue {
    let value = match value {
        Attribute::Number(number) => Any::IntValue(i64::try_from(number).unwrap_or(i64::MAX)),
        Attribute::Text(text) => Any::StringValue(text.into_owned()),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}
