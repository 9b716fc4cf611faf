//! Access logs: what proxies write about requests and connections, as `proxy-defaults` says.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Api, Cluster, TestProxy, eventually};

use crate::collector::Collector;
use crate::story::{Called, Shop, called, speaks};

/// A caller, a service of requests and one of bytes; all proxies write to one file.
struct Estate {
    cluster: Cluster,
    shop: Shop,
    web: Called,
    _raw: TestProxy,
    file: PathBuf,
}

impl Estate {
    fn start() -> Self {
        let cluster = Cluster::start();
        speaks(&cluster, "web", "http");
        let web = called(&cluster, "web-1", "web", "v1");
        cluster.agent.register(&meshed("raw-1", "raw", hang_up_at_the_end(), &[]));
        let raw = cluster.agent.sidecar("raw-1");
        let shop = Shop::open(&cluster, &["web", "raw"]);
        cluster.agent.intend("shop", "web", "allow");
        cluster.agent.intend("shop", "raw", "allow");
        shop.wait_status("web", 200);
        let file = cluster.folder.path().join("access.log");
        Self { cluster, shop, web, _raw: raw, file }
    }

    /// Has lines written in a form, and waits until each proxy does so.
    fn log(&self, mut logs: Value, mark: &str) {
        logs["Enabled"] = json!(true);
        logs["Type"] = json!("file");
        logs["Path"] = json!(self.file);
        self.cluster.agent.configure(&json!({
            "Kind": "proxy-defaults", "Name": "global", "AccessLogs": logs,
        }));
        eventually(SPREAD_LIMIT, &format!("{mark} is in force"), || {
            for proxy in [&self.shop.proxy, &self.web.proxy] {
                let dump = proxy.admin().get("/config_dump")?.ok()?.json();
                if !dump["access_logs"].to_string().contains(mark) {
                    return Err(dump["access_logs"].to_string());
                }
            }
            Ok(())
        });
    }

    /// Has collectors told of requests, and their traces followed.
    fn tell(&self, logs: Value) {
        let endpoint = logs["Endpoint"].clone();
        self.cluster.agent.configure(&json!({
            "Kind": "proxy-defaults", "Name": "global", "AccessLogs": logs,
            // Of the traces nobody is told.
            "Tracing": { "Endpoint": endpoint, "SamplingPercent": 0 },
        }));
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap_or_default()
    }

    /// Waits for the JSON line that has these values.
    fn line(&self, wanted: &Value) -> Value {
        eventually(SPREAD_LIMIT, &format!("a line with {wanted}"), || {
            let text = self.text();
            let lines = text.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
            let wanted = wanted.as_object().cloned().unwrap_or_default();
            let is_it = |line: &Value| wanted.iter().all(|(name, value)| line[name] == *value);
            lines.rev().find(is_it).ok_or(text)
        })
    }
}

/// Serves bytes: whoever has ended is told goodbye. Returns the port.
fn hang_up_at_the_end() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read_to_end(&mut Vec::new());
            let _ = stream.write_all(b"goodbye");
        }
    });
    port
}

fn form() -> Value {
    json!({
        "mark": "full", "side": "%WEFT_DIRECTION%", "service": "%WEFT_SERVICE%",
        "path": "%REQ(:PATH)%", "status": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%", "peer": "%DOWNSTREAM_PEER_URI_SAN%",
        "host": "%UPSTREAM_HOST%", "cluster": "%UPSTREAM_CLUSTER%", "token": "%REQ(AUTHORIZATION)%",
        "agent": "%REQ(USER-AGENT)%", "tls": "%DOWNSTREAM_TLS_VERSION%", "ms": "%DURATION%",
        "from": "%DOWNSTREAM_REMOTE_ADDRESS%", "proto": "%PROTOCOL%", "in": "%BYTES_RECEIVED%",
        "ended": "%CONNECTION_TERMINATION_DETAILS%", "kind": "%RESP(Content-Length)%",
        "why": "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "name": "%REQUESTED_SERVER_NAME%",
    })
}

#[test]
fn proxies_write_what_proxy_defaults_says() {
    let estate = Estate::start();
    let form = form().to_string();
    estate.log(
        json!({ "JSONFormat": form, "Filter": { "ExcludePathPrefixes": ["/status/2"] } }),
        "full",
    );
    requests_have_lines_on_both_sides(&estate);
    connections_have_a_line_at_their_end(&estate);
    the_file_may_be_moved_away(&estate);
    a_filter_keeps_what_failed(&estate);
    what_is_wrong_is_refused_by_name(&estate.cluster.agent.api());
    let metrics = estate.shop.proxy.admin().get("/metrics").expect("metrics").body;
    assert!(
        metrics.contains("weft_proxy_access_log_lines_total{outcome=\"dropped\"} 0"),
        "{metrics}"
    );
}

fn requests_have_lines_on_both_sides(estate: &Estate) {
    let door = estate.shop.to("web");
    let headers = [("authorization", "Bearer s3cret"), ("user-agent", "a\"b\u{9b}31m{}")];
    let answer = door.request("GET", "/there?page=2&token=s3cret", &headers, "").expect("sent");
    assert_eq!(answer.status, 200);
    let path = "/there?page=2&token=(hidden)";
    let out = estate.line(&json!({ "path": path, "side": "outbound" }));
    let inward = estate.line(&json!({ "path": path, "side": "inbound" }));
    assert_eq!((&out["service"], &inward["service"]), (&json!("shop"), &json!("web")));
    for line in [&out, &inward] {
        assert_eq!((&line["status"], &line["flags"]), (&json!(200), &json!("-")), "{line}");
        assert_eq!(line["details"], "via_upstream");
        assert_eq!(line["token"], "(hidden)");
        assert_eq!(line["agent"], "a\"b\u{9b}31m{}", "and it is one line");
        assert!(line["ms"].is_number() && line["kind"].is_string(), "{line}");
        assert!(line["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")), "{line}");
    }
    assert_eq!((&out["peer"], &out["tls"]), (&Value::Null, &Value::Null));
    assert!(inward["peer"].as_str().is_some_and(|peer| peer.ends_with("/svc/shop")), "{inward}");
    assert_eq!((&inward["tls"], &inward["cluster"]), (&json!("TLSv1.3"), &json!("local_app")));
    assert_eq!(out["cluster"], inward["name"], "the target's name is the one given in TLS");
    assert_eq!(inward["host"], json!(estate.web.app.addr().to_string()));
    assert!(!estate.text().contains("s3cret"), "secrets are not written");

    estate.cluster.agent.intend("shop", "web", "deny");
    estate.shop.wait_status("web", 403);
    let refused = json!({ "side": "inbound", "status": 403, "flags": "UAEX", "path": "/" });
    assert_eq!(estate.line(&refused)["details"], "intention-denied");
    let passed_on = estate.line(&json!({ "side": "outbound", "status": 403, "path": "/" }));
    assert_eq!(passed_on["flags"], "-", "{passed_on}");
    estate.cluster.agent.intend("shop", "web", "allow");
    estate.shop.wait_status("web", 200);
}

fn connections_have_a_line_at_their_end(estate: &Estate) {
    let request = b"hello";
    eventually(SPREAD_LIMIT, "bytes go through", || {
        match say(estate.shop.to("raw").addr(), request) {
            answer if answer == b"goodbye" => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    });
    for side in ["outbound", "inbound"] {
        let line = estate.line(&json!({ "side": side, "proto": null, "in": request.len() }));
        assert_eq!((&line["ended"], &line["status"]), (&Value::Null, &json!(0)), "{line}");
        assert!(line["host"].is_string() && line["path"].is_null(), "{line}");
    }
    // Nobody who can show a certificate.
    let registration = estate.cluster.agent.api().get("/v1/agent/service/web-1-sidecar-proxy");
    let port = registration.expect("known").json()["Port"].as_u64().expect("a port");
    say(SocketAddr::from(([127, 0, 0, 1], port as u16)), b"hello, is this TLS?");
    let line = estate.line(&json!({ "side": "inbound", "ended": "handshake-refused" }));
    assert_eq!((&line["flags"], &line["why"]), (&json!("DPE"), &Value::Null));
}

/// Says something, and waits until the other end has nothing more to say.
fn say(to: SocketAddr, words: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).expect("connected");
    stream.set_read_timeout(Some(SPREAD_LIMIT)).expect("a time limit");
    stream.write_all(words).expect("sent");
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn the_file_may_be_moved_away(estate: &Estate) {
    fs::rename(&estate.file, estate.file.with_extension("1")).expect("moved");
    let door = estate.shop.to("web");
    eventually(SPREAD_LIMIT, "lines go to a new file", || {
        door.get("/after")?;
        if estate.text().contains("/after") { Ok(()) } else { Err(estate.text()) }
    });
}

fn a_filter_keeps_what_failed(estate: &Estate) {
    assert!(!estate.text().contains("/status/2"), "health checks are left out");
    let filter = json!({ "MinStatus": 500, "SamplePercent": 0 });
    let form = "some %REQ(:PATH)% %RESPONSE_CODE%\n";
    estate.log(json!({ "TextFormat": form, "Filter": filter }), "some ");
    let door = estate.shop.to("web");
    door.get("/status/404").expect("an answer");
    door.get("/status/503").expect("an answer");
    eventually(SPREAD_LIMIT, "what failed has a line", || match estate.text() {
        text if text.matches("some /status/503 503\n").count() == 2 => Ok(()),
        text => Err(text),
    });
    assert!(!estate.text().contains("/status/404"), "{}", estate.text());
}

fn what_is_wrong_is_refused_by_name(api: &Api) {
    let entry = json!({
        "Kind": "proxy-defaults", "Name": "global",
        "AccessLogs": {
            "Enabled": true, "JSONFormat": "{\"a\":{\"b\":\"%DYNAMIC_METADATA(x)%\"}}",
            "Filter": { "MinStatus": 7 },
        },
    });
    let answer = api.put("/v1/config", &entry).expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.body);
    for part in ["AccessLogs.JSONFormat.a.b", "%DYNAMIC_METADATA%", "AccessLogs.Filter.MinStatus"] {
        assert!(answer.body.contains(part), "{part}: {}", answer.body);
    }
}

#[test]
fn a_collector_is_told_of_requests_and_of_the_traces_they_belong_to() {
    let test = "a_collector_is_told_of_requests_and_of_the_traces_they_belong_to";
    if !Collector::is_there(test) {
        return;
    }
    let mut estate = Estate::start();
    let collector = Collector::start(estate.cluster.folder.path());
    for (number, (protocol, port)) in
        [("otlp-http", collector.http), ("otlp-grpc", collector.grpc)].into_iter().enumerate()
    {
        let endpoint = format!("http://127.0.0.1:{port}");
        estate.tell(json!({ "Enabled": true, "Type": "otlp", "Endpoint": endpoint,
            "Protocol": protocol }));
        let trace = format!("{number}af7651916cd43dd8448eb211c80319c");
        let parent = format!("00-{trace}-b7ad6b7169203331-00");
        let find = |service: &str, path: &str| {
            let lines = collector.got("line ");
            let is_it = |line: &&Value| {
                line["way"] == protocol
                    && line["resource"]["service.name"] == service
                    && line["attributes"]["url.path"] == path
            };
            lines.iter().find(is_it).cloned().ok_or_else(|| format!("{} lines", lines.len()))
        };
        let [client, server] =
            eventually(SPREAD_LIMIT, &format!("lines come by {protocol}"), || {
                let headers =
                    [("traceparent", parent.as_str()), ("authorization", "Bearer s3cret")];
                let path = "/there?token=s3cret&page=2";
                estate.shop.to("web").request("GET", path, &headers, "")?.ok()?;
                estate.shop.to("web").get("/status/503")?;
                find("shop", "/status/503")?;
                Ok([find("shop", "/there")?, find("web", "/there")?])
            });
        for line in [&client, &server] {
            let about = &line["attributes"];
            assert_eq!(about["url.query"], "token=(hidden)&page=2", "{line}");
            assert_eq!(about["http.request.method"], "GET");
            assert_eq!(about["http.response.status_code"], 200);
            assert_eq!(about["network.protocol.name"], "http");
            assert_eq!(about["server.address"], "127.0.0.1");
            assert_eq!((&line["trace"], &line["by"]), (&json!(trace), &json!("weft-proxy")));
            assert_eq!(line["body"], "GET /there 200");
            assert_eq!(line["severity"], "SEVERITY_NUMBER_INFO");
            assert!(line["start"].as_u64() <= line["observed"].as_u64(), "{line}");
            assert!(!line.to_string().contains("s3cret"), "{line}");
        }
        assert_ne!(client["span"], server["span"]);
        assert_eq!(client["attributes"]["weft.direction"], "outbound");
        let caller = server["attributes"]["weft.caller"].as_str().unwrap_or_default();
        assert!(caller.ends_with("/svc/shop"), "{server}");
        let failed = find("shop", "/status/503").expect("it was found before");
        assert_eq!(failed["severity"], "SEVERITY_NUMBER_ERROR");
        assert_eq!(failed["trace"].as_str().map(str::len), Some(32), "{failed}");
    }
    one_that_is_gone_is_told_of(&mut estate);
}

fn one_that_is_gone_is_told_of(estate: &mut Estate) {
    for proxy in [&mut estate.shop.proxy, &mut estate.web.proxy] {
        proxy.process.expect_log("the collector of logs does not take lines");
    }
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    estate.tell(json!({ "Enabled": true, "Type": "otlp", "Endpoint": endpoint,
        "TextFormat": "%PROTOCOL%" }));
    eventually(SPREAD_LIMIT, "lines are lost and counted, and requests go on", || {
        estate.shop.to("web").get("/")?.ok()?;
        let metrics = estate.shop.proxy.admin().get("/metrics")?.ok()?.body;
        let start = "weft_proxy_access_log_lines_total{outcome=\"failed\"} ";
        let failed = metrics.lines().find_map(|line| line.strip_prefix(start));
        if failed.is_some_and(|count| count != "0") { Ok(()) } else { Err(metrics) }
    });
}
