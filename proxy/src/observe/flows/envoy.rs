//! Envoy's names, with the tags that Consul has it take from them.
//!
//! **Source**: Envoy: cluster and HTTP connection manager statistics, as its Prometheus page names
//! them; Consul: docs/connect/observability/grafanadashboards.

use weft_core::traffic::outlier::Cause;

use super::counts::{RateResult, RetryResult, Sum};
use super::page::{Page, Sums, labelled};
use super::{FlowKey, Side};

fn labels(key: &FlowKey) -> String {
    let FlowKey { source, destination, cluster, .. } = key;
    let own = &key.own().service;
    format!(
        "envoy_cluster_name=\"{cluster}\",local_cluster=\"{own}\",\
         consul_source_service=\"{}\",consul_source_datacenter=\"{}\",\
         consul_source_namespace=\"default\",consul_source_partition=\"default\",\
         consul_destination_service=\"{}\",consul_destination_datacenter=\"{}\",\
         consul_destination_namespace=\"default\",consul_destination_partition=\"default\",\
         consul_destination_target=\"{cluster}\"",
        source.service, source.datacenter, destination.service, destination.datacenter,
    )
}

/// The listener that a flow came in at.
fn listener(key: &FlowKey) -> String {
    let prefix = match key.side {
        Side::Inbound => "public_listener".to_owned(),
        Side::Outbound => format!("upstream.{}", key.destination.service),
    };
    format!("envoy_http_conn_manager_prefix=\"{prefix}\",{}", labels(key))
}

/// Name, help and meaning of each count of further attempts.
const RETRIES: [(&str, &str, RetryResult); 4] = [
    ("envoy_cluster_upstream_rq_retry", "Further attempts.", RetryResult::Retried),
    (
        "envoy_cluster_upstream_rq_retry_success",
        "Requests that were answered well after some.",
        RetryResult::Success,
    ),
    (
        "envoy_cluster_upstream_rq_retry_overflow",
        "Such as were not made, as the budget was spent.",
        RetryResult::Budget,
    ),
    (
        "envoy_cluster_upstream_rq_retry_limit_exceeded",
        "Such as were not made, as all had been made.",
        RetryResult::Limit,
    ),
];

/// What a count of rate limits is made of.
type Rates = fn(&Sum) -> u64;

/// Name, help and meaning of each count of rate limits.
///
/// **Source**: Envoy: local rate limit filter, statistics.
const RATES: [(&str, &str, Rates); 4] = [
    ("envoy_http_local_rate_limit_enabled", "Requests that rate limits are there for.", |sum| {
        RateResult::ALL.into_iter().map(|result| sum.rates(result)).sum()
    }),
    ("envoy_http_local_rate_limit_ok", "Such as were within them.", |sum| {
        sum.rates(RateResult::Within)
    }),
    ("envoy_http_local_rate_limit_rate_limited", "Such as were not, refused or not.", |sum| {
        sum.rates(RateResult::Limited) + sum.rates(RateResult::Shadowed)
    }),
    ("envoy_http_local_rate_limit_enforced", "Such as were refused.", |sum| {
        sum.rates(RateResult::Limited)
    }),
];

pub(super) fn write(sums: &Sums, page: &mut Page<'_>) {
    let (cluster, http) = (&*labelled(sums, labels), &*labelled(sums, listener));
    let name = "envoy_cluster_upstream_rq";
    page.head(name, ("counter", "Requests by status."));
    for (labels, sum) in cluster {
        let by_status = sum.by(|status| status).into_iter();
        for (status, count) in by_status.filter(|(status, _)| *status > 0) {
            page.line(name, &format!("envoy_response_code=\"{status}\",{labels}"), count);
        }
    }
    for (name, sums) in
        [("envoy_cluster_upstream_rq_xx", cluster), ("envoy_http_downstream_rq_xx", http)]
    {
        page.head(name, ("counter", "Requests by the class of their status."));
        for (labels, sum) in sums {
            let by_class = sum.by(|status| status / 100).into_iter();
            for (class, count) in by_class.filter(|(class, _)| *class > 0) {
                let labels = format!("envoy_response_code_class=\"{class}\",{labels}");
                page.line(name, &labels, count);
            }
        }
    }
    let name = "envoy_cluster_upstream_rq_total";
    page.counter((name, "Requests."), cluster, |sum| sum.durations.total());
    let name = "envoy_http_downstream_rq_total";
    page.counter((name, "Requests."), http, |sum| sum.durations.total());
    let name = "envoy_cluster_upstream_rq_time";
    page.histogram((name, "Milliseconds of requests."), cluster, (|sum| &sum.durations, 1.0));
    let name = "envoy_http_downstream_rq_time";
    page.histogram((name, "Milliseconds of requests."), http, (|sum| &sum.durations, 1.0));
    for (name, help, result) in RETRIES {
        page.counter((name, help), cluster, |sum| sum.retries(result));
    }
    let name = "envoy_cluster_upstream_rq_pending_overflow";
    page.counter((name, "Requests refused by limits."), cluster, Sum::refused);
    let name = "envoy_cluster_upstream_cx_overflow";
    let about = (name, "Requests and connections that found no connection left.");
    page.counter(about, cluster, |sum| sum.overflowed);
    let prefix = "envoy_local_http_ratelimit_prefix=\"http_local_rate_limiter\"";
    for (name, help, of) in RATES {
        page.head(name, ("counter", help));
        for (labels, sum) in http.iter().filter(|(_, sum)| RATES[0].2(sum) > 0) {
            page.line(name, &format!("{prefix},{labels}"), of(sum));
        }
    }
    write_ejections(cluster, page);
    let name = "envoy_cluster_upstream_cx_total";
    page.counter((name, "Connections of bytes."), cluster, |sum| sum.opened);
    let name = "envoy_cluster_upstream_cx_active";
    page.head(name, ("gauge", "Connections of bytes that are open."));
    for (labels, sum) in cluster.iter().filter(|(_, sum)| sum.opened > 0) {
        page.line(name, labels, sum.opened.saturating_sub(sum.closed));
    }
    let name = "envoy_cluster_upstream_cx_connect_fail";
    page.counter((name, "Connections of bytes that failed."), cluster, |sum| sum.failed);
    let name = "envoy_cluster_upstream_cx_tx_bytes_total";
    page.counter((name, "Bytes of connections to the cluster."), cluster, |sum| sum.sent);
    let name = "envoy_cluster_upstream_cx_rx_bytes_total";
    page.counter((name, "Bytes of connections from the cluster."), cluster, |sum| sum.received);
}

fn write_ejections(cluster: &[(String, &Sum)], page: &mut Page<'_>) {
    let name = "envoy_cluster_outlier_detection_ejections_enforced_total";
    let about = (name, "Times that an instance was left out as it failed.");
    page.counter(about, cluster, |sum| sum.ejections_total().0);
    let name = "envoy_cluster_outlier_detection_ejections_overflow";
    let about = (name, "Times that it was not, as as many were as may be.");
    page.counter(about, cluster, |sum| sum.ejections_total().1);
    // Times of answers are no cause of Envoy's.
    for cause in Cause::ALL.into_iter().filter(|cause| *cause != Cause::Latency) {
        let word = cause.word();
        let name = format!("envoy_cluster_outlier_detection_ejections_enforced_{word}");
        page.counter((&name, "The same, by cause."), cluster, |sum| sum.ejections(cause));
    }
}
