//! Who calls whom, as Prometheus scrapes it from proxies: in our own names, Istio's and Envoy's.

use std::fs;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Api, App, Cluster, TestProxy, eventually, tools};

use crate::prometheus::Prometheus;
use crate::story::speaks;

/// What is asked of Prometheus, and what it finds at least: our own names, what Flagger asks, what
/// Kiali asks, and what dashboards of Consul ask.
const QUERIES: [(&str, f64); 9] = [
    ("sum(up{job=\"weft\"})", 2.0),
    ("sum(up{job=\"envoy\"})", 2.0),
    (
        "weft_proxy_flow_requests_total{job=\"weft\",direction=\"outbound\",source=\"shop\",\
         destination=\"web\",route=\"1\",code=\"503\"}",
        5.0,
    ),
    (
        "weft_proxy_flow_requests_total{job=\"weft\",direction=\"inbound\",source=\"shop\",\
         code=\"200\"}",
        1.0,
    ),
    (
        "sum(istio_requests_total{job=\"weft\",reporter=\"destination\",\
         destination_workload_namespace=\"default\",destination_workload=~\"web\",\
         response_code=~\"5.*\"})",
        5.0,
    ),
    (
        "histogram_quantile(0.99,sum(istio_request_duration_milliseconds_bucket{job=\"weft\",\
         reporter=\"destination\"})by(le))",
        0.0,
    ),
    (
        "istio_requests_total{job=\"weft\",reporter=\"source\",source_workload=\"shop\",\
         destination_service_name=\"web\",request_protocol=\"http\",response_code=\"503\",\
         response_flags=\"-\"}",
        5.0,
    ),
    (
        "sum(envoy_cluster_upstream_rq_xx{job=\"weft\",envoy_response_code_class=\"5\",\
         local_cluster=\"shop\",consul_destination_service=\"web\"})",
        5.0,
    ),
    (
        "sum(envoy_http_downstream_rq_total{job=\"envoy\",\
         envoy_http_conn_manager_prefix=\"public_listener\",local_cluster=\"web\"})",
        6.0,
    ),
];

/// Starts a Prometheus that scrapes proxies every second, at both of their pages.
fn scrape(cluster: &Cluster, proxies: &[TestProxy]) -> Prometheus {
    let targets: Vec<Value> =
        proxies.iter().map(|proxy| json!(proxy.admin().addr().to_string())).collect();
    let job = |name: &str, path: &str| {
        let job = json!({
            "job_name": name, "metrics_path": path, "static_configs": [{ "targets": targets }],
        });
        format!("- {job}\n")
    };
    let jobs = [job("weft", "/metrics"), job("envoy", "/stats/prometheus")].concat();
    Prometheus::start(cluster.folder.path(), &jobs, &[])
}

#[test]
fn prometheus_reads_every_dialect() {
    if !tools::have("prometheus_reads_every_dialect", &["prometheus"]) {
        return;
    }
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    cluster.agent.configure(&json!({
        "Kind": "service-router", "Name": "web",
        "Routes": [{ "Match": { "HTTP": { "PathPrefix": "/status" } } }],
    }));
    let settings = cluster.folder.path().join("proxy.json");
    let text = json!({ "metric_dialects": ["istio", "envoy"] }).to_string();
    fs::write(&settings, text).expect("a temporary folder can be written");
    let more = ["--config", &settings.to_string_lossy()];
    let (web, shop, door) = (App::start("web"), App::start("shop"), free_port());
    cluster.agent.register(&meshed("web", "web", web.port(), &[]));
    cluster.agent.register(&meshed("shop", "shop", shop.port(), &[("web", door)]));
    let proxies =
        [cluster.agent.sidecar_with("web", &more), cluster.agent.sidecar_with("shop", &more)];
    cluster.agent.intend("shop", "web", "allow");
    let api = Api::new(([127, 0, 0, 1], door).into());
    eventually(SPREAD_LIMIT, "requests go through", || match api.get("/")?.status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });

    let prometheus = scrape(&cluster, &proxies);
    for _ in 0..5 {
        api.get("/status/503").expect("an answer");
    }
    for (query, least) in QUERIES {
        eventually(SPREAD_LIMIT, query, || match prometheus.value(query)? {
            found if found >= least => Ok(()),
            found => Err(found.to_string()),
        });
    }
    let active = ["weft", "envoy"].map(|job| prometheus.targets(job).expect("targets")).concat();
    assert_eq!(active.len(), 4);
    assert!(active.iter().all(|target| target["lastError"] == ""), "{active:?}");
}
