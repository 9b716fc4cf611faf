//! Prometheus, as Debian ships it, finds what to scrape through us and scrapes us: by HTTP
//! discovery, and by SRV records through a resolver's configuration that names the agent. Its own
//! code finds the same over the API that it has for Consul, which Debian's Prometheus lacks.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::ports::free_port;
use weft_tests::{Answer, Api, Cluster, Daemon, eventually, tools};

/// A Prometheus that asks every second.
pub(crate) struct Prometheus {
    _process: Daemon,
    api: Api,
}

impl Prometheus {
    /// Starts one with these `scrape_configs`, by a command that `wrap` may put before it.
    pub(crate) fn start(folder: &Path, jobs: &str, wrap: &[&str]) -> Self {
        let file = folder.join("prometheus.yml");
        let text = format!("global: {{ scrape_interval: 1s }}\nscrape_configs:\n{jobs}");
        fs::write(&file, text).expect("a temporary folder can be written");
        let port = free_port();
        let program = tools::find("prometheus").expect("it was found");
        let args = [
            program.to_string_lossy().into_owned(),
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join("tsdb").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let words: Vec<&str> =
            wrap.iter().copied().chain(args.iter().map(String::as_str)).collect();
        let mut command = Command::new(words.first().copied().unwrap_or_default());
        command.args(words.iter().skip(1));
        let process = Daemon::program("prometheus", folder, command);
        Self { _process: process, api: Api::new(([127, 0, 0, 1], port).into()) }
    }

    /// The active targets of a job, by the value of their label `instance`.
    pub(crate) fn targets(&self, job: &str) -> Result<Vec<Value>, String> {
        let answer = self.api.get("/api/v1/targets?state=active")?.ok()?.json();
        let all = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        Ok(all.into_iter().filter(|target| target["scrapePool"] == job).collect())
    }

    /// Waits until a job has exactly such targets: what `told` says of each, in order.
    fn wait(&self, job: &str, wanted: &[&str], told: impl Fn(&Value) -> String) {
        eventually(SPREAD_LIMIT, &format!("{job} has {wanted:?}"), || {
            let targets = self.targets(job)?;
            let mut found: Vec<String> = targets.iter().map(&told).collect();
            found.sort_unstable();
            if found == wanted { Ok(()) } else { Err(format!("{found:?}: {targets:?}")) }
        });
    }

    /// The value of a query that has one result.
    pub(crate) fn value(&self, query: &str) -> Result<f64, String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.api.get(&format!("/api/v1/query?query={encoded}"))?.ok()?.json();
        let value = answer["data"]["result"][0]["value"][1].as_str().and_then(|it| it.parse().ok());
        value.ok_or_else(|| answer.to_string())
    }

    /// Waits until a query has a result above a limit.
    fn wait_above(&self, limit: f64, query: &str) {
        eventually(SPREAD_LIMIT, query, || match self.value(query)? {
            value if value > limit => Ok(()),
            value => Err(value.to_string()),
        });
    }
}

/// A server and an agent which are registered as services that can be scraped.
fn observed() -> Cluster {
    let telemetry = free_port();
    let cluster =
        Cluster::start_with(&json!({ "telemetry_addr": format!("127.0.0.1:{telemetry}") }));
    let agent = cluster.agent.api().addr().port();
    cluster.agent.register(&json!({ "Name": "weft-agent", "Port": agent, "Tags": ["metrics"],
        "Meta": { "metrics_path": "/v1/agent/metrics", "metrics_format": "prometheus" } }));
    cluster.agent.register(&json!({ "Name": "weft-server", "Port": telemetry,
        "Tags": ["metrics"] }));
    cluster
}

/// Service, health and whether it could be scraped.
fn summary(target: &Value) -> String {
    let labels = &target["labels"];
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    [word(&labels["service"]), word(&labels["check"]), word(&target["health"])].join(" ")
}

#[test]
fn prometheus_scrapes_what_http_discovery_lists() {
    if !tools::have("prometheus_scrapes_what_http_discovery_lists", &["prometheus"]) {
        return;
    }
    let mut cluster = observed();
    let jobs = format!(
        "- job_name: mesh
  http_sd_configs:
  - url: http://{}/v1/discovery/prometheus?tag=metrics
    refresh_interval: 1s
  relabel_configs:
  - {{ source_labels: [__meta_consul_service_metadata_metrics_path], regex: (.+),
      target_label: __metrics_path__ }}
  - {{ source_labels: [__meta_consul_service_metadata_metrics_format], regex: (.+),
      target_label: __param_format }}
  - {{ source_labels: [__meta_consul_service], target_label: service }}
  - {{ source_labels: [__meta_consul_health], target_label: check }}
",
        cluster.agent.api().addr()
    );
    let prometheus = Prometheus::start(cluster.folder.path(), &jobs, &[]);
    prometheus.wait("mesh", &["weft-agent passing up", "weft-server passing up"], summary);
    prometheus.wait_above(0.0, "sum(weft_agent_http_requests_total{service=\"weft-agent\"})");
    prometheus.wait_above(0.0, "count({__name__=~\"weft_server_.+\", service=\"weft-server\"})");
    let targets = prometheus.targets("mesh").expect("a list");
    let found = &targets[0]["discoveredLabels"];
    for (label, value) in [
        ("__meta_consul_dc", "dc1"),
        ("__meta_consul_node", "node1"),
        ("__meta_consul_tags", ",metrics,"),
        ("__meta_consul_address", "127.0.0.1"),
    ] {
        assert_eq!(found[label], value, "{label}: {found}");
    }

    let told = json!({ "Name": "told", "Port": free_port(), "Tags": ["metrics"],
        "Check": { "CheckID": "life", "TTL": "1m", "Status": "passing" } });
    cluster.agent.register(&told);
    let with = |it| ["told ", it, " down"].concat();
    let both = ["weft-agent passing up", "weft-server passing up"];
    prometheus.wait("mesh", &[with("passing").as_str(), both[0], both[1]], summary);
    let api = cluster.agent.api();
    api.put("/v1/agent/check/fail/life", &json!({})).and_then(Answer::ok).expect("told");
    prometheus.wait("mesh", &[with("critical").as_str(), both[0], both[1]], summary);
    let gone = api.put("/v1/agent/service/deregister/told", &json!({}));
    gone.and_then(Answer::ok).expect("deregistered");
    prometheus.wait("mesh", &both, summary);

    // Without a server Prometheus keeps what it has.
    cluster.agent.process.expect_log("");
    cluster.server.process.kill();
    eventually(SPREAD_LIMIT, "Prometheus is told of an error", || {
        let metrics = prometheus.api.get("/metrics")?.ok()?.body;
        let line = metrics.lines().find(|it| it.starts_with("prometheus_sd_http_failures_total"));
        match line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()) {
            Some(count) if count >= 2.0 => Ok(()),
            count => Err(format!("{count:?}")),
        }
    });
    prometheus.wait("mesh", &["weft-agent passing up", "weft-server passing down"], summary);
}

/// A shell that has Prometheus see another resolver's configuration than the host.
const WITH_RESOLVER: &str = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";

#[test]
fn prometheus_finds_targets_by_srv_through_the_agent_as_resolver() {
    const TEST: &str = "prometheus_finds_targets_by_srv_through_the_agent_as_resolver";
    if !tools::have(TEST, &["prometheus", "unshare", "mount"]) {
        return;
    }
    if tools::run("unshare", &["--mount", "mount", "--bind", "/dev/null", "/dev/zero"]).code
        != Some(0)
    {
        return tools::skip(TEST, "no mount namespaces are permitted");
    }
    // Resolvers are asked at port 53; tests run beside one another and on the same machine.
    let address = format!("127.0.{}.53", 64 + std::process::id() % 128);
    if std::net::UdpSocket::bind((address.as_str(), 53)).is_err() {
        return tools::skip(TEST, &format!("{address}:53 cannot be bound"));
    }
    let mut cluster = observed();
    cluster.agent.set("dns", &json!({ "addr": format!("{address}:53") }));
    cluster.agent.process.terminate();
    cluster.agent.restart();
    let folder = cluster.folder.path();
    let resolver = folder.join("resolv.conf");
    fs::write(&resolver, format!("nameserver {address}\n")).expect("a folder can be written");
    let jobs = "\
- job_name: agents
  metrics_path: /v1/agent/metrics
  params: { format: [prometheus] }
  dns_sd_configs: [{ names: [weft-agent.service.mesh], type: SRV, refresh_interval: 1s }]
- job_name: servers
  dns_sd_configs: [{ names: [_weft-server._metrics.service.mesh], refresh_interval: 1s }]
- job_name: web
  dns_sd_configs: [{ names: [web.service.mesh], type: A, port: 80, refresh_interval: 1s }]
";
    let resolver = resolver.to_string_lossy().into_owned();
    let wrap = ["unshare", "--mount", "sh", "-c", WITH_RESOLVER, "sh", &resolver];
    let prometheus = Prometheus::start(folder, jobs, &wrap);
    let instance = |target: &Value| {
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        [word(&target["labels"]["instance"]), word(&target["health"])].join(" ")
    };
    let port = cluster.agent.api().addr().port();
    // The targets are names, which are resolved through us as well.
    let target = format!("node1.node.dc1.mesh:{port} up");
    prometheus.wait("agents", &[target.as_str()], instance);
    let servers = prometheus.targets("servers").expect("a list");
    assert_eq!(servers.len(), 1, "{servers:?}");
    prometheus.wait_above(0.0, "sum(weft_agent_dns_answers_total{job=\"agents\"})");
    prometheus.wait_above(0.0, "count({__name__=~\"weft_server_.+\", job=\"servers\"})");

    for at in [1, 2] {
        cluster.agent.register(&json!({ "ID": format!("web-{at}"), "Name": "web",
            "Address": format!("127.0.9.{at}"), "Port": 80,
            "Check": { "CheckID": format!("life-{at}"), "TTL": "1m", "Status": "passing" } }));
    }
    prometheus.wait("web", &["127.0.9.1:80 down", "127.0.9.2:80 down"], instance);
    let api = cluster.agent.api();
    api.put("/v1/agent/check/fail/life-2", &json!({})).and_then(Answer::ok).expect("told");
    prometheus.wait("web", &["127.0.9.1:80 down"], instance);
}

/// What Prometheus's discovery of Consul found last.
fn found(discovery: &Daemon) -> Result<Vec<Value>, String> {
    let log = discovery.log();
    let lines = log.lines().rev().filter(|line| line.starts_with('['));
    let last = lines.map(serde_json::from_str::<Vec<Value>>).find_map(Result::ok);
    last.ok_or(log)
}

#[test]
fn prometheus_discovers_over_our_api_as_over_consuls() {
    const TEST: &str = "prometheus_discovers_over_our_api_as_over_consuls";
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/go_discovery");
    if !tools::have_go_modules(TEST, source) {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.agent.process.expect_log("");
    let folder = cluster.folder.path().to_owned();
    let program = folder.join("discovery").to_string_lossy().into_owned();
    tools::run_go(&["-C", source, "build", "-o", &program, "."]).ok().expect("it builds");
    let register = |id: &str, name: &str, tags: &[&str]| {
        cluster.agent.register(&json!({ "ID": id, "Name": name, "Port": 9001, "Tags": tags,
            "Meta": { "path": "/m" },
            "Check": { "CheckID": id, "TTL": "1m", "Status": "passing" } }));
    };
    register("web-1", "web", &["metrics", "v1"]);
    register("web-2", "web", &["other"]);
    cluster.agent.wait_passing("web", 2);
    let config = folder.join("consul_sd.yml");
    let text =
        format!("server: {}\ntags: [metrics]\nrefresh_interval: 1s\n", cluster.agent.api().addr());
    fs::write(&config, text).expect("a temporary folder can be written");
    let mut command = Command::new(&program);
    command.arg(&config);
    let discovery = Daemon::program("discovery", &folder, command);
    let wait = |wanted: &[&str]| {
        eventually(SPREAD_LIMIT, &format!("it discovers {wanted:?}"), || {
            let found = found(&discovery)?;
            let told = |target: &Value| {
                ["__meta_consul_service_id", "__meta_consul_health"]
                    .map(|label| target[label].as_str().unwrap_or("-").to_owned())
            };
            let mut told: Vec<String> = found.iter().map(|it| told(it).join(" ")).collect();
            told.sort_unstable();
            if told == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        });
    };
    wait(&["web-1 passing"]);

    // The labels are those that HTTP discovery gives.
    let listed = cluster.agent.api().get("/v1/discovery/prometheus?tag=metrics");
    let listed = listed.and_then(Answer::ok).expect("a list").json();
    let mut labels = listed[0]["labels"].clone();
    labels["__address__"] = listed[0]["targets"][0].clone();
    // An empty label is none.
    let mut target = found(&discovery).expect("targets").swap_remove(0);
    for target in [&mut labels, &mut target] {
        target.as_object_mut().expect("labels").retain(|_, value| value != "");
    }
    assert_eq!(target, labels);

    let api = cluster.agent.api();
    let put = |path: &str| {
        api.put(path, &json!({})).and_then(Answer::ok).expect("done");
    };
    put("/v1/agent/check/fail/web-1");
    wait(&["web-1 critical"]);
    register("db-1", "db", &["metrics"]);
    wait(&["db-1 passing", "web-1 critical"]);
    put("/v1/agent/service/deregister/web-1");
    wait(&["db-1 passing"]);

    // It goes on after a server was away.
    cluster.server.process.kill();
    cluster.server.restart();
    cluster.server.process.expect_log("");
    register("web-3", "web", &["metrics"]);
    wait(&["db-1 passing", "web-3 passing"]);
}
