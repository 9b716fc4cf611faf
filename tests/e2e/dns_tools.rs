//! Names of the mesh through what others wrote: resolvers that forward to us, libraries, programs
//! that follow instances by DNS.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::json;
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

#[test]
fn haproxy_follows_instances_by_srv() {
    if !tools::have("haproxy_follows_instances_by_srv", &["haproxy", "curl"]) {
        return;
    }
    let cluster = Cluster::start();
    let apps = ["one", "two"].map(App::start);
    let register = |at: usize| {
        let body = json!({ "ID": format!("web-{at}"), "Name": "web", "Port": apps[at].port() });
        cluster.agent.register(&body);
    };
    register(0);
    let (folder, port) = (cluster.folder.path(), free_port());
    let config = format!(
        "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  \
         timeout server 5s\nresolvers mesh\n  nameserver agent {}\n  accepted_payload_size 8192\n  \
         timeout resolve 200ms\n  timeout retry 200ms\n  hold valid 200ms\n  hold obsolete 0s\n  \
         hold nx 200ms\nfrontend in\n  bind 127.0.0.1:{port}\n  default_backend web\nbackend web\n  \
         server-template web 4 _web._tcp.service.mesh resolvers mesh init-addr none check inter \
         200ms\n",
        cluster.agent.dns()
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config).expect("a temporary folder can be written");
    let mut command = Command::new(tools::find("haproxy").expect("it is there"));
    command.arg("-db").arg("-f").arg(&file);
    let _haproxy = Daemon::program("haproxy", folder, command);
    let url = format!("http://127.0.0.1:{port}/");
    let wait_apps = |wanted: &[&str]| {
        eventually(SPREAD_LIMIT, &format!("HAProxy reaches {wanted:?}"), || {
            let mut seen = Vec::new();
            for _ in 0..12 {
                let said = tools::run("curl", &["-sS", "-f", "-m", "5", &url]).ok()?;
                let answer: serde_json::Value =
                    serde_json::from_str(&said).map_err(|error| error.to_string())?;
                seen.extend(answer["app"].as_str().map(str::to_owned));
            }
            seen.sort_unstable();
            seen.dedup();
            if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    };
    wait_apps(&["one"]);
    register(1);
    wait_apps(&["one", "two"]);
    let gone = cluster.agent.api().put("/v1/agent/service/deregister/web-0", &json!(null));
    gone.and_then(weft_tests::Answer::ok).expect("deregistered");
    wait_apps(&["two"]);
}
