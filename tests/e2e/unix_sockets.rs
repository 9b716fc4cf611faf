//! nginx behind a unix socket, and curl that comes in by one: over HTTP/1.1, HTTP/2 and as bytes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::{Cluster, Daemon, eventually, tools};

use crate::programs::{curl, expect_text, nginx};
use crate::story::speaks;

#[test]
fn services_and_callers_meet_over_unix_sockets() {
    let test = "services_and_callers_meet_over_unix_sockets";
    if !tools::have(test, &["nginx", "curl"]) {
        return;
    }
    let cluster = Cluster::start();
    let folder = cluster.folder.path();
    let behind = folder.join("app.sock");
    let _nginx = start_nginx(folder, &behind);
    let names = ["web", "bytes"];
    speaks(&cluster, "web", "http");
    speaks(&cluster, "bytes", "tcp");
    let mut sidecars = Vec::new();
    for name in names {
        // Discovery wants a port; its sidecar does not use it.
        let mut registration = meshed(name, name, 80, &[]);
        registration["Connect"]["SidecarService"]["Proxy"] =
            json!({ "LocalServiceSocketPath": behind });
        cluster.agent.register(&registration);
        sidecars.push(cluster.agent.sidecar(name));
        cluster.agent.intend("shop", name, "allow");
    }
    let doors = names.map(|name| folder.join(format!("{name}.door")));
    let mut shop = meshed("shop", "shop", 80, &[]);
    shop["Connect"]["SidecarService"]["Proxy"]["Upstreams"] = json!([
        { "DestinationName": "web", "LocalBindSocketPath": doors[0] },
        { "DestinationName": "bytes", "LocalBindSocketPath": doors[1],
          "LocalBindSocketMode": "0660" },
    ]);
    cluster.agent.register(&shop);
    let mut shop = cluster.agent.sidecar("shop");
    for (door, mode) in doors.iter().zip([0o600, 0o660]) {
        eventually(SPREAD_LIMIT, "curl gets nginx's page", || {
            expect_text(&curl_by(door, &["-f"])?, "woven over a socket")
        });
        let found = fs::metadata(door).expect("the door is a file").permissions().mode();
        assert_eq!(found & 0o777, mode);
        for _ in 0..20 {
            let answer = curl_by(door, &["-f"]).expect("each worker finds the way");
            assert_eq!(answer.trim(), "woven over a socket");
        }
    }
    let http2 = curl_by(&doors[0], &["--http2-prior-knowledge", "-w", "%{http_version}"]);
    expect_text(&http2.expect("an answer"), "woven over a socket\n2").expect("HTTP/2 as asked");
    let gone = curl_by(&doors[0], &["-d", "@/proc/self/status", "-w", "%{http_code}"]);
    expect_text(&gone.expect("an answer"), "405").expect("what nginx says to a body");

    shop.process.terminate();
    eventually(SPREAD_LIMIT, "the doors go with the proxy", || {
        match doors.iter().find(|door| door.exists()) {
            Some(door) => Err(format!("{} is there", door.display())),
            None => Ok(()),
        }
    });
}

#[test]
fn a_registration_with_both_a_socket_and_a_port_is_refused() {
    let cluster = Cluster::start();
    let mut shop = meshed("shop", "shop", 80, &[("web", 9000)]);
    let proxy = &mut shop["Connect"]["SidecarService"]["Proxy"];
    proxy["LocalServiceSocketPath"] = json!("/run/app.sock");
    proxy["LocalServicePort"] = json!(80);
    proxy["Upstreams"][0]["LocalBindSocketPath"] = json!("/run/web.sock");
    proxy["Upstreams"][0]["LocalBindSocketMode"] = json!("rw-rw----");
    let answer = cluster.agent.api().put("/v1/agent/service/register", &shop).expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.body);
    for fault in [
        "Proxy.LocalServiceSocketPath: stands in place of LocalServiceAddress and LocalServicePort",
        "Upstreams[0].LocalBindSocketPath: stands in place of LocalBindAddress and LocalBindPort",
        "Upstreams[0].LocalBindSocketMode: \"rw-rw----\" is not the mode of a file in octal",
    ] {
        assert!(answer.body.contains(fault), "{}", answer.body);
    }
    shop["Connect"]["SidecarService"]["Proxy"] =
        json!({ "Upstreams": [{ "DestinationName": "web", "LocalBindSocketPath": "web.sock" }] });
    let answer = cluster.agent.api().put("/v1/agent/service/register", &shop).expect("an answer");
    assert!(answer.body.contains("\"web.sock\" is not an absolute path"), "{}", answer.body);
}

fn curl_by(door: &Path, more: &[&str]) -> Result<String, String> {
    let door = door.to_string_lossy();
    curl(&[&["--unix-socket", &door, "http://web/"], more].concat())
}

fn start_nginx(folder: &Path, socket: &Path) -> Daemon {
    let root = folder.join("www");
    fs::create_dir_all(&root).expect("a temporary folder can be written");
    fs::write(root.join("index.html"), "woven over a socket\n").expect("the same");
    let (root, socket) = (root.display(), socket.display());
    nginx(folder, &format!("server {{ listen unix:{socket}; root {root}; }}"))
}
