//! Traces: what a collector is told of a request that goes through two proxies.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::{Cluster, eventually};

use crate::collector::Collector;
use crate::story::{Called, Shop, called, speaks};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A caller, who it calls, and a collector.
struct Estate {
    cluster: Cluster,
    shop: Shop,
    _web: Called,
    collector: Collector,
}

impl Estate {
    fn start() -> Self {
        let cluster = Cluster::start();
        speaks(&cluster, "web", "http");
        let web = called(&cluster, "web-1", "web", "v1");
        let shop = Shop::open(&cluster, &["web"]);
        cluster.agent.intend("shop", "web", "allow");
        shop.wait_status("web", 200);
        let collector = Collector::start(cluster.folder.path());
        Self { cluster, shop, _web: web, collector }
    }

    fn tell(&self, tracing: &Value) {
        self.cluster.agent.configure(&json!({
            "Kind": "proxy-defaults", "Name": "global", "Tracing": tracing,
        }));
    }

    fn spans(&self) -> Vec<Value> {
        self.collector.got("span ")
    }

    /// Asks until both spans of a request have come by a protocol; returns the caller's and the
    /// called one's, and the headers that the application got.
    fn follow(&self, number: usize, protocol: &str) -> [Value; 3] {
        // Another trace for each try: one proxy may have heard of the change before the other.
        let mut arrived: BTreeMap<String, Value> = BTreeMap::new();
        eventually(SPREAD_LIMIT, &format!("spans come by {protocol}"), || {
            let trace = format!("{number}{:03}{}", arrived.len(), &TRACE[4..]);
            let parent = format!("00-{trace}-b7ad6b7169203331-01");
            let headers = [("traceparent", parent.as_str()), ("tracestate", "of=somebody")];
            let door = self.shop.to("web");
            let answer = door.request("GET", "/there?secret=1", &headers, "")?.ok()?;
            arrived.insert(trace, answer.json()["headers"].clone());
            let spans = self.spans();
            let of = |trace: &str, kind: &str| {
                let is_it = |it: &&Value| {
                    it["trace"] == trace && it["way"] == protocol && it["kind"] == kind
                };
                spans.iter().find(is_it).cloned()
            };
            let both = arrived.iter().find_map(|(trace, headers)| {
                let (client, server) = ("SPAN_KIND_CLIENT", "SPAN_KIND_SERVER");
                Some([of(trace, client)?, of(trace, server)?, headers.clone()])
            });
            both.ok_or_else(|| format!("{} spans", spans.len()))
        })
    }
}

#[test]
fn a_request_is_one_trace_at_every_kind_of_collector() {
    let test = "a_request_is_one_trace_at_every_kind_of_collector";
    if !Collector::is_there(test) {
        return;
    }
    let estate = Estate::start();
    let (http, grpc) = (estate.collector.http, estate.collector.grpc);
    for (number, (protocol, port)) in
        [("otlp-http", http), ("otlp-grpc", grpc), ("zipkin", http)].into_iter().enumerate()
    {
        estate.tell(&json!({
            "Endpoint": format!("http://127.0.0.1:{port}"), "Protocol": protocol,
            "SamplingPercent": 0, "Tags": { "estate": "north" },
        }));
        let [client, server, headers] = estate.follow(number, protocol);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let parent = format!("00-{}-{}-01", text(&server["trace"]), text(&server["id"]));
        assert_eq!(headers["traceparent"], parent);
        assert_eq!(headers["tracestate"], "of=somebody");
        assert_eq!(client["parent"], "b7ad6b7169203331", "{client}");
        assert_eq!(server["parent"], client["id"], "{server}");
        assert_eq!((&client["service"], &server["service"]), (&json!("shop"), &json!("web")));
        assert!(client["us"].as_u64() >= server["us"].as_u64(), "{client} {server}");
        for span in [&client, &server] {
            let about = &span["attributes"];
            assert_eq!(about["url.path"], "/there", "and not its query: {span}");
            assert_eq!(about["http.request.method"], "GET");
            assert_eq!(about["http.response.status_code"].to_string().trim_matches('"'), "200");
            assert_eq!(about["estate"], "north");
            assert_eq!((&span["name"], &span["is_error"]), (&json!("GET"), &json!(false)));
        }
        let caller = text(&server["attributes"]["weft.caller"]);
        assert!(caller.ends_with("/svc/shop"), "{caller}");
    }
    what_goes_wrong_is_told_of(&estate);
}

fn what_goes_wrong_is_told_of(estate: &Estate) {
    let door = estate.shop.to("web");
    estate.tell(&json!({
        "Endpoint": format!("http://127.0.0.1:{}", estate.collector.http), "SamplingPercent": 0,
        "KeepErrors": true, "Propagation": ["b3-multi"],
    }));
    eventually(SPREAD_LIMIT, "what goes wrong is told of", || {
        door.get("/status/503")?;
        door.get("/status/201")?;
        let spans = estate.spans();
        let status = |span: &Value| span["attributes"]["http.response.status_code"].as_u64();
        assert!(!spans.iter().any(|it| status(it) == Some(201)), "of that nobody asked");
        let failed: Vec<_> = spans.iter().filter(|it| status(it) == Some(503)).collect();
        let told = |name: &str| failed.iter().any(|it| it["service"] == name);
        if told("shop") && told("web") { Ok(()) } else { Err(format!("{failed:?}")) }
    });
    let got = door.get("/").expect("an answer").json()["headers"].clone();
    assert_eq!(got["x-b3-sampled"], "0");
    assert_eq!(got["x-b3-traceid"].as_str().map(str::len), Some(32));
}
