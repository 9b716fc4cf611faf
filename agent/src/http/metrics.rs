//! `/v1/agent/metrics`: what the agent counts, as JSON or for Prometheus.
//!
//! **Source**: Consul: api-docs/agent#view-metrics. Names have dots after the process in JSON, as
//! Consul's, and the same words.

use std::collections::BTreeMap;

use http::{HeaderValue, Response};
use serde_json::{Map, Value, json};
use weft_runtime::clock;
use weft_runtime::http::Body;
use weft_runtime::telemetry::metrics::CONTENT_TYPE;

use super::answer::{self, ApiError};
use super::{Api, Call};

impl Api {
    pub(super) fn metrics(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        match call.query.get("format") {
            Some("prometheus" | "openmetrics") => {
                let kind = HeaderValue::from_static(CONTENT_TYPE);
                Ok(answer::text(self.metrics_text(), kind))
            }
            None | Some("" | "json") => {
                Ok(answer::json(&self.metrics_json(), call.query.has("pretty")))
            }
            Some(other) => {
                let reason = format!("format: {other:?} is neither prometheus nor json");
                Err(ApiError::Query(reason))
            }
        }
    }

    fn metrics_text(&self) -> String {
        let valid_before = self.parts.servers.valid_before();
        self.parts.metrics.observe(&self.parts.local.current(), valid_before);
        self.parts.metrics.encode()
    }

    /// The metrics at this moment.
    pub(super) fn metrics_json(&self) -> Value {
        let mut shown = as_json(&self.metrics_text());
        shown.insert("Timestamp".to_owned(), clock::wall().rfc3339().into());
        Value::Object(shown)
    }
}

/// Turns our own text form into Consul's lists.
fn as_json(text: &str) -> Map<String, Value> {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut gauges, mut counters) = (Vec::new(), Vec::new());
    let mut samples: BTreeMap<(String, String), (f64, f64)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            kinds.extend(rest.split_once(' '));
            continue;
        }
        let Some((series, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let Ok(value) = value.parse::<f64>() else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}');
        let kind = |suffix: &str| {
            let base = name.strip_suffix(suffix)?;
            kinds.get(base).map(|kind| (base, *kind))
        };
        if let Some((base, "counter")) = kind("_total") {
            let Value::Object(mut shown) = sample(base, (value, value), labels) else { continue };
            shown.insert("Rate".to_owned(), json!(0));
            counters.push(Value::Object(shown));
        } else if let Some((base, "histogram")) = kind("_sum") {
            samples.entry((base.to_owned(), labels.to_owned())).or_default().1 = value;
        } else if let Some((base, "histogram")) = kind("_count") {
            samples.entry((base.to_owned(), labels.to_owned())).or_default().0 = value;
        } else if let Some((base, "gauge")) = kind("") {
            let labels = labels_of(labels);
            gauges.push(json!({ "Name": dotted(base), "Value": value, "Labels": labels }));
        }
    }
    let samples: Vec<Value> =
        samples.iter().map(|((name, labels), counts)| sample(name, *counts, labels)).collect();
    let mut shown = Map::new();
    shown.insert("Gauges".to_owned(), gauges.into());
    shown.insert("Points".to_owned(), json!([]));
    shown.insert("Counters".to_owned(), counters.into());
    shown.insert("Samples".to_owned(), samples.into());
    shown
}

fn sample(name: &str, (count, sum): (f64, f64), labels: &str) -> Value {
    let mean = if count > 0.0 { sum / count } else { 0.0 };
    json!({ "Name": dotted(name), "Count": count, "Sum": sum, "Mean": mean,
        "Labels": labels_of(labels) })
}

/// `weft_agent_http_requests` is `weft.agent.http_requests`.
fn dotted(name: &str) -> String {
    match name.strip_prefix("weft_agent_") {
        Some(rest) => format!("weft.agent.{rest}"),
        None => name.replacen('_', ".", 1),
    }
}

/// Our labels have plain words as values.
fn labels_of(text: &str) -> BTreeMap<&str, &str> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name, value.trim_matches('"'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_becomes_consuls_lists() {
        let text = "# HELP weft_agent_syncs Syncs.\n# TYPE weft_agent_syncs counter\n\
            weft_agent_syncs_total 3\n# TYPE weft_agent_checks gauge\n\
            weft_agent_checks{status=\"passing\"} 2\n\
            # TYPE weft_agent_http_request_seconds histogram\n\
            weft_agent_http_request_seconds_sum 0.5\n\
            weft_agent_http_request_seconds_count 2\n\
            weft_agent_http_request_seconds_bucket{le=\"1.0\"} 2\n# EOF\n";
        let shown = Value::Object(as_json(text));
        let expected = json!({
            "Gauges": [{ "Name": "weft.agent.checks", "Value": 2.0,
                "Labels": { "status": "passing" } }],
            "Points": [],
            "Counters": [{ "Name": "weft.agent.syncs", "Count": 3.0, "Sum": 3.0, "Mean": 1.0,
                "Rate": 0, "Labels": {} }],
            "Samples": [{ "Name": "weft.agent.http_request_seconds", "Count": 2.0, "Sum": 0.5,
                "Mean": 0.25, "Labels": {} }],
        });
        assert_eq!(shown, expected);
    }
}
