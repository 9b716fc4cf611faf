//! Clients and servers of HTTP that nobody here wrote, at both ends of two proxies: Node's, npm's ws and
//! connect-web, Python's httpx, h2 and websockets, curl, a browser.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::ports::free_port;
use weft_tests::{Cluster, Daemon, TestProxy, eventually, tools};

use crate::conformance::carried;
use crate::programs;
use crate::story::Shop;

/// A service that is a script of `clients`, and a caller with another proxy.
struct Road {
    cluster: Cluster,
    shop: Shop,
    door: String,
    _sidecar: TestProxy,
    _service: Daemon,
}

fn script(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    folder.join(file).to_string_lossy().into_owned()
}

impl Road {
    /// Starts the script with these arguments and its port.
    fn start(protocol: &str, program: &str, args: &[&str]) -> Self {
        let cluster = Cluster::start();
        let port = free_port();
        let mut command = Command::new(tools::find(program).expect("it was found before"));
        command.arg(script(args[0])).args(&args[1..]).arg(port.to_string());
        let service = Daemon::program(program, cluster.folder.path(), command);
        let (shop, sidecar) = carried(&cluster, "web", protocol, port);
        let door = shop.to("web").addr().port().to_string();
        Self { cluster, shop, door, _sidecar: sidecar, _service: service }
    }

    /// Has a program call until it says that it agrees.
    fn agrees(&self, program: &str, args: &[&str], wanted: &str) {
        let file = script(args[0]);
        let all = [&[file.as_str()], &args[1..], &[&self.door]].concat();
        eventually(SPREAD_LIMIT, wanted, || {
            let said = tools::run(program, &all).ok()?;
            programs::expect_text(&said, wanted)
        });
    }
}

#[test]
fn node_and_ws_are_served() {
    let test = "node_and_ws_are_served";
    if !tools::have_node_module(test, "ws") {
        return;
    }
    let road = Road::start("http", "node", &["http_node.js", "serve"]);
    road.agrees("node", &["http_node.js", "call"], "Node and ws agree");
}

#[test]
fn a_browser_is_served() {
    let test = "a_browser_is_served";
    let browser = "chromium-headless-shell";
    if !tools::have_node_module(test, "ws") || !tools::have(test, &[browser]) {
        return;
    }
    let road = Road::start("http", "node", &["browser.js"]);
    let profile = road.cluster.folder.path().join("browser");
    let profile = format!("--user-data-dir={}", profile.display());
    let page = format!("http://127.0.0.1:{}/", road.door);
    // Its own sandbox needs what containers often do not give; it sees one page of ours.
    let args = ["--no-sandbox", "--disable-gpu", &profile, "--dump-dom", &page];
    eventually(SPREAD_LIMIT, "it sees the page and talks to its server", || {
        let outcome = r#"<p id="outcome">the browser agrees</p>"#;
        programs::expect_text(&tools::run(browser, &args).ok()?, outcome)
    });
}

#[test]
fn node_over_http2_is_served() {
    let test = "node_over_http2_is_served";
    if !tools::have_node_module(test, "ws") {
        return;
    }
    let road = Road::start("http2", "node", &["http_node.js", "serve2"]);
    road.agrees("node", &["http_node.js", "call2"], "Node over HTTP/2 agrees");
}

#[test]
fn httpx_and_frames_by_h2_are_served() {
    let test = "httpx_and_frames_by_h2_are_served";
    if !tools::have_module(test, "httpx, h2") {
        return;
    }
    let road = Road::start("http", "python3", &["http_python.py", "serve"]);
    road.agrees("python3", &["http_python.py", "call"], "httpx and h2 agree");
}

#[test]
fn websockets_for_python_is_served() {
    let test = "websockets_for_python_is_served";
    if !tools::have_module(test, "websockets.sync.server") {
        return;
    }
    let road = Road::start("http", "python3", &["websockets_python.py", "serve"]);
    road.agrees("python3", &["websockets_python.py", "call"], "websockets agrees");
}

#[test]
fn grpc_web_of_connect_is_served() {
    let test = "grpc_web_of_connect_is_served";
    if !tools::have_node_module(test, "@connectrpc/connect-web")
        || !tools::have_module(test, "grpc")
    {
        return;
    }
    let road = Road::start("grpc", "python3", &["grpc_strings.py"]);
    road.agrees("node", &["grpc_web.js"], "connect-web agrees");
}

/// A forward proxy as small as it can be: what it is asked to connect to, it connects to.
const FORWARDER: &str = "http_forwarder.py";

#[test]
fn curl_goes_through_a_tunnel_where_the_service_allows_it() {
    let test = "curl_goes_through_a_tunnel_where_the_service_allows_it";
    if !tools::have(test, &["curl", "python3"]) {
        return;
    }
    let road = Road::start("http", "python3", &[FORWARDER]);
    let far = road.cluster.agent.api().addr();
    let (proxy, url) =
        (format!("127.0.0.1:{}", road.door), format!("http://{far}/v1/status/leader"));
    let curl = || {
        let args =
            ["--proxytunnel", "--proxy", &proxy, "-w", " %{http_connect} %{http_code}", &url];
        programs::curl(&args)
    };
    eventually(SPREAD_LIMIT, "it is refused with a reason", || match curl() {
        Err(said) => programs::expect_text(&said, "403"),
        Ok(said) => Err(said),
    });
    road.cluster.agent.configure(&json!({
        "Kind": "service-defaults", "Name": "web", "Protocol": "http", "AllowConnect": true,
    }));
    eventually(SPREAD_LIMIT, "it is let through", || programs::expect_text(&curl()?, " 200 200"));
    drop(road.shop);
}
