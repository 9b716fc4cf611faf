//! Spans as Zipkin's JSON.
//!
//! **Source**: Zipkin: API v2, POST /api/v2/spans.

use serde_json::{Value as Json, json};

use super::{Span, SpanKind, Value};

/// Puts spans into one list.
pub(super) fn list(spans: &[Span]) -> Json {
    spans.iter().map(zipkin).collect()
}

fn zipkin(span: &Span) -> Json {
    let context = &span.traced.context;
    let mut tags = serde_json::Map::new();
    span.each_attribute(|key, value| {
        let text = match value {
            Value::Text(text) => text.to_owned(),
            Value::Number(number) => number.to_string(),
        };
        tags.insert(key.to_owned(), text.into());
    });
    if span.is_error() {
        tags.insert("error".to_owned(), span.cause.unwrap_or("true").into());
    }
    let kind = match span.kind {
        SpanKind::Client => "CLIENT",
        SpanKind::Server => "SERVER",
    };
    let us = |nanos: u64| nanos / 1_000;
    let mut found = json!({
        "traceId": format!("{:032x}", context.trace),
        "id": format!("{:016x}", context.span),
        "kind": kind,
        "name": span.traced.method.to_ascii_lowercase(),
        "timestamp": us(span.start()),
        // Zipkin takes 0 for unknown.
        "duration": us(span.end - span.start()).max(1),
        "localEndpoint": { "serviceName": span.service },
        "tags": tags,
    });
    if let Some(parent) = context.parent {
        found["parentId"] = format!("{parent:016x}").into();
    }
    found
}
