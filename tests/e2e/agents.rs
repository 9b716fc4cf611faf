//! An agent as its operator meets it: services in files, checks of every sort, the doors of the
//! API, and what Prometheus is told.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::ports::free_port;
use weft_tests::process::{Daemon, run_weft};
use weft_tests::{Answer, Api, Cluster, TestAgent, eventually, tools};

const LIMIT: Duration = Duration::from_secs(30);

/// An agent that is configured by a folder.
struct Configured {
    folder: PathBuf,
    process: Daemon,
}

impl Configured {
    fn start(cluster: &Cluster, settings: Value) -> Self {
        let home = cluster.folder.path().join("configured");
        let folder = home.join("agent.d");
        fs::create_dir_all(&folder).expect("a folder");
        let mut all = json!({
            "node_name": "configured",
            "data_dir": home.join("data"),
            "join_token_file": cluster.server.join_token_file(),
            "bind_addr": "127.0.0.1",
            "advertise_addr": "127.0.0.1",
            "http": { "addr": format!("127.0.0.1:{}", free_port()) },
            "dns": { "addr": "off" },
        });
        for (field, value) in settings.as_object().into_iter().flatten() {
            all[field] = value.clone();
        }
        fs::write(folder.join("0-agent.json"), all.to_string()).expect("written");
        let args = ["agent", "--config", &folder.to_string_lossy()];
        // What the process leaves behind is no configuration.
        Self { process: Daemon::weft("configured", &home, &args), folder }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).expect("written");
    }

    fn api(&self) -> Api {
        Api::new(self.process.ready_field("http").parse().expect("an address"))
    }

    fn ids(&self) -> Vec<String> {
        let services = self.api().get("/v1/agent/services").and_then(Answer::ok);
        let services = services.expect("a list").json();
        services.as_object().expect("an object").keys().cloned().collect()
    }

    fn reload(&self) -> (Option<i32>, String) {
        let addr = self.api().addr().to_string();
        let reloaded = run_weft(&["reload", "--http-addr", &addr], LIMIT);
        (reloaded.code, reloaded.output)
    }
}

#[test]
fn services_in_files_follow_them_and_what_is_wrong_keeps_nothing_else() {
    let cluster = Cluster::start();
    let mut agent = Configured::start(&cluster, json!({}));
    agent.process.expect_log("has a fault");
    assert_eq!(agent.ids(), [""; 0]);
    agent.write(
        "web.hcl",
        "service {\n name = \"web\"\n port = 80\n connect {\n sidecar_service {}\n }\n}",
    );
    agent.write(
        "two.json",
        r#"{"services":[{"Name":"a"},{"Name":"b","Ports":[{"Name":"x","Port":1}]}]}"#,
    );
    assert_eq!(agent.reload(), (Some(0), "Configuration reloaded\n".to_owned()));
    assert_eq!(agent.ids(), ["a", "b", "web", "web-sidecar-proxy"]);

    // One is wrong in a field, one cannot be read; the third is taken up all the same.
    agent.write("web.hcl", "service {\n name = \"web\"\n port = 80\n adress = \"10.0.0.1\"\n}");
    agent.write("two.json", "{ \"services\": [");
    agent.write("new.hcl", "service { name = \"new\" }");
    let (code, told) = agent.reload();
    assert_ne!(code, Some(0));
    assert!(told.contains("web.hcl: services[0]: adress"), "{told}");
    assert!(told.contains("two.json"), "{told}");
    assert_eq!(agent.ids(), ["a", "b", "new", "web", "web-sidecar-proxy"]);

    // What is gone from the files is gone, by the signal as well.
    fs::remove_file(agent.folder.join("two.json")).expect("there");
    agent.write("web.hcl", "service {\n name = \"web\"\n port = 81\n}");
    tools::run("kill", &["-HUP", &agent.process.pid().to_string()]);
    eventually(SPREAD_LIMIT, "the files are in force", || {
        let ids = agent.ids();
        if ids == ["new", "web"] { Ok(()) } else { Err(format!("{ids:?}")) }
    });
    let web = agent.api().get("/v1/agent/service/web").and_then(Answer::ok).expect("there");
    assert_eq!(web.json()["Port"], 81);
}

#[test]
fn commands_are_run_for_files_when_that_is_switched_on_and_never_for_callers() {
    let cluster = Cluster::start();
    let agent = Configured::start(&cluster, json!({ "enable_local_script_checks": true }));
    agent.write(
        "check.hcl",
        "check {\n name = \"told\"\n args = [\"sh\", \"-c\", \"echo careful; exit 1\"]\n \
         interval = \"1s\"\n}",
    );
    assert_eq!(agent.reload(), (Some(0), "Configuration reloaded\n".to_owned()));
    eventually(SPREAD_LIMIT, "the command has warned", || {
        let checks = agent.api().get("/v1/agent/checks")?.ok()?.json();
        let told = &checks["told"];
        let is_so = told["Status"] == "warning" && told["Output"] == "careful\n";
        if is_so { Ok(()) } else { Err(checks.to_string()) }
    });
    let body = json!({ "Name": "x", "Args": ["touch", "/tmp/x"], "Interval": "1s" });
    for api in [agent.api(), cluster.agent.api()] {
        let refused = api.put("/v1/agent/check/register", &body).expect("an answer");
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.body.contains("Scripts are disabled on this agent"), "{refused:?}");
    }
}

/// Makes `<path>.pem`, signed by itself, and `<path>.key`.
fn certificate(path: &str, subject: &str) {
    let (key, cert) = (format!("{path}.key"), format!("{path}.pem"));
    // Without the defaults of the system, which make an authority of it.
    let config = format!("{path}.cnf");
    fs::write(&config, "[req]\ndistinguished_name = name\n[name]\n").expect("written");
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let names = ["-subj", subject, "-addext", "subjectAltName=DNS:localhost", "-config", &config];
    let files = ["-keyout", &key, "-out", &cert];
    let args: Vec<&str> =
        ["req", "-x509"].into_iter().chain(curve).chain(names).chain(files).collect();
    let made = tools::run("openssl", &args);
    assert_eq!(made.code, Some(0), "{made:?}");
}

/// One request over a unix socket.
fn over_socket(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_api_has_a_socket_and_a_door_with_certificates_and_keeps_pages_out() {
    const TEST: &str = "the_api_has_a_socket_and_a_door_with_certificates_and_keeps_pages_out";
    if !tools::have(TEST, &["openssl", "curl"]) {
        return;
    }
    let cluster = Cluster::start();
    let at = |name: &str| cluster.folder.path().join(name).to_string_lossy().into_owned();
    certificate(&at("api"), "/CN=localhost");
    certificate(&at("caller"), "/CN=caller");
    let socket = cluster.folder.path().join("http.sock");
    let https = free_port();
    let agent = Configured::start(
        &cluster,
        json!({
            "http": { "addr": format!("127.0.0.1:{}", free_port()), "socket": socket,
                "socket_mode": "0600" },
            "https": { "addr": format!("127.0.0.1:{https}"), "cert_file": at("api.pem"),
                "key_file": at("api.key"), "ca_file": at("caller.pem") },
        }),
    );
    let answer = over_socket(
        &socket,
        "GET /v1/agent/self HTTP/1.1\r\nhost: anything\r\nconnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    let url = format!("https://localhost:{https}/v1/agent/self");
    let (ca, cert, key) = (at("api.pem"), at("caller.pem"), at("caller.key"));
    let nobody = tools::run("curl", &["-s", "-S", "--cacert", &ca, &url]);
    assert_ne!(nobody.code, Some(0), "without a certificate: {nobody:?}");
    let known = ["-s", "-S", "--cacert", &ca, "--cert", &cert, "--key", &key, &url];
    let known = tools::run("curl", &known);
    assert!(known.stdout.contains("\"NodeName\":\"configured\""), "{known:?}");

    for header in [
        ("host", "rebound.example"),
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let refused = agent.api().request("GET", "/v1/agent/self", &[header], "");
        assert_eq!(refused.expect("an answer").status, 403, "{header:?}");
    }
    // What DNS calls this host is a name of the API as well.
    for name in ["configured.node.mesh", "configured.node.dc1.mesh.:8500", "CONFIGURED.node.consul"]
    {
        let answer = agent.api().request("GET", "/v1/agent/self", &[("host", name)], "");
        assert_eq!(answer.expect("an answer").status, 200, "{name}");
    }
    let long = "x".repeat(100_000);
    let refused = agent.api().request("GET", "/v1/agent/self", &[("x-long", &long)], "");
    assert_eq!(refused.expect("an answer").status, 431);
    let body = format!("{{\"Name\":\"{}\"}}", "x".repeat(2 << 20));
    let refused = agent.api().request("PUT", "/v1/agent/service/register", &[], &body);
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status == 413));
}

#[test]
fn the_log_and_the_metrics_can_be_followed() {
    let cluster = Cluster::start();
    let api = cluster.agent.api();
    let open = |path: &str| {
        let mut stream = TcpStream::connect(api.addr()).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", api.addr());
        stream.write_all(request.as_bytes()).expect("written");
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let first = lines.next().expect("an answer");
        (first, lines)
    };
    let (status, mut lines) = open("/v1/agent/monitor?loglevel=debug&logjson");
    assert!(status.contains("200"), "{status}");
    cluster.agent.register(&json!({ "Name": "web", "Check": { "TTL": "1m" } }));
    let line = lines.find(|line| line.contains("registered in the catalog"));
    let line: Value = serde_json::from_str(&line.expect("it is logged")).expect("JSON");
    assert_eq!(line["level"], "DEBUG");
    // The same by the command, which ends with the agent's log or when it is told to.
    let addr = api.addr().to_string();
    let args = ["monitor", "--http-addr", &addr, "--log-level", "DEBUG"];
    let mut command = std::process::Command::new(weft_tests::process::weft());
    command.args(args);
    let mut monitor = Daemon::program("monitor", cluster.folder.path(), command);
    eventually(SPREAD_LIMIT, "the command shows the log", || {
        // Each is a line, once the command follows.
        cluster.agent.register(&json!({ "Name": "api", "Port": free_port() }));
        let log = monitor.log();
        if log.contains("registered in the catalog") { Ok(()) } else { Err(log) }
    });
    monitor.terminate();
    let wrong = run_weft(&["monitor", "--log-level", "loud"], LIMIT);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    let nobody = run_weft(&["monitor", "--http-addr", "127.0.0.1:1"], LIMIT);
    assert!(nobody.output.contains("is an agent or a server there"), "{nobody:?}");
    let (_, mut metrics) = open("/v1/agent/metrics/stream");
    let line = metrics.find(|line| line.starts_with('{')).expect("at once");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert!(line["Gauges"].as_array().is_some_and(|gauges| !gauges.is_empty()), "{line}");
    let bad = api.get("/v1/agent/monitor?loglevel=loud").expect("an answer");
    assert_eq!(bad.status, 400, "{bad:?}");
    let host = api.get("/v1/agent/host").and_then(Answer::ok).expect("a page").json();
    assert!(host["Memory"]["total"].as_u64().is_some_and(|bytes| bytes > 0), "{host}");
}

#[test]
fn prometheus_is_told_what_to_scrape() {
    let cluster = Cluster::start();
    for (id, tag, port) in [("web-1", "metrics", 9001), ("web-2", "other", 9002)] {
        cluster.agent.register(&json!({ "ID": id, "Name": "web", "Port": port, "Tags": [tag],
            "Meta": { "path": "/m" }, "Check": { "TTL": "1m", "Status": "passing" } }));
    }
    cluster.agent.wait_passing("web", 2);
    let targets = |query: &str| {
        let path = format!("/v1/discovery/prometheus{query}");
        let answer = cluster.agent.api().get(&path).and_then(Answer::ok).expect("a list");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.json().as_array().expect("a list").clone()
    };
    assert_eq!(targets("?service=web").len(), 2);
    let tagged = targets("?service=web&tag=metrics&passing");
    assert_eq!(tagged.len(), 1, "{tagged:?}");
    assert_eq!(tagged[0]["targets"], json!(["127.0.0.1:9001"]));
    let labels = &tagged[0]["labels"];
    assert_eq!(labels["__meta_consul_service_id"], "web-1");
    assert_eq!(labels["__meta_consul_service_metadata_path"], "/m");
    assert_eq!(targets("?filter=Service.Port%20==%209002").len(), 1);
    assert_eq!(targets("?service=nobody").len(), 0);
}

#[test]
fn a_host_that_is_gone_is_taken_out_and_one_that_lives_is_not() {
    let cluster = Cluster::start();
    let api = cluster.agent.api();
    let node = api.get("/v1/agent/self").and_then(Answer::ok).expect("a page").json();
    let node = node["Config"]["NodeName"].as_str().expect("a name").to_owned();
    eventually(SPREAD_LIMIT, "the catalog has the host", || {
        let found = api.get(&format!("/v1/catalog/node/{node}"))?.ok()?;
        if found.json()["Node"].is_object() { Ok(()) } else { Err(found.body) }
    });
    let alive = api.put(&format!("/v1/agent/force-leave/{node}"), &json!({})).expect("an answer");
    assert_eq!((alive.status, alive.body.contains("is alive")), (400, true), "{alive:?}");
    let unknown = api.put("/v1/agent/force-leave/nobody", &json!({})).expect("an answer");
    assert_eq!(unknown.status, 404, "{unknown:?}");
    let elsewhere = api.put("/v1/agent/join/127.0.0.1:1", &json!({})).expect("an answer");
    assert_eq!(elsewhere.status, 503, "{elsewhere:?}");
}

#[test]
fn an_alias_follows_a_service_on_another_host() {
    let cluster = Cluster::start();
    let token = cluster.server.join_token_file();
    let other = TestAgent::start(cluster.folder.path(), "node2", &token);
    other.register(&json!({ "ID": "db-1", "Name": "db", "Check": { "TTL": "1h" } }));
    let alias =
        json!({ "ID": "db", "Name": "the database", "AliasNode": "node2", "AliasService": "db-1" });
    let api = cluster.agent.api();
    let registered = api.put("/v1/agent/check/register", &alias);
    registered.and_then(Answer::ok).expect("the check is accepted");
    for (report, wanted) in [("pass", "passing"), ("warn", "warning"), ("fail", "critical")] {
        let path = format!("/v1/agent/check/{report}/service:db-1");
        other.api().put(&path, &json!({})).and_then(Answer::ok).expect("the report is taken");
        eventually(SPREAD_LIMIT, &format!("the alias is {wanted}"), || {
            let checks = api.get("/v1/agent/checks")?.ok()?.json();
            if checks["db"]["Status"] == wanted { Ok(()) } else { Err(checks["db"].to_string()) }
        });
    }
}
