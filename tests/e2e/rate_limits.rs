//! Rate limits: ten requests in a minute are ten, over both engines and in gRPC's words; those that are tried
//! out refuse nobody; connections of bytes are counted the same way.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::{Cluster, eventually};

use crate::programs::{curl, expect_text};
use crate::story::{Called, Shop, called, who};

/// A bucket of ten requests in an hour, which no test waits for.
fn ten(more: Value) -> Value {
    let mut bucket = json!({ "Name": "ten", "MaxTokens": 10, "FillInterval": "1h" });
    for (key, value) in more.as_object().into_iter().flatten() {
        bucket[key] = value.clone();
    }
    bucket
}

fn limit(cluster: &Cluster, protocol: &str, limits: Value) {
    cluster.agent.configure(&json!({
        "Kind": "service-defaults", "Name": "web", "Protocol": protocol, "RateLimits": limits,
    }));
}

/// What the proxy of the service has counted.
fn counted(web: &Called, name: &str, part: &str) -> u64 {
    let metrics = web.proxy.admin().get("/metrics").expect("an answer").body;
    let lines = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    let counts =
        lines.filter(|line| line.contains(part)).filter_map(|line| line.rsplit(' ').next());
    counts.filter_map(|count| count.parse::<u64>().ok()).sum()
}

#[test]
fn ten_requests_in_a_time_are_ten_whatever_threads_and_connections_they_come_on() {
    let cluster = Cluster::start();
    limit(&cluster, "http", json!({}));
    let web = called(&cluster, "web", "web", "v1");
    cluster.agent.intend("shop", "web", "allow");
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    eventually(SPREAD_LIMIT, "the service is called", || {
        let answer = door.get("/")?;
        if who(&answer) == "web" { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    // What a path says in other letters is the same path.
    limit(
        &cluster,
        "http",
        json!({
            "Buckets": [ten(json!({ "Match": { "PathPrefix": "/few" } }))],
            "InstanceLevel": { "Routes": [
                { "PathExact": "/once", "RequestsPerSecond": 1, "RequestsMaxBurst": 1 },
            ] },
        }),
    );
    let mut answers = Vec::new();
    eventually(SPREAD_LIMIT, "the limit is in force", || {
        answers.push(door.get("//f%65w/a")?);
        let last = answers.last().map(|answer| answer.status);
        if last == Some(429) { Ok(()) } else { Err(format!("{last:?}")) }
    });
    let before = counted(&web, "weft_proxy_rate_limit_total", "result=\"within\"");
    assert_eq!(before, 10, "as many as the bucket holds");
    let refused = answers.last().expect("one was refused");
    for (name, want) in [
        ("ratelimit-policy", "\"ten\";q=10;w=3600"),
        ("x-ratelimit-limit", "10"),
        ("x-ratelimit-remaining", "0"),
        ("x-weft-cause", "rate-limited"),
    ] {
        assert_eq!(refused.header(name), Some(want), "{refused:?}");
    }
    let seconds = refused.header("retry-after").and_then(|it| it.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| (1..=3_630).contains(&seconds)), "{refused:?}");
    for _ in 0..20 {
        assert_eq!(door.get("/few").expect("an answer").status, 429);
        assert_eq!(door.get("/many").expect("an answer").status, 200);
    }
    assert_eq!(counted(&web, "weft_proxy_rate_limit_total", "result=\"within\""), 10);
    assert!(counted(&web, "weft_proxy_rate_limit_total", "result=\"limited\"") >= 21);
    assert!(counted(&web, "weft_proxy_flow_requests_total", "flags=\"RL\"") >= 21);
    eventually(SPREAD_LIMIT, "two requests of one second", || match door.get("/once")?.status {
        429 => Ok(()),
        status => Err(format!("{status}")),
    });
}

#[test]
fn those_tried_out_refuse_nobody_and_grpc_and_connections_have_their_own_words() {
    let cluster = Cluster::start();
    limit(
        &cluster,
        "http",
        json!({ "Buckets": [
        ten(json!({ "Name": "tried", "By": "identity", "EnforcePercent": 0 })),
        ten(json!({ "Name": "posts", "By": "header", "Header": "X-Tenant", "MaxTokens": 1,
            "Match": { "Methods": ["post"] } })),
    ] }),
    );
    let web = called(&cluster, "web", "web", "v1");
    cluster.agent.intend("shop", "web", "allow");
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    eventually(SPREAD_LIMIT, "more than ten came through", || {
        door.get("/")?;
        match counted(&web, "weft_proxy_rate_limit_total", "result=\"shadowed\"") {
            0 => Err("fewer than eleven".to_owned()),
            _ => Ok(()),
        }
    });
    assert_eq!(counted(&web, "weft_proxy_rate_limit_total", "result=\"limited\""), 0);
    // Requests that are values: those of HTTP/2, and of gRPC.
    let url = format!("http://{}/", door.addr());
    let post = |tenant: &str, kind: &str| {
        let (tenant, kind) = (format!("x-tenant: {tenant}"), format!("content-type: {kind}"));
        let how = ["-i", "--http2-prior-knowledge", "-H", &tenant, "-H", &kind, "-d", "x", &url];
        curl(&how).expect("an answer")
    };
    expect_text(&post("a", "text/plain"), "HTTP/2 200").expect("the first of a tenant");
    let refused = post("a", "text/plain");
    for text in ["HTTP/2 429", "ratelimit: \"posts\";r=0;t=3", "retry-after: 3"] {
        expect_text(&refused, text).expect("the second is refused");
    }
    expect_text(&post("b", "text/plain"), "HTTP/2 200").expect("another tenant");
    let refused = post("b", "application/grpc");
    expect_text(&refused, "HTTP/2 200").expect("gRPC has no other status");
    expect_text(&refused, "grpc-status: 8").expect("RESOURCE_EXHAUSTED");

    // Bytes.
    limit(&cluster, "tcp", json!({ "Buckets": [ten(json!({ "By": "source-address" }))] }));
    eventually(SPREAD_LIMIT, "the limit is met", || {
        let mut stream = TcpStream::connect(door.addr()).map_err(|error| error.to_string())?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").ok();
        // What comes first, or the end: the application keeps its connections.
        stream.read_exact(&mut [0; 12]).ok();
        match counted(&web, "weft_proxy_failures_total", "cause=\"rate-limited\"") {
            0..=2 => Err("no connection was refused".to_owned()),
            _ => Ok(()),
        }
    });
}
