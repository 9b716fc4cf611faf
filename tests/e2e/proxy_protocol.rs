//! The PROXY header with programs that nobody here wrote: HAProxy before the caller's proxy,
//! nginx behind the service's.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Cluster, Daemon, eventually, tools};

use crate::programs::{curl, nginx};

#[test]
fn haproxy_tells_who_calls_and_nginx_is_told() {
    let test = "haproxy_tells_who_calls_and_nginx_is_told";
    if !tools::have(test, &["nginx", "curl", "haproxy"]) {
        return;
    }
    let cluster = Cluster::start();
    let folder = cluster.folder.path();
    let (web, door) = (free_port(), free_port());
    let fronts = [("send-proxy", free_port()), ("send-proxy-v2", free_port())];
    let _nginx = start_nginx(folder, web);
    let _haproxy = start_haproxy(folder, &fronts, door);
    cluster.agent.register(&meshed("web-1", "web", web, &[]));
    let _web = cluster.agent.sidecar("web-1");
    cluster.agent.intend("shop", "web", "allow");
    let mut shop = meshed("shop", "shop", 80, &[("web", door)]);
    let proxy = &mut shop["Connect"]["SidecarService"]["Proxy"];
    proxy["AcceptProxyProtocol"] = json!(["127.0.0.0/8"]);
    cluster.agent.register(&shop);
    let _shop = cluster.agent.sidecar("shop");
    for version in ["v1", "v2"] {
        for protocol in ["http", "http2", "tcp"] {
            // nginx speaks HTTP/2 without TLS on a listener of its own only.
            let spoken = if protocol == "http2" { "http" } else { protocol };
            cluster.agent.configure(&json!({
                "Kind": "service-defaults", "Name": "web", "Protocol": spoken,
                "ProxyProtocol": version,
            }));
            for (_, port) in fronts {
                let url = format!("http://127.0.0.1:{port}/");
                let more = if protocol == "http2" { "--http2-prior-knowledge" } else { "-sS" };
                let text = eventually(SPREAD_LIMIT, "nginx knows who calls", || {
                    let text = curl(&["-f", more, &url])?;
                    let is_http = spoken == "http";
                    // By tcp nobody adds a field; the header ends at the caller's proxy.
                    let wanted = if is_http { "forwarded=127.0.0.1 " } else { "forwarded= " };
                    if text.contains(wanted) { Ok(text) } else { Err(text) }
                });
                let mut parts = text.split_whitespace().filter_map(|part| part.split_once('='));
                let peer = parts.find(|(name, _)| *name == "peer").expect("the caller's proxy").1;
                let (host, port) = peer.split_once(':').expect("an address");
                assert_eq!(host, "127.0.0.1", "{text}");
                assert!(port.parse::<u16>().is_ok_and(|port| port != 0), "{text}");
            }
        }
    }
    // Without a header nobody gets in who should send one.
    let plain = curl(&[&format!("http://127.0.0.1:{door}/")]);
    plain.expect_err("a caller of that network must say who is behind it");
}

#[test]
fn a_network_that_is_none_is_refused() {
    let cluster = Cluster::start();
    let mut shop = meshed("shop", "shop", 80, &[]);
    shop["Connect"]["SidecarService"]["Proxy"]["AcceptProxyProtocol"] = json!(["10.0.0.0/33"]);
    let answer = cluster.agent.api().put("/v1/agent/service/register", &shop).expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.body.contains("AcceptProxyProtocol[0]"), "{}", answer.body);
}

fn start_nginx(folder: &Path, port: u16) -> Daemon {
    let http = format!(
        "server {{ listen 127.0.0.1:{port} proxy_protocol; location / {{ return 200 \
         \"peer=$proxy_protocol_addr:$proxy_protocol_port forwarded=$http_x_forwarded_for \\n\"; \
         }} }}"
    );
    nginx(folder, &http)
}

fn start_haproxy(folder: &Path, fronts: &[(&str, u16)], door: u16) -> Daemon {
    let mut config =
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n"
            .to_owned();
    for (option, port) in fronts {
        config.push_str(&format!(
            "listen {option}\n  bind 127.0.0.1:{port}\n  server door 127.0.0.1:{door} {option}\n"
        ));
    }
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config).expect("a temporary folder can be written");
    let mut command = Command::new(tools::find("haproxy").expect("it was found before"));
    command.arg("-db").arg("-f").arg(&file);
    Daemon::program("haproxy", folder, command)
}
