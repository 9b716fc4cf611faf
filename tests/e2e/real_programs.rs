//! Services that nobody here wrote: nginx and Python's `http.server` in the mesh, called with
//! curl, found with dig.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Cluster, Daemon, TestAgent, eventually, tools};

use crate::programs::{curl, expect_text, nginx};
use crate::story::{Shop, speaks};

#[test]
fn nginx_and_python_serve_curl_through_the_mesh() {
    let test = "nginx_and_python_serve_curl_through_the_mesh";
    if !tools::have(test, &["nginx", "python3", "curl", "dig"]) {
        return;
    }
    let cluster = Cluster::start();
    let (web_port, files_port) = (free_port(), free_port());
    let _nginx = start_nginx(cluster.folder.path(), web_port);
    let _python = start_python(cluster.folder.path(), files_port);
    speaks(&cluster, "web", "http");
    speaks(&cluster, "files", "http");
    for (id, name, port) in [("web-1", "web", web_port), ("files-1", "files", files_port)] {
        let mut registration = meshed(id, name, port, &[]);
        registration["Check"] = json!({
            "HTTP": format!("http://127.0.0.1:{port}/"), "Interval": "1s", "Timeout": "5s",
        });
        cluster.agent.register(&registration);
    }
    let _web_sidecar = cluster.agent.sidecar("web-1");
    let _files_sidecar = cluster.agent.sidecar("files-1");
    let shop = Shop::open(&cluster, &["web", "files"]);
    cluster.agent.wait_passing("web", 1);
    cluster.agent.wait_passing("files", 1);

    let web = format!("http://{}/", shop.to("web").addr());
    let files = format!("http://{}/hello.txt", shop.to("files").addr());
    eventually(SPREAD_LIMIT, "curl is refused by default", || {
        expect_text(&curl(&["-o", "/dev/null", "-w", "%{http_code}", &web])?, "403")
    });
    cluster.agent.intend("shop", "web", "allow");
    cluster.agent.intend("shop", "files", "allow");
    eventually(SPREAD_LIMIT, "curl reads nginx's page", || {
        expect_text(&curl(&["-f", &web])?, "woven by nginx")
    });
    eventually(SPREAD_LIMIT, "curl reads python's file", || {
        expect_text(&curl(&["-f", &files])?, "woven by python")
    });

    big_bodies_arrive_whole(cluster.folder.path(), &web);
    dig_finds_the_services(&cluster.agent, web_port);
}

/// Ten megabytes, larger than any buffer on the way.
fn big_bodies_arrive_whole(folder: &Path, web: &str) {
    let sent: Vec<u8> = (0..10_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(folder.join("www/big.bin"), &sent).expect("a temporary folder can be written");
    let got = folder.join("big.got");
    curl(&["-f", "-o", &got.to_string_lossy(), &format!("{web}big.bin")]).expect("curl gets it");
    assert!(fs::read(got).expect("curl wrote it") == sent, "the body arrived changed");
}

fn dig_finds_the_services(agent: &TestAgent, web_port: u16) {
    let dns = agent.dns();
    let (at, port) = (format!("@{}", dns.ip()), dns.port().to_string());
    let dig = |args: &[&str]| -> Result<String, String> {
        let base = [at.as_str(), "-p", port.as_str(), "+time=5", "+tries=1"];
        tools::run("dig", &[&base[..], args].concat()).ok()
    };
    eventually(SPREAD_LIMIT, "dig finds the address", || {
        expect_text(&dig(&["+short", "web.service.mesh", "A"])?, "127.0.0.1")
    });
    let srv = dig(&["+short", "web.service.mesh", "SRV"]).expect("dig gets an answer");
    assert!(srv.contains(&format!(" {web_port} ")), "the port is in the SRV record: {srv}");
    let tcp =
        dig(&["+short", "+tcp", "web.service.consul", "A"]).expect("dig gets an answer over TCP");
    assert_eq!(tcp.trim(), "127.0.0.1");
    let absent = dig(&["+noall", "+comments", "absent.service.mesh", "A"]).expect("an answer");
    assert!(absent.contains("NXDOMAIN"), "{absent}");
}

fn start_nginx(folder: &Path, port: u16) -> Daemon {
    let root = folder.join("www");
    fs::create_dir_all(&root).expect("a temporary folder can be written");
    fs::write(root.join("index.html"), "woven by nginx\n").expect("the same");
    let http = format!("server {{ listen 127.0.0.1:{port}; root {}; }}", root.display());
    nginx(folder, &http)
}

fn start_python(folder: &Path, port: u16) -> Daemon {
    let root = folder.join("files");
    fs::create_dir_all(&root).expect("a temporary folder can be written");
    fs::write(root.join("hello.txt"), "woven by python\n").expect("the same");
    let mut command = Command::new(tools::find("python3").expect("it was found before"));
    command.args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory"]);
    command.arg(&root);
    Daemon::program("python", folder, command)
}
