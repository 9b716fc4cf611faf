//! What a caller's proxy may have open towards a service at once: what is beyond is refused, in both engines and
//! for connections, and let in again when there is room.

use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, TestProxy, meshed};
use weft_tests::http::read_answer;
use weft_tests::ports::free_port;
use weft_tests::{Api, App, Cluster, eventually, tools};

use crate::story::{Shop, called, speaks};

/// How `shop` calls others.
fn calls(cluster: &Cluster, upstream_config: Value) {
    cluster.agent.configure(&json!({
        "Kind": "service-defaults", "Name": "shop", "Protocol": "http",
        "UpstreamConfig": upstream_config,
    }));
}

/// A request whose body has not come as a whole, so that it is under way until that is sent.
struct Held(TcpStream);

impl Held {
    fn open(door: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(door).expect("the door is open");
        let limit = Some(Duration::from_secs(60));
        stream.set_read_timeout(limit).expect("a limit that is not zero");
        let head = b"POST /held HTTP/1.1\r\nhost: web\r\ncontent-length: 2\r\n\r\n1";
        stream.write_all(head).expect("the head is taken");
        Self(stream)
    }

    /// Sends the rest, after which there is an answer of the service.
    fn finish(mut self) {
        self.0.write_all(b"2").expect("the rest is taken");
        let answer = read_answer(&mut BufReader::new(self.0)).expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

fn metrics(proxy: &TestProxy) -> String {
    proxy.admin().get("/metrics").expect("an answer").body
}

/// What the proxy shows of a limit towards its only upstream: how much there is of how much.
fn shown(proxy: &TestProxy, limit: &str) -> Value {
    let clusters = proxy.admin().get("/clusters").expect("an answer").json();
    clusters["upstreams"][0]["targets"][0]["limits"][limit].clone()
}

fn wait_shown(proxy: &TestProxy, limit: &str, now: u32, most: u32) {
    eventually(SPREAD_LIMIT, &format!("{now} of {most} {limit}"), || {
        let found = shown(proxy, limit);
        if found == json!({ "now": now, "most": most }) { Ok(()) } else { Err(found.to_string()) }
    });
}

#[test]
fn requests_that_are_too_many_are_refused_until_there_is_room() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    calls(
        &cluster,
        json!({
            "Defaults": { "Limits": { "MaxConcurrentRequests": 700 } },
            "Overrides": [{ "Name": "web", "Limits": { "MaxConcurrentRequests": 1 } }],
        }),
    );
    let _web = called(&cluster, "web-1", "web", "v1");
    cluster.agent.intend("shop", "web", "allow");
    let shop = Shop::open(&cluster, &["web"]);
    shop.wait_status("web", 200);
    let held = Held::open(shop.to("web").addr());
    wait_shown(&shop.proxy, "requests", 1, 1);
    let refused = shop.to("web").get("/").expect("an answer");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.header("x-weft-cause"), Some("upstream-request-limit"));
    assert_eq!(refused.header("x-envoy-overloaded"), Some("true"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    if tools::have("requests_that_are_too_many", &["curl"]) {
        let url = format!("http://{}/", shop.to("web").addr());
        let of = ["-s", "--http2-prior-knowledge", "-m", "30", "-o", "/dev/null"];
        let plain = [&of[..], &["-w", "%{http_code} %{header_json}", &url]].concat();
        let said = tools::run("curl", &plain).ok().expect("an answer over HTTP/2");
        assert!(said.starts_with("503") && said.contains("upstream-request-limit"), "{said}");
        let kind =
            ["-H", "content-type: application/grpc", "-w", "%{http_code} %{header_json}", &url];
        let said = tools::run("curl", &[&of[..], &kind].concat()).ok().expect("an answer");
        let bare: String = said.split_whitespace().collect();
        assert!(bare.contains(r#""grpc-status":["14"]"#), "UNAVAILABLE: {said}");
    }
    let text = metrics(&shop.proxy);
    let counted = |line: &&str| {
        line.starts_with("weft_proxy_failures_total{")
            && line.contains(r#"cause="upstream-request-limit""#)
    };
    assert!(text.lines().any(|line| counted(&line)), "{text}");
    held.finish();
    wait_shown(&shop.proxy, "requests", 0, 1);
    assert_eq!(shop.to("web").get("/").expect("an answer").status, 200);

    // The entry is followed while the proxy runs.
    calls(&cluster, json!({ "Defaults": { "Limits": { "MaxConcurrentRequests": 700 } } }));
    wait_shown(&shop.proxy, "requests", 0, 700);
}

#[test]
fn requests_wait_for_a_connection_while_there_is_room_to() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let _web = called(&cluster, "web-1", "web", "v1");
    cluster.agent.intend("shop", "web", "allow");
    // What the registration says counts before the entry, block by block.
    calls(&cluster, json!({ "Defaults": { "Limits": { "MaxConcurrentRequests": 1 } } }));
    let (app, port) = (App::start("shop"), free_port());
    let mut registration = meshed("shop", "shop", app.port(), &[("web", port)]);
    let upstreams = &mut registration["Connect"]["SidecarService"]["Proxy"]["Upstreams"];
    upstreams[0]["Config"] = json!({ "connect_timeout_ms": 60_000,
            "limits": { "max_connections": 1, "max_pending_requests": 1 } });
    cluster.agent.register(&registration);
    let proxy = cluster.agent.sidecar("shop");
    let door = Api::new(SocketAddr::from(([127, 0, 0, 1], port)));
    eventually(SPREAD_LIMIT, "web answers", || door.get("/")?.ok());
    assert_eq!(shown(&proxy, "requests"), Value::Null);
    let first = Held::open(door.addr());
    wait_shown(&proxy, "connections", 1, 1);
    let second = Held::open(door.addr());
    wait_shown(&proxy, "pending_requests", 1, 1);
    let third = door.get("/").expect("an answer");
    assert_eq!(third.status, 503, "{third:?}");
    assert_eq!(third.header("x-weft-cause"), Some("upstream-pending-limit"));
    first.finish();
    second.finish();
    wait_shown(&proxy, "connections", 0, 1);
}

/// A service of bytes that says a word to each caller, and closes when the caller does.
fn greets() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                stream.write_all(b"hello").ok()?;
                stream.read_to_end(&mut Vec::new()).ok()
            });
        }
    });
    port
}

#[test]
fn connections_that_are_too_many_are_closed_at_once() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "tcp");
    calls(&cluster, json!({ "Defaults": { "Limits": { "MaxConnections": 1 } } }));
    cluster.agent.register(&meshed("web", "web", greets(), &[]));
    let _web = cluster.agent.sidecar("web");
    cluster.agent.intend("shop", "web", "allow");
    let shop = Shop::open(&cluster, &["web"]);
    let call = || -> Result<(TcpStream, String), String> {
        let text = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect(shop.to("web").addr()).map_err(text)?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).map_err(text)?;
        let mut said = [0; 5];
        stream.read_exact(&mut said).map_err(text)?;
        Ok((stream, String::from_utf8_lossy(&said).into_owned()))
    };
    let (held, said) = eventually(SPREAD_LIMIT, "web greets", call);
    assert_eq!(said, "hello");
    wait_shown(&shop.proxy, "connections", 1, 1);
    assert!(call().is_err(), "one more than there may be");
    eventually(SPREAD_LIMIT, "it is counted", || {
        let text = metrics(&shop.proxy);
        let cause = r#"cause="upstream-connection-limit""#;
        if text.contains(cause) { Ok(()) } else { Err(text) }
    });
    drop(held);
    eventually(SPREAD_LIMIT, "there is room again", call);
}
