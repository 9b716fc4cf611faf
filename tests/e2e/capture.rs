//! A program that knows nothing of proxies calls `http://web`, and gets mutual TLS, routing and
//! policy: the host leads its calls to the sidecar. Each story has a network of its own.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::process::{run_weft, weft};
use weft_tests::tools::Ran;
use weft_tests::{App, Cluster, TestProxy, eventually, network, tools};

use crate::story::{called, speaks};

const LIMIT: Duration = Duration::from_secs(30);
/// Whose calls are captured.
const NOBODY: &str = "65534";
/// This host and its neighbour, which has no part in the mesh.
const OWN: [&str; 2] = ["192.0.2.1", "fd00:9::1"];
const NEIGHBOUR: [&str; 2] = ["192.0.2.2", "fd00:9::2"];
const NEIGHBOUR_PORT: u16 = 8080;

#[test]
fn nftables_leads_calls_of_a_program_into_the_mesh() {
    in_own_network("nftables_leads_calls_of_a_program_into_the_mesh", "nft", || story("nftables"));
}

#[test]
fn iptables_leads_calls_of_a_program_into_the_mesh() {
    let test = "iptables_leads_calls_of_a_program_into_the_mesh";
    in_own_network(test, "iptables-restore", || story("iptables"));
}

#[test]
fn what_others_call_is_led_to_the_sidecar() {
    in_own_network("what_others_call_is_led_to_the_sidecar", "nft", called_from_outside);
}

#[test]
fn the_user_of_a_program_says_for_which_service_of_the_host_it_calls() {
    let test = "the_user_of_a_program_says_for_which_service_of_the_host_it_calls";
    in_own_network(test, "nft", two_services_of_a_host);
}

/// Runs a story in a network of its own, if that can be had.
fn in_own_network(test: &str, tool: &str, story: impl FnOnce()) {
    let programs = ["nsenter", "setpriv", "curl", "python3", tool];
    network::in_own_network(&format!("capture::{test}"), &programs, story);
}

/// Another host, which serves files over HTTP; it goes with the value.
struct Neighbour {
    network: Child,
    server: Child,
}

impl Neighbour {
    fn start() -> Self {
        run("ip", "link add v0 type veth peer name v1");
        let mut asleep = Command::new("unshare");
        let network = asleep.args(["--net", "sleep", "infinity"]).spawn().expect("unshare");
        let pid = network.id().to_string();
        // The network is its own once the program has left ours.
        eventually(LIMIT, "the neighbour has a network", || {
            let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
            let (own, other) = (of("self"), of(&pid));
            match (own, other) {
                (Ok(own), Ok(other)) if own != other => Ok(()),
                ends => Err(format!("{ends:?}")),
            }
        });
        run("ip", &format!("link set v1 netns {pid}"));
        let inside = |line: &str| run("nsenter", &format!("--net=/proc/{pid}/ns/net ip {line}"));
        inside("link set lo up");
        for (number, (own, other)) in OWN.into_iter().zip(NEIGHBOUR).enumerate() {
            let more = if number == 0 { "/24" } else { "/64 nodad" };
            let (length, flag) = more.split_once(' ').unwrap_or((more, ""));
            run("ip", &format!("addr add {own}{length} dev v0 {flag}"));
            inside(&format!("addr add {other}{length} dev v1 {flag}"));
        }
        run("ip", "link set v0 up");
        inside("link set v1 up");
        run("ip", &format!("route add default via {}", NEIGHBOUR[0]));
        run("ip", &format!("-6 route add default via {}", NEIGHBOUR[1]));
        let folder = std::env::temp_dir();
        let port = NEIGHBOUR_PORT.to_string();
        let server = Command::new("nsenter")
            .arg(format!("--net=/proc/{pid}/ns/net"))
            .args(["python3", "-m", "http.server", &port, "--bind", "::", "--directory"])
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a server");
        Self { network, server }
    }

    /// Runs a program over there.
    fn run(&self, line: &str) -> Ran {
        let net = format!("--net=/proc/{}/ns/net", self.network.id());
        let words = std::iter::once(net.as_str()).chain(line.split(' '));
        tools::run("nsenter", &words.collect::<Vec<_>>())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.network] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(program: &str, line: &str) {
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    tools::run(program, &words).ok().unwrap_or_else(|said| panic!("{program} {line}: {said}"));
}

/// Calls as the user whose calls are captured, with a resolver's search domain and nothing else;
/// returns status and body.
fn curl(url: &str, more: &[&str]) -> Result<(u16, String), String> {
    curl_as(NOBODY, url, more)
}

/// Calls as another user.
fn curl_as(user: &str, url: &str, more: &[&str]) -> Result<(u16, String), String> {
    let nobody = [&format!("--reuid={user}"), &format!("--regid={NOBODY}"), "--clear-groups"];
    let curl =
        ["env", "LOCALDOMAIN=virtual.mesh", "curl", "-sS", "-m", "10", "-w", "\n%{http_code}"];
    let words = [&nobody[..], &curl[..], more, &["--noproxy", "*", url]].concat();
    let said = tools::run("setpriv", &words).ok()?;
    let (body, status) = said.rsplit_once('\n').ok_or_else(|| said.clone())?;
    Ok((status.parse().map_err(|_| said.clone())?, body.to_owned()))
}

/// Waits until a call gets an answer with this status.
fn gets(url: &str, more: &[&str], wanted: u16) -> String {
    eventually(SPREAD_LIMIT, &format!("{url} {more:?} gets {wanted}"), || match curl(url, more)? {
        (status, body) if status == wanted => Ok(body),
        other => Err(format!("{other:?}")),
    })
}

/// Waits until a call gets no answer; returns how curl ended.
fn gets_nothing(url: &str, more: &[&str]) -> String {
    eventually(SPREAD_LIMIT, &format!("{url} gets nothing"), || match curl(url, more) {
        Ok(answer) => Err(format!("{answer:?}")),
        Err(said) => Ok(said),
    })
}

fn capture(args: &[&str]) -> String {
    let told = run_weft(&[&["capture"], args].concat(), LIMIT);
    assert_eq!(told.code, Some(0), "weft capture {args:?}: {}", told.output);
    told.output
}

/// Tries out the rules as somebody of the captured group.
fn tried(more: &[&str]) -> Result<String, String> {
    let weft = weft();
    let weft = weft.to_string_lossy();
    let group = format!("--regid={NOBODY}");
    let words = [&[&group, "--clear-groups", &weft, "capture", "test"], more].concat();
    tools::run("setpriv", &words).ok()
}

/// Every rule of the network, without counts and times.
fn all_rules() -> String {
    let mut all = tools::run("nft", &["list", "ruleset"]).ok().unwrap_or_default();
    for program in ["iptables-save", "ip6tables-save"] {
        if tools::find(program).is_none() {
            continue;
        }
        let saved = tools::run(program, &[]).ok().unwrap_or_default();
        let lines = saved.lines().filter(|line| !line.starts_with('#'));
        all.extend(lines.map(|line| format!("{}\n", line.split(" [").next().unwrap_or_default())));
    }
    all
}

/// Rules of somebody else, which must stay as they are.
fn foreign_rules(backend: &str) {
    if backend == "iptables" {
        for program in ["iptables", "ip6tables"] {
            run(program, "-t nat -A OUTPUT -p tcp --dport 9999 -j REDIRECT --to-ports 9998");
            run(program, "-t nat -A PREROUTING -p tcp --dport 9999 -j REDIRECT --to-ports 9998");
        }
    } else {
        run("nft", "add table inet others");
        run("nft", "add chain inet others c { type filter hook input priority 0 ; }");
    }
}

/// A service whose calls are captured, and its sidecar.
struct Caller {
    proxy: TestProxy,
    port: u16,
    _app: App,
}

impl Caller {
    fn start(cluster: &Cluster) -> Self {
        let (app, port) = (App::start("shop"), free_port());
        let mut service = meshed("shop-1", "shop", app.port(), &[]);
        service["Connect"]["SidecarService"]["Proxy"] = json!({
            "Mode": "transparent", "TransparentProxy": { "OutboundListenerPort": port },
        });
        cluster.agent.register(&service);
        Self { proxy: cluster.agent.sidecar("shop-1"), port, _app: app }
    }

    fn counted(&self, name: &str) -> u64 {
        let metrics = self.proxy.admin().get("/metrics").expect("an answer").body;
        let of_name = metrics.lines().filter(|line| line.starts_with(name));
        of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

fn story(backend: &str) {
    let neighbour = Neighbour::start();
    foreign_rules(backend);
    let before = all_rules();
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let _web = called(&cluster, "web-1", "web", "v1");
    let mut shop = Caller::start(&cluster);
    cluster.agent.intend("shop", "web", "allow");

    let (of, dns) = (format!("{NOBODY}={}", shop.port), cluster.agent.dns().to_string());
    let apply = ["apply", "--backend", backend, "--uid", &of, "--gid", &of, "--dns", &dns];
    capture(&apply);
    let shown = capture(&["show", "--backend", backend]);
    assert!(shown.contains(&shop.port.to_string()), "{shown}");
    capture(&apply);
    assert_eq!(capture(&["show", "--backend", backend]), shown, "twice is once");

    for family in [&[][..], &["--ipv6"]] {
        let said = eventually(SPREAD_LIMIT, "the rules lead to the sidecar", || tried(family));
        assert!(said.contains("the proxy of shop"), "{said}");
    }
    for family in ["-4", "-6"] {
        let body = gets("http://web/hello", &[family], 200);
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&answer["app"], &answer["path"]), (&json!("web-1"), &json!("/hello")));
        gets("http://web.virtual.consul:9090/", &[family], 200);
    }
    cluster.agent.intend("shop", "web", "deny");
    // What no intention allows is out of reach.
    gets_nothing("http://web/", &["-4"]);
    cluster.agent.intend("shop", "web", "allow");
    gets("http://web/", &["-4"], 200);
    goes_elsewhere(&cluster, &shop);

    // Closed: without the proxy there is no way past the mesh.
    shop.proxy.process.kill();
    let said = gets_nothing(&elsewhere()[0], &[]);
    assert!(said.contains("exit Some(7)"), "refused: {said}");
    let untold = tried(&[]).expect_err("nobody takes the call");
    assert!(untold.contains("no proxy listens"), "{untold}");
    capture(&["remove", "--backend", backend]);
    assert_eq!(all_rules(), before, "nothing of ours is left, and all of others'");
    capture(&["remove", "--backend", backend]);
    gets(&elsewhere()[0], &[], 200);
    drop(neighbour);
}

fn elsewhere() -> [String; 2] {
    let of = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), NEIGHBOUR_PORT);
    NEIGHBOUR.map(|ip| format!("http://{}/", of(ip)))
}

/// What has no part in the mesh is reached through the proxy, unless the mesh says otherwise.
fn goes_elsewhere(cluster: &Cluster, shop: &Caller) {
    for url in elsewhere() {
        gets(&url, &["-g"], 200);
    }
    assert!(shop.counted("weft_proxy_captured_passed_total") >= 2);
    cluster.agent.configure(&json!({
        "Kind": "mesh", "TransparentProxy": { "MeshDestinationsOnly": true },
    }));
    for url in elsewhere() {
        gets_nothing(&url, &["-g"]);
    }
    gets("http://web/", &["-4"], 200);
    assert!(shop.counted("weft_proxy_captured_refused_total") >= 2);
    // Others are not captured.
    let others = tools::run("curl", &["-sS", "-m", "10", "--noproxy", "*", &elsewhere()[0]]);
    assert_eq!(others.code, Some(0), "{others:?}");
}

/// One proxy for all services of the host: each has its port, and each its users.
fn two_services_of_a_host() {
    let _neighbour = Neighbour::start();
    let cluster =
        Cluster::start_all_with(&json!({}), &json!({ "host_proxy": { "enabled": true } }));
    speaks(&cluster, "web", "http");
    cluster.agent.configure(&json!({ "Kind": "proxy-defaults", "Name": "global",
        "Mode": "transparent" }));
    let apps = ["web", "shop", "bank"].map(App::start);
    let mut uids = Vec::new();
    for (number, app) in apps.iter().enumerate() {
        let (name, port) = (["web", "shop", "bank"][number], free_port());
        let mut service = meshed(name, name, app.port(), &[]);
        service["Connect"]["SidecarService"]["Proxy"] = json!({
            "TransparentProxy": { "OutboundListenerPort": port },
        });
        cluster.agent.register(&service);
        uids.push(format!("{}={port}", 60_000 + number));
    }
    let _proxy = cluster.agent.host_proxy(&[]);
    let by_path =
        |action: &str, path: &str| json!({ "Action": action, "HTTP": { "PathExact": path } });
    cluster.agent.configure(&json!({ "Kind": "service-intentions", "Name": "web", "Sources": [
        { "Name": "shop", "Permissions": [by_path("allow", "/shop")] },
        { "Name": "bank", "Permissions": [by_path("allow", "/bank")] },
    ] }));
    let dns = cluster.agent.dns().to_string();
    let whose = uids.iter().flat_map(|of| ["--uid", of]);
    let apply = ["apply", "--only-virtual", "--dns", &dns].into_iter().chain(whose);
    capture(&apply.collect::<Vec<_>>());
    for (uid, path, wanted) in [
        ("60001", "/shop", 200),
        ("60002", "/bank", 200),
        ("60001", "/bank", 403),
        ("60002", "/shop", 403),
    ] {
        let url = format!("http://web{path}");
        eventually(SPREAD_LIMIT, &format!("{uid} gets {wanted} from {path}"), || {
            match curl_as(uid, &url, &["-4"])? {
                (status, _) if status == wanted => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    // All else goes out as without weft.
    eventually(SPREAD_LIMIT, "the neighbour answers", || {
        curl_as("60001", &elsewhere()[0], &[]).map(drop)
    });
    capture(&["remove"]);
}

fn called_from_outside() {
    let neighbour = Neighbour::start();
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let app = App::start("web-1");
    let mut service = meshed("web-1", "web", app.port(), &[]);
    service["Connect"]["SidecarService"]["Address"] = json!(OWN[0]);
    let port = service["Connect"]["SidecarService"]["Port"].to_string();
    cluster.agent.register(&service);
    let _proxy = cluster.agent.sidecar("web-1");
    let own = OWN[0];
    let call = |to: u16| {
        let url = format!("http://{own}:{to}/");
        neighbour.run(&format!("curl -sS -m 10 --noproxy * {url}"))
    };
    let asked: u16 = 8081;
    let ended = |wanted: &[i32]| {
        eventually(SPREAD_LIMIT, &format!("curl ends with one of {wanted:?}"), || {
            let ran = call(asked);
            if wanted.iter().any(|it| ran.code == Some(*it)) {
                Ok(ran)
            } else {
                Err(format!("{ran:?}"))
            }
        })
    };
    ended(&[7]);
    capture(&["apply", "--backend", "nftables", "--inbound-port", &port]);
    // The sidecar answers there, with nothing but an alert of TLS to who speaks none.
    ended(&[1, 52, 56]);
    cluster.agent.configure(&json!({
        "Kind": "mesh", "AllowEnablingPermissiveMutualTLS": true,
    }));
    cluster.agent.configure(&json!({ "Kind": "service-defaults", "Name": "web",
        "Protocol": "http", "MutualTLSMode": "permissive" }));
    let body = ended(&[0]).stdout;
    assert!(body.contains("\"web-1\""), "{body}");
    capture(&["remove", "--backend", "nftables"]);
    ended(&[7]);
}
