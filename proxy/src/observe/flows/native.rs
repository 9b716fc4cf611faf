//! Our own names.

use weft_core::traffic::outlier::Cause;

use super::counts::{RateResult, RetryResult, Sum};
use super::page::{Page, Sums, grpc_label, labelled};
use super::{FlowKey, Side};

/// Names and identities come from configuration and certificates, and hold no character that
/// would need an escape.
fn labels(key: &FlowKey) -> String {
    let FlowKey { side, source, destination, cluster, route, protocol, .. } = key;
    let direction = match side {
        Side::Inbound => "inbound",
        Side::Outbound => "outbound",
    };
    let route = if *route == 0 { String::new() } else { route.to_string() };
    format!(
        "direction=\"{direction}\",source=\"{}\",destination=\"{}\",cluster=\"{cluster}\",\
         route=\"{route}\",protocol=\"{protocol}\"",
        source.service, destination.service
    )
}

pub(super) fn write(sums: &Sums, page: &mut Page<'_>) {
    let sums = labelled(sums, labels);
    let name = "weft_proxy_flow_requests_total";
    page.head(name, ("counter", "Requests by who calls whom, route, status and Envoy's flag."));
    for (labels, sum) in &sums {
        for ((status, flag, grpc), count) in &sum.requests {
            let grpc = grpc_label("grpc_status", *grpc);
            let labels = format!("{labels},code=\"{status}\",flags=\"{flag}\"{grpc}");
            page.line(name, &labels, count);
        }
    }
    let name = "weft_proxy_retries_total";
    page.head(name, ("counter", "Further attempts at requests, and those wanted and not made."));
    for (labels, sum) in &sums {
        for result in RetryResult::ALL {
            let count = sum.retries(result);
            if count > 0 {
                page.line(name, &format!("{labels},result=\"{}\"", result.word()), count);
            }
        }
    }
    let name = "weft_proxy_rate_limit_total";
    page.head(name, ("counter", "Requests and connections by what rate limits made of them."));
    for (labels, sum) in &sums {
        for result in RateResult::ALL {
            let count = sum.rates(result);
            if count > 0 {
                page.line(name, &format!("{labels},result=\"{}\"", result.word()), count);
            }
        }
    }
    write_ejections(&sums, page);
    let name = "weft_proxy_flow_request_duration_seconds";
    let about = (name, "From the head of a request to the end of its answer.");
    page.histogram(about, &sums, (|sum| &sum.durations, 1e3));
    let name = "weft_proxy_flow_connections_opened_total";
    page.counter((name, "Connections of bytes that were opened."), &sums, |sum| sum.opened);
    let name = "weft_proxy_flow_connections_closed_total";
    page.counter((name, "Connections of bytes that have ended."), &sums, |sum| sum.closed);
    let name = "weft_proxy_flow_connections_failed_total";
    page.counter((name, "Of those, such as broke off or never came about."), &sums, |sum| {
        sum.failed
    });
    let name = "weft_proxy_flow_sent_bytes_total";
    page.counter((name, "Bytes of connections towards the destination."), &sums, |sum| sum.sent);
    let name = "weft_proxy_flow_received_bytes_total";
    page.counter((name, "Bytes of connections back to the source."), &sums, |sum| sum.received);
}

fn write_ejections(sums: &[(String, &Sum)], page: &mut Page<'_>) {
    let name = "weft_proxy_ejections_total";
    page.head(name, ("counter", "Times that an instance was left out as it failed."));
    for (labels, sum) in sums {
        for cause in Cause::ALL {
            let count = sum.ejections(cause);
            if count > 0 {
                page.line(name, &format!("{labels},cause=\"{}\"", cause.word()), count);
            }
        }
    }
    let name = "weft_proxy_ejections_overflow_total";
    let about = (name, "Times that it was not, as as many were as may be.");
    page.counter(about, sums, |sum| sum.ejections_total().1);
    let name = "weft_proxy_readmissions_total";
    page.counter((name, "Times that it was called again."), sums, |sum| sum.ejections_total().2);
}
