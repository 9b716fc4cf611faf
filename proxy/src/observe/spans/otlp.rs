//! Spans as OTLP.
//!
//! **Source**: OpenTelemetry: opentelemetry/proto/trace/v1.

use std::collections::BTreeMap;

use weft_proto::grpc::otlp::any_value::Value as Any;
use weft_proto::grpc::otlp::span::Kind;
use weft_proto::grpc::otlp::status::Code;
use weft_proto::grpc::otlp::{
    AnyValue, ExportTraceServiceRequest, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans,
    Span as OtlpSpan, Status,
};

use super::{Span, SpanKind, Value};

/// Puts spans into one message, by their service.
pub(super) fn request(spans: &[Span]) -> ExportTraceServiceRequest {
    let mut by_service: BTreeMap<&str, Vec<OtlpSpan>> = BTreeMap::new();
    for span in spans {
        by_service.entry(&span.service).or_default().push(otlp(span));
    }
    let resource_spans = by_service.into_iter().map(|(service, spans)| ResourceSpans {
        resource: Some(Resource { attributes: vec![pair("service.name", &Value::Text(service))] }),
        scope_spans: vec![ScopeSpans {
            scope: Some(Scope {
                name: "weft-proxy".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            }),
            spans,
        }],
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

fn otlp(span: &Span) -> OtlpSpan {
    let context = &span.traced.context;
    let mut attributes = Vec::new();
    span.each_attribute(|key, value| attributes.push(pair(key, &value)));
    let kind = match span.kind {
        SpanKind::Client => Kind::Client,
        SpanKind::Server => Kind::Server,
    };
    let status = span.is_error().then(|| Status {
        message: span.cause.unwrap_or_default().to_owned(),
        code: Code::Error.into(),
    });
    OtlpSpan {
        trace_id: context.trace.to_be_bytes().to_vec().into(),
        span_id: context.span.to_be_bytes().to_vec().into(),
        parent_span_id: context
            .parent
            .map(|parent| parent.to_be_bytes().to_vec().into())
            .unwrap_or_default(),
        name: span.traced.method.to_string(),
        kind: kind.into(),
        start_time_unix_nano: span.start(),
        end_time_unix_nano: span.end,
        attributes,
        status,
    }
}

fn pair(key: &str, value: &Value<'_>) -> KeyValue {
    let value = match value {
        Value::Text(text) => Any::StringValue((*text).to_owned()),
        Value::Number(number) => Any::IntValue(i64::try_from(*number).unwrap_or(i64::MAX)),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}
