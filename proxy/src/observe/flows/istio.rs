//! Istio's names, which Kiali, Flagger and many dashboards read.
//!
//! **Source**: Istio: standard metrics. What a mesh of services alone does not know, such as a
//! version, is `unknown`, as it is there.

use weft_core::config_entry::Protocol;

use super::page::{Page, Sums, grpc_label, labelled};
use super::{FlowKey, Party, Side};

/// There are no namespaces here.
const NAMESPACE: &str = "default";

fn party(side: &str, party: &Party) -> String {
    let Party { service, datacenter, identity } = party;
    format!(
        "{side}_workload=\"{service}\",{side}_workload_namespace=\"{NAMESPACE}\",\
         {side}_principal=\"{identity}\",{side}_app=\"{service}\",{side}_version=\"unknown\",\
         {side}_cluster=\"{datacenter}\",{side}_canonical_service=\"{service}\",\
         {side}_canonical_revision=\"latest\","
    )
}

fn labels(key: &FlowKey) -> String {
    let FlowKey { side, source, destination, protocol, is_mutual, .. } = key;
    let protocol = match protocol {
        Protocol::Grpc => "grpc",
        Protocol::Http | Protocol::Http2 => "http",
        Protocol::Tcp => "tcp",
        // It has no word for it.
        Protocol::Udp => "udp",
    };
    // Only who is called can vouch for it.
    let (reporter, policy) = match (side, is_mutual) {
        (Side::Inbound, true) => ("destination", "mutual_tls"),
        (Side::Inbound, false) => ("destination", "none"),
        (Side::Outbound, _) => ("source", "unknown"),
    };
    let service = &destination.service;
    format!(
        "reporter=\"{reporter}\",{}{}destination_service=\"{service}.{NAMESPACE}\",\
         destination_service_name=\"{service}\",destination_service_namespace=\"{NAMESPACE}\",\
         request_protocol=\"{protocol}\",connection_security_policy=\"{policy}\"",
        party("source", source),
        party("destination", destination),
    )
}

pub(super) fn write(sums: &Sums, page: &mut Page<'_>) {
    let sums = labelled(sums, labels);
    let name = "istio_requests_total";
    page.head(name, ("counter", "Requests."));
    for (labels, sum) in &sums {
        for ((status, flag, grpc), count) in &sum.requests {
            let grpc = grpc_label("grpc_response_status", *grpc);
            let result = format!("response_code=\"{status}\",response_flags=\"{flag}\"{grpc}");
            page.line(name, &format!("{labels},{result}"), count);
        }
    }
    let name = "istio_request_duration_milliseconds";
    page.histogram((name, "Duration of requests."), &sums, (|sum| &sum.durations, 1.0));
    let name = "istio_request_bytes";
    page.histogram((name, "Bodies of requests."), &sums, (|sum| &sum.request_bytes, 1.0));
    let name = "istio_response_bytes";
    page.histogram((name, "Bodies of answers."), &sums, (|sum| &sum.response_bytes, 1.0));
    let name = "istio_tcp_connections_opened_total";
    page.counter((name, "Connections opened."), &sums, |sum| sum.opened);
    let name = "istio_tcp_connections_closed_total";
    page.counter((name, "Connections closed."), &sums, |sum| sum.closed);
    let name = "istio_tcp_received_bytes_total";
    page.counter((name, "Bytes towards the destination."), &sums, |sum| sum.sent);
    let name = "istio_tcp_sent_bytes_total";
    page.counter((name, "Bytes back to the source."), &sums, |sum| sum.received);
}
