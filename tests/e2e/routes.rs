//! What routes and legs do with a request on its way, told by the service that gets it and by the
//! caller that gets the answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::{Answer, Api, Cluster, eventually, tools};

use crate::story::{Called, Shop, called, speaks};

/// A cluster in which `shop` calls `web`, whose answers tell what it was asked.
struct Road {
    cluster: Cluster,
    shop: Shop,
    _web: Called,
}

impl Road {
    fn open() -> Self {
        let cluster = Cluster::start();
        speaks(&cluster, "web", "http");
        let web = called(&cluster, "web-1", "web", "v1");
        cluster.agent.intend("shop", "web", "allow");
        cluster.agent.wait_passing("web", 1);
        let shop = Shop::open(&cluster, &["web"]);
        shop.wait_status("web", 200);
        Self { cluster, shop, _web: web }
    }

    fn door(&self) -> Api {
        self.shop.to("web")
    }

    /// Writes the routes of `web`.
    fn routes(&self, routes: Value) {
        let entry = json!({ "Kind": "service-router", "Name": "web", "Routes": routes });
        self.cluster.agent.configure(&entry);
    }

    /// Waits until a call is answered as it should be; returns the answer.
    fn wait(&self, path: &str, wanted: &str, is_so: impl Fn(&Answer) -> bool) -> Answer {
        let door = self.door();
        eventually(SPREAD_LIMIT, wanted, || {
            let answer = door.get(path)?;
            if is_so(&answer) { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
    }

    /// Asks over HTTP/2; returns the head and the body of the answer as curl shows them.
    fn over_http2(&self, path: &str, args: &[&str]) -> String {
        let url = format!("http://{}{path}", self.door().addr());
        let all = ["-sS", "-i", "--http2-prior-knowledge", "-m", "20"];
        let all = [&all, args, &[url.as_str()]].concat();
        tools::run("curl", &all).ok().expect("curl gets an answer")
    }
}

/// What the service says that it got under a name.
fn got(answer: &Answer, name: &str) -> Option<String> {
    let told: Value = serde_json::from_str(&answer.body).ok()?;
    told["headers"][name].as_str().map(str::to_owned)
}

#[test]
fn routes_and_legs_change_headers_both_ways() {
    let road = Road::open();
    road.cluster.agent.configure(&json!({
        "Kind": "service-splitter", "Name": "web",
        "Splits": [{ "Weight": 100,
            "RequestHeaders": { "Set": { "x-two": "leg" } },
            "ResponseHeaders": { "Set": { "x-leg": "yes" } } }],
    }));
    road.routes(json!([{
        "Match": { "HTTP": { "PathPrefix": "/changed" } },
        "Destination": {
            "RequestHeaders": {
                "Set": { "X-One": "route", "x-two": "route",
                    "x-from": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %REQ(x-user)%" },
                "Add": { "x-none": "%REQ(x-absent)%" },
                "Remove": ["X-Gone"],
            },
            "ResponseHeaders": { "Add": { "X-Route": "%ROUTE_NAME%" }, "Remove": ["content-type"] },
        },
    }]));
    road.wait("/changed", "the route is in force", |answer| {
        answer.header("x-route") == Some("web#1") && answer.header("x-leg") == Some("yes")
    });
    let mine = [("x-one", "mine"), ("x-gone", "mine"), ("x-user", "ada"), ("x-kept", "mine")];
    let answer = road.door().request("GET", "/changed", &mine, "").expect("an answer");
    for (name, want) in [
        ("x-one", Some("route")),
        ("x-two", Some("leg")),
        ("x-from", Some("127.0.0.1 ada")),
        ("x-none", None),
        ("x-gone", None),
        ("x-kept", Some("mine")),
    ] {
        assert_eq!(got(&answer, name).as_deref(), want, "{name}: {}", answer.body);
    }
    let other = road.door().request("GET", "/other", &mine, "").expect("an answer");
    assert_eq!(got(&other, "x-one").as_deref(), Some("mine"));
    assert_eq!(got(&other, "x-two").as_deref(), Some("leg"), "the leg is every route's");
    assert_eq!((other.header("x-route"), other.header("x-leg")), (None, Some("yes")));

    if tools::have("routes_and_legs_change_headers_both_ways", &["curl"]) {
        let seen = road.over_http2("/changed", &["-H", "x-one: mine", "-H", "x-gone: mine"]);
        for part in ["x-route: web#1", "x-leg: yes", r#""x-one":"route""#, r#""x-two":"leg""#] {
            assert!(seen.contains(part), "{part}: {seen}");
        }
        assert!(!seen.contains("x-gone"), "{seen}");
    }
}

/// Takes one connection after the other, reads what comes and says what it is told to, no more.
fn stuck(says: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                    line.clear();
                }
                let _ = (&stream).write_all(says.as_bytes());
                let _ = reader.read_to_end(&mut Vec::new());
            });
        }
    });
    port
}

#[test]
fn a_request_on_which_nothing_moves_is_ended_by_its_route() {
    let cluster = Cluster::start();
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    let mut sidecars = Vec::new();
    for (name, says) in [("mute", ""), ("half", half)] {
        speaks(&cluster, name, "http");
        cluster.agent.register(&meshed(name, name, stuck(says), &[]));
        cluster.agent.intend("shop", name, "allow");
        cluster.agent.configure(&json!({
            "Kind": "service-router", "Name": name,
            "Routes": [{ "Destination": { "RequestTimeout": "10m", "IdleTimeout": "500ms" } }],
        }));
        sidecars.push(cluster.agent.sidecar(name));
        cluster.agent.wait_passing(name, 1);
    }
    let shop = Shop::open(&cluster, &["mute", "half"]);
    shop.wait_status("mute", 504);
    let answer = shop.to("mute").get("/").expect("an answer");
    assert_eq!(answer.header("x-weft-cause"), Some("idle-timeout"), "{answer:?}");
    let counted = |target: &str| {
        let count = format!("target=\"{target}.default.default.dc1\",cause=\"idle-timeout\"");
        let metrics = shop.proxy.admin().get("/metrics").expect("metrics").body;
        metrics.contains(&count)
    };
    assert!(counted("mute") && !counted("half"));
    eventually(SPREAD_LIMIT, "an answer that stands still is cut", || {
        let cut = shop.to("half").get("/");
        if cut.is_err() && counted("half") { Ok(()) } else { Err(format!("{cut:?}")) }
    });
    if tools::have("a_request_on_which_nothing_moves_is_ended_by_its_route", &["curl"]) {
        let url = |name: &str| format!("http://{}/", shop.to(name).addr());
        let args = ["-sS", "-i", "--http2-prior-knowledge", "-m", "60"];
        let mute = tools::run("curl", &[&args[..], &[&url("mute")]].concat()).ok();
        let mute = mute.expect("curl gets an answer");
        assert!(mute.contains("HTTP/2 504") && mute.contains("idle-timeout"), "{mute}");
        let half = tools::run("curl", &[&args[..], &[&url("half")]].concat());
        assert!(half.ok().is_err(), "an answer that stands still is cut");
    }
}
