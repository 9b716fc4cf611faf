//! `/v1/agent/metrics` at a server's own doors: what the server counts. Agents answer for
//! themselves, and pass nothing below `/v1/agent/` on.
//!
//! **Source**: Consul: api-docs/agent#view-metrics.

use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use weft_core::acl::{Permission, Resource};
use weft_runtime::clock;
use weft_runtime::http::{Body, full};
use weft_runtime::telemetry::metrics::CONTENT_TYPE;

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    table.get("/v1/agent/metrics", |context, request| Box::pin(metrics(context, request)))
}

/// `GET /v1/agent/metrics`, with `?format=prometheus` as text.
async fn metrics(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let right = Permission::read(Resource::Agent, context.node_name.as_str());
    request.rights.require(right)?;
    let text = context.metrics.registry().encode();
    if request.query.value("format") == Some("prometheus") {
        let mut answer = Response::new(full(text));
        let kind = HeaderValue::from_static(CONTENT_TYPE);
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        return Ok(answer);
    }
    Ok(page::json_response(page::json(&shape(&text))?))
}

/// Shows metrics in the form of Consul's: what only grows as counters, the rest as gauges.
/// Histograms are there as their count and their sum.
fn shape(text: &str) -> Value {
    let (mut gauges, mut counters) = (Vec::new(), Vec::new());
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for (name, value) in lines.filter_map(|line| line.rsplit_once(' ')) {
        let (name, labels) = match name.split_once('{') {
            Some((name, labels)) => (name, read_labels(labels.strip_suffix("}").unwrap_or(labels))),
            None => (name, json!({})),
        };
        let Ok(value) = value.parse::<f64>() else { continue };
        if name.ends_with("_bucket") {
            continue;
        }
        let grows = ["_total", "_count", "_sum"].iter().any(|end| name.ends_with(end));
        match grows {
            true => counters.push(json!({
                "Name": name, "Count": value, "Sum": value, "Min": value, "Max": value,
                "Mean": value, "Stddev": 0, "Labels": labels,
            })),
            false => gauges.push(json!({ "Name": name, "Value": value, "Labels": labels })),
        }
    }
    json!({
        "Timestamp": clock::wall().rfc3339(),
        "Gauges": gauges,
        "Points": [],
        "Counters": counters,
        "Samples": [],
    })
}

/// Reads `name="value",…`; none of our values has a quotation mark.
fn read_labels(text: &str) -> Value {
    let pairs = text.split("\",").filter_map(|pair| pair.split_once("=\""));
    let text = |value: &str| Value::from(value.trim_end_matches('"'));
    pairs.map(|(name, value)| (name.to_owned(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_in_the_form_that_clients_know() {
        let text = "# TYPE a gauge\na 3\nb_total{kind=\"kv\",route=\"/v1/kv/{*key}\"} 2\n\
                    c_bucket{le=\"1.0\"} 1\nc_sum 0.5\nc_count 1\n# EOF\n";
        let shown = shape(text);
        assert_eq!(shown["Gauges"], json!([{ "Name": "a", "Value": 3.0, "Labels": {} }]));
        let counters = shown["Counters"].as_array().expect("a list");
        assert_eq!(counters.len(), 3);
        assert_eq!(counters[0]["Name"], "b_total");
        assert_eq!(counters[0]["Labels"]["kind"], "kv");
        assert_eq!(counters[0]["Labels"]["route"], "/v1/kv/{*key}");
    }
}
