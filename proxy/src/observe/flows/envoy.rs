//! Envoy's names, with the tags that Consul has it take from them.
//!
//! **Source**: Envoy: cluster and HTTP connection manager statistics, as its Prometheus page names
//! them; Consul: docs/connect/observability/grafanadashboards.

use super::page::{Page, Sums};
use super::{FlowKey, Side};

fn labels(key: &FlowKey) -> String {
    let FlowKey { side, source, destination, cluster, .. } = key;
    let own = match side {
        Side::Inbound => &destination.service,
        Side::Outbound => &source.service,
    };
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

pub(super) fn write(sums: &Sums, page: &mut Page<'_>) {
    let name = "envoy_cluster_upstream_rq";
    page.head(name, ("counter", "Requests by status."));
    for (key, sum) in sums {
        let mut by_status = std::collections::BTreeMap::<u16, u64>::new();
        sum.requests
            .iter()
            .for_each(|((status, _), n)| *by_status.entry(*status).or_default() += n);
        for (status, count) in by_status.into_iter().filter(|(status, _)| *status > 0) {
            page.line(name, &format!("envoy_response_code=\"{status}\",{}", labels(key)), count);
        }
    }
    for (name, of) in [
        ("envoy_cluster_upstream_rq_xx", labels as fn(&FlowKey) -> String),
        ("envoy_http_downstream_rq_xx", listener),
    ] {
        page.head(name, ("counter", "Requests by the class of their status."));
        for (key, sum) in sums {
            for (class, count) in sum.by_class().into_iter().filter(|(class, _)| *class > 0) {
                let class = format!("envoy_response_code_class=\"{class}\",{}", of(key));
                page.line(name, &class, count);
            }
        }
    }
    let (cluster, http) = ((sums, &labels), (sums, &listener));
    let name = "envoy_cluster_upstream_rq_total";
    page.counter((name, "Requests."), cluster, |sum| sum.durations.total());
    let name = "envoy_http_downstream_rq_total";
    page.counter((name, "Requests."), http, |sum| sum.durations.total());
    let name = "envoy_cluster_upstream_rq_time";
    page.histogram((name, "Milliseconds of requests."), cluster, (|sum| &sum.durations, 1.0));
    let name = "envoy_http_downstream_rq_time";
    page.histogram((name, "Milliseconds of requests."), http, (|sum| &sum.durations, 1.0));
    let name = "envoy_cluster_upstream_cx_total";
    page.counter((name, "Connections of bytes."), cluster, |sum| sum.opened);
    let name = "envoy_cluster_upstream_cx_active";
    page.head(name, ("gauge", "Connections of bytes that are open."));
    for (key, sum) in sums.iter().filter(|(_, sum)| sum.opened > 0) {
        page.line(name, &labels(key), sum.opened.saturating_sub(sum.closed));
    }
    let name = "envoy_cluster_upstream_cx_connect_fail";
    page.counter((name, "Connections of bytes that failed."), cluster, |sum| sum.failed);
    let name = "envoy_cluster_upstream_cx_tx_bytes_total";
    page.counter((name, "Bytes of connections to the cluster."), cluster, |sum| sum.sent);
    let name = "envoy_cluster_upstream_cx_rx_bytes_total";
    page.counter((name, "Bytes of connections from the cluster."), cluster, |sum| sum.received);
}
