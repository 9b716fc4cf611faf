//! Flows as scrapers see them.

use super::*;
use crate::http::Outcome;

fn party(service: &str) -> Party {
    let identity = format!("spiffe://mesh/{service}").into();
    Party { service: service.into(), datacenter: "dc1".into(), identity }
}

fn key(source: &str) -> FlowKey {
    FlowKey {
        side: Side::Inbound,
        source: party(source),
        destination: party("web"),
        cluster: "local_app".into(),
        route: 0,
        protocol: Protocol::Http,
        is_mutual: true,
    }
}

fn page(flows: &Flows, dialects: &[Dialect]) -> String {
    let mut text = String::new();
    flows.encode(&dialects.iter().copied().collect(), &mut text);
    text
}

#[test]
fn each_dialect_tells_the_same() {
    let flows = Flows::default();
    for worker in 0..2 {
        let flow = flows.flow(worker, key("shop"));
        let duration = Duration::from_micros(700);
        flow.request(&Outcome {
            status: 200,
            cause: None,
            grpc_status: None,
            request_bytes: 3,
            response_bytes: 7_000_000,
            duration,
        });
        flow.request(&Outcome::refused(403, "intention-denied", duration));
        flow.opened();
        flow.closed(worker == 0, (10, 20));
    }
    let text = page(&flows, &[Dialect::Istio, Dialect::Envoy]);
    for want in [
        "weft_proxy_flow_requests_total{direction=\"inbound\",source=\"shop\",destination=\"web\",\
         cluster=\"local_app\",route=\"\",protocol=\"http\",code=\"403\",flags=\"UAEX\"} 2\n",
        "protocol=\"http\",le=\"0.0005\"} 0\n",
        "protocol=\"http\",le=\"0.001\"} 4\n",
        "connection_security_policy=\"mutual_tls\",response_code=\"200\",response_flags=\"-\"} 2\n",
        "istio_requests_total{reporter=\"destination\",source_workload=\"shop\",",
        "istio_tcp_sent_bytes_total{reporter=\"destination\",source_workload=\"shop\",",
        "envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"local_app\",",
        "envoy_http_downstream_rq_xx{envoy_response_code_class=\"4\",\
         envoy_http_conn_manager_prefix=\"public_listener\",",
        "consul_source_service=\"shop\"",
        "weft_proxy_flows 1\n",
    ] {
        assert!(text.contains(want), "{want} is not in {text}");
    }
    let of = |name: &str| text.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    assert!(of("istio_request_duration_milliseconds_sum")[0].ends_with(" 2.8"));
    assert!(of("istio_response_bytes_bucket").last().is_some_and(|line| line.ends_with(" 4")));
    assert!(of("envoy_cluster_upstream_cx_active")[0].ends_with(" 0"));
    assert!(!page(&flows, &[]).contains("istio_"));
}

#[test]
fn calls_of_grpc_are_told_by_their_own_status() {
    let flows = Flows::default();
    let flow = flows.flow(0, key("shop"));
    for (status, cause, grpc_status) in [
        (200, None, Some(0)),
        (200, None, Some(0)),
        (200, None, Some(5)),
        (200, None, Some(99)),
        (403, Some("intention-denied"), Some(7)),
        (200, None, None),
    ] {
        let duration = Duration::from_millis(1);
        let (request_bytes, response_bytes) = (0, 0);
        flow.request(&Outcome {
            status,
            cause,
            grpc_status,
            request_bytes,
            response_bytes,
            duration,
        });
    }
    let text = page(&flows, &[Dialect::Istio]);
    for want in [
        "code=\"200\",flags=\"-\"} 1\n",
        "code=\"200\",flags=\"-\",grpc_status=\"0\"} 2\n",
        "code=\"200\",flags=\"-\",grpc_status=\"5\"} 1\n",
        "code=\"200\",flags=\"-\",grpc_status=\"other\"} 1\n",
        "code=\"403\",flags=\"UAEX\",grpc_status=\"7\"} 1\n",
        "response_code=\"200\",response_flags=\"-\",grpc_response_status=\"0\"} 2\n",
    ] {
        assert!(text.contains(want), "{want} is not in {text}");
    }
}

#[test]
fn beyond_the_bound_flows_are_counted_as_one_and_told_of() {
    let flows = Flows::default();
    let mut held = Vec::new();
    for number in 0..FLOWS_MAX + 10 {
        held.push(flows.flow(0, key(&format!("caller-{number}"))));
        held[number].opened();
    }
    let text = page(&flows, &[]);
    assert!(text.contains("weft_proxy_flows_overflowed_total 10\n"));
    assert!(text.contains(&format!("weft_proxy_flows {}\n", FLOWS_MAX + 1)));
    let other = "weft_proxy_flow_connections_opened_total{direction=\"inbound\",source=\"other\"";
    assert!(text.lines().any(|line| line.starts_with(other) && line.ends_with(" 10")), "{text}");
}

#[test]
fn connections_beyond_the_bound_look_for_room_now_and_then() {
    let flows = Flows::default();
    for number in 0..FLOWS_MAX {
        flows.flow(0, key(&format!("caller-{number}")));
    }
    let now = clock::instant();
    let is_known = |forgot: Instant| {
        let mut all = flows.0.known.lock().expect("nobody panics");
        all.forgot = Some(forgot);
        all.flows.values_mut().for_each(|known| known.since = now - IDLE_MAX);
        drop(all);
        flows.flow(0, key("late"));
        flows.0.known.lock().expect("nobody panics").flows.contains_key(&key("late"))
    };
    assert!(!is_known(now), "it was just looked");
    assert!(is_known(now - FORGET_EVERY));
}

#[test]
fn a_flow_that_nobody_uses_is_forgotten_after_a_while() {
    let flows = Flows::default();
    flows.flow(0, key("gone")).opened();
    let used = flows.flow(0, key("here"));
    let mut all = flows.0.known.lock().expect("nobody panics");
    let now = clock::instant();
    flows.forget(&mut all, now);
    assert_eq!(all.flows.len(), 2, "it has just changed");
    flows.forget(&mut all, now + IDLE_MAX);
    assert_eq!(all.flows.keys().map(|key| &*key.source.service).collect::<Vec<_>>(), ["here"]);
    drop(used);
}
