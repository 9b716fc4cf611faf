//! Names of the mesh through what others wrote: resolvers that forward to us, libraries, programs
//! that follow instances by DNS.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::ports::free_port;
use weft_tests::{App, Cluster, Daemon, eventually, tools};

use crate::dns::{dig, wait_lines};

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A mesh in which `web` has two instances at addresses of loopback.
fn two_webs() -> Cluster {
    let cluster = Cluster::start();
    for at in [1, 2] {
        cluster.agent.register(&json!({
            "ID": format!("web-{at}"), "Name": "web", "Address": format!("127.0.9.{at}"),
            "Port": 8000 + at,
        }));
    }
    wait_lines(cluster.agent.dns(), &["web.service.mesh"], &["127.0.9.1", "127.0.9.2"]);
    cluster
}

#[test]
fn dnspython_reads_every_answer() {
    if !tools::have_module("dnspython_reads_every_answer", "dns") {
        return;
    }
    let cluster = two_webs();
    let api = cluster.agent.api();
    let query = json!({ "Name": "both", "Service": { "Service": "web" }, "DNS": { "TTL": "7s" } });
    let made = api.request("POST", "/v1/query", &[], &query.to_string());
    made.and_then(weft_tests::Answer::ok).expect("the query is kept");
    wait_lines(cluster.agent.dns(), &["both.query.mesh"], &["127.0.9.1", "127.0.9.2"]);
    let port = cluster.agent.dns().port().to_string();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/dns_python.py");
    let said = tools::run("python3", &[script, &port]).ok().expect("the script agrees");
    assert_eq!(said.trim(), "content");
}

#[test]
fn unbound_and_dnsmasq_forward_to_us() {
    if !tools::have("unbound_and_dnsmasq_forward_to_us", &["dig", "unbound", "dnsmasq"]) {
        return;
    }
    let cluster = two_webs();
    let dns = cluster.agent.dns();
    let folder = cluster.folder.path();
    let (unbound_port, dnsmasq_port) = (free_port(), free_port());

    let config = format!(
        "server:\n interface: 127.0.0.1@{unbound_port}\n do-daemonize: no\n chroot: \"\"\n \
         username: \"\"\n pidfile: \"\"\n use-syslog: no\n directory: \"{}\"\n \
         do-not-query-localhost: no\n domain-insecure: \"mesh\"\n module-config: \"iterator\"\n\
         stub-zone:\n name: \"mesh\"\n stub-addr: {}@{}\n",
        folder.display(),
        dns.ip(),
        dns.port()
    );
    let file = folder.join("unbound.conf");
    fs::write(&file, config).expect("a temporary folder can be written");
    let mut command = Command::new(tools::find("unbound").expect("it is there"));
    command.arg("-d").arg("-c").arg(&file);
    let _unbound = Daemon::program("unbound", folder, command);

    let mut command = Command::new(tools::find("dnsmasq").expect("it is there"));
    command.args(["-k", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=root"]);
    command.args(["--listen-address=127.0.0.1", "--log-facility=-", "--conf-file=/dev/null"]);
    command.arg(format!("--port={dnsmasq_port}"));
    command.arg(format!("--server=/mesh/{}#{}", dns.ip(), dns.port()));
    let _dnsmasq = Daemon::program("dnsmasq", folder, command);

    for resolver in [local(unbound_port), local(dnsmasq_port)] {
        wait_lines(resolver, &["web.service.mesh"], &["127.0.9.1", "127.0.9.2"]);
        wait_lines(resolver, &["+tcp", "web.service.mesh"], &["127.0.9.1", "127.0.9.2"]);
        wait_lines(resolver, &["node1.node.mesh"], &["127.0.0.1"]);
        let said = dig(resolver, &["+noall", "+comments", "no.service.mesh"]).expect("an answer");
        assert!(said.contains("NXDOMAIN"), "{said}");
        let said = dig(resolver, &["+short", "SRV", "web.service.mesh"]).expect("an answer");
        assert_eq!(said.lines().count(), 2, "{said}");
    }
    // A failed instance is gone through them, too: nothing of it was kept.
    let api = cluster.agent.api();
    let gone = api.put("/v1/agent/service/deregister/web-2", &json!(null));
    gone.and_then(weft_tests::Answer::ok).expect("deregistered");
    for resolver in [local(unbound_port), local(dnsmasq_port)] {
        wait_lines(resolver, &["web.service.mesh"], &["127.0.9.1"]);
    }
}

/// HAProxy in front of whatever `_web._tcp.service.mesh` leads to.
struct HaProxy {
    _process: Daemon,
    front: u16,
    stats: u16,
}

impl HaProxy {
    fn start(folder: &Path, dns: SocketAddr) -> Self {
        let (front, stats) = (free_port(), free_port());
        let config = format!(
            "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 1s\n  \
             timeout client 5s\n  timeout server 5s\nresolvers mesh\n  nameserver agent {dns}\n  \
             accepted_payload_size 8192\n  timeout resolve 200ms\n  timeout retry 200ms\n  \
             hold valid 200ms\n  hold obsolete 0s\n  hold nx 200ms\n\
             frontend in\n  bind 127.0.0.1:{front}\n  default_backend web\n\
             frontend stats\n  bind 127.0.0.1:{stats}\n  stats enable\n  stats uri /\n\
             backend web\n  server-template web 4 _web._tcp.service.mesh resolvers mesh \
             resolve-opts allow-dup-ip init-addr none check inter 200ms\n"
        );
        let file = folder.join("haproxy.cfg");
        fs::write(&file, config).expect("a temporary folder can be written");
        let mut command = Command::new(tools::find("haproxy").expect("it is there"));
        command.arg("-db").arg("-f").arg(&file);
        Self { _process: Daemon::program("haproxy", folder, command), front, stats }
    }

    /// Waits until callers reach these applications and no other.
    fn reaches(&self, wanted: &[&str]) {
        let url = format!("http://127.0.0.1:{}/", self.front);
        eventually(SPREAD_LIMIT, &format!("HAProxy reaches {wanted:?}"), || {
            let mut seen = Vec::new();
            for _ in 0..12 {
                let said = tools::run("curl", &["-sS", "-f", "-m", "5", &url]).ok()?;
                let answer: Value =
                    serde_json::from_str(&said).map_err(|error| error.to_string())?;
                seen.extend(answer["app"].as_str().map(str::to_owned));
            }
            seen.sort_unstable();
            seen.dedup();
            if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }

    /// Waits until its usable servers have these weights.
    fn weighs(&self, wanted: &[u32]) {
        let url = format!("http://127.0.0.1:{}/;csv", self.stats);
        eventually(SPREAD_LIMIT, &format!("HAProxy weighs {wanted:?}"), || {
            let said = tools::run("curl", &["-sS", "-f", "-m", "5", &url]).ok()?;
            let mut lines = said.lines().map(|line| line.split(',').collect::<Vec<_>>());
            let titles = lines.next().unwrap_or_default();
            let column = |name: &str| {
                titles.iter().position(|it| *it == name).ok_or_else(|| format!("no {name}: {said}"))
            };
            let (status, weight) = (column("status")?, column("weight")?);
            let servers = lines.filter(|it| it.starts_with(&["web"]) && it[1] != "BACKEND");
            let usable = servers.filter(|it| it[status] == "UP");
            let mut weights: Vec<u32> = usable.filter_map(|it| it[weight].parse().ok()).collect();
            weights.sort_unstable();
            if weights == wanted { Ok(()) } else { Err(said) }
        });
    }
}

#[test]
fn haproxy_follows_instances_and_their_weights_by_srv() {
    let test = "haproxy_follows_instances_and_their_weights_by_srv";
    if !tools::have(test, &["haproxy", "curl"]) {
        return;
    }
    let cluster = Cluster::start();
    let [one, two, three] = ["one", "two", "three"].map(App::start);
    // HAProxy's weights are a 256th of those in records, and one at least.
    let register = |app: &App, id: &str, weight: u32| {
        cluster.agent.register(&json!({ "ID": id, "Name": "web", "Port": app.port(),
            "Weights": { "Passing": weight, "Warning": 256 },
            "Checks": [
                { "HTTP": format!("http://{}/", app.addr()), "Interval": "1s" },
                { "CheckID": format!("{id}-told"), "TTL": "1m", "Status": "passing" },
            ] }));
    };
    register(&one, "web-1", 12800);
    let haproxy = HaProxy::start(cluster.folder.path(), cluster.agent.dns());
    haproxy.reaches(&["one"]);
    haproxy.weighs(&[50]);
    register(&two, "web-2", 51200);
    register(&three, "web-3", 51200);
    haproxy.reaches(&["one", "three", "two"]);
    haproxy.weighs(&[50, 200, 200]);

    let put = |path: &str| {
        let done = cluster.agent.api().put(path, &json!(null));
        done.and_then(weft_tests::Answer::ok).expect("done");
    };
    put("/v1/agent/check/warn/web-2-told");
    haproxy.weighs(&[1, 50, 200]);
    put("/v1/agent/service/deregister/web-1");
    haproxy.reaches(&["three", "two"]);
    haproxy.weighs(&[1, 200]);
    drop(three);
    haproxy.reaches(&["two"]);
    register(&one, "web-1", 256);
    haproxy.reaches(&["one", "two"]);
    haproxy.weighs(&[1, 1]);
}

/// What `dnsperf` says in a line of its summary, as words after the colon.
fn figure<'a>(said: &'a str, title: &str) -> Result<Vec<&'a str>, String> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(title)?.strip_prefix(':'));
    line.map(|line| line.split_whitespace().collect()).ok_or_else(|| format!("{title}? {said}"))
}

/// Loads the agent for three seconds; every query is answered, and as it should be.
fn loaded(dns: SocketAddr, queries: &str, way: &str, rate: u32) -> Result<String, String> {
    let (server, port, rate) = (dns.ip().to_string(), dns.port().to_string(), rate.to_string());
    let args = ["-s", &server, "-p", &port, "-d", queries, "-m", way, "-Q", &rate];
    let said = tools::run("dnsperf", &[&args[..], &["-l", "3", "-c", "4", "-t", "5"]].concat());
    let said = said.ok()?;
    let lost = figure(&said, "Queries lost")?;
    let codes = figure(&said, "Response codes")?.concat();
    // One name of four is not there.
    let (right, wrong) = ("NOERROR", "NXDOMAIN");
    let known = codes.split(',').all(|code| code.starts_with(right) || code.starts_with(wrong));
    let share = |code: &str| {
        let part = codes.split(',').find(|part| part.starts_with(code))?;
        part.split_once('(')?.1.trim_end_matches("%)").parse::<f64>().ok()
    };
    let missing = share(wrong).unwrap_or_default();
    if lost.first() != Some(&"0") || !known || !(24.0..26.0).contains(&missing) {
        return Err(said);
    }
    let rate = figure(&said, "Queries per second")?.concat();
    let latency = figure(&said, "Average Latency (s)")?.concat();
    Ok(format!("dnsperf over {way}: {rate} answers/s, none lost, latency in s {latency}"))
}

#[test]
fn dnsperf_loses_no_answer_while_instances_come_and_go() {
    if !tools::have("dnsperf_loses_no_answer_while_instances_come_and_go", &["dnsperf", "dig"]) {
        return;
    }
    let cluster = two_webs();
    let mut queries = String::new();
    for at in 0..20 {
        cluster.agent.register(&json!({ "Name": format!("s{at}"), "Port": 1000 + at }));
        let name = format!("s{at}.service.mesh");
        queries += &format!("{name} A\n{name} SRV\nweb.service.mesh A\nno{at}.service.mesh A\n");
    }
    wait_lines(cluster.agent.dns(), &["s19.service.mesh"], &["127.0.0.1"]);
    let file = cluster.folder.path().join("queries");
    fs::write(&file, queries).expect("a temporary folder can be written");
    let file = file.to_string_lossy();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // An instance that comes and goes as long as it is asked for.
        scope.spawn(|| {
            let api = cluster.agent.api();
            while !done.load(Ordering::Relaxed) {
                cluster.agent.register(&json!({ "ID": "web-3", "Name": "web", "Port": 1 }));
                let gone = api.put("/v1/agent/service/deregister/web-3", &json!(null));
                gone.and_then(weft_tests::Answer::ok).expect("deregistered");
            }
        });
        let told = [("udp", 2000), ("tcp", 500)]
            .map(|(way, rate)| loaded(cluster.agent.dns(), &file, way, rate));
        done.store(true, Ordering::Relaxed);
        for told in told {
            tools::tell(&told.expect("every query is answered"));
        }
    });
}
