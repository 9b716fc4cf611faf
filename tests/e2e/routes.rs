//! What routes and legs do with a request on its way, told by the service that gets it and by the
//! caller that gets the answer.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::{Answer, Api, Cluster, eventually, tools};

use crate::story::{Called, Shop, called, speaks, who};

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
        self.wait_with((path, &[]), wanted, is_so)
    }

    /// As `wait`, of a call with headers. Each thread of a proxy takes new routes when it comes to them.
    fn wait_with(
        &self,
        (path, headers): (&str, &[(&str, &str)]),
        wanted: &str,
        is_so: impl Fn(&Answer) -> bool,
    ) -> Answer {
        let door = self.door();
        eventually(SPREAD_LIMIT, wanted, || {
            let answer = door.request("GET", path, headers, "")?;
            if is_so(&answer) { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
    }

    /// Asks over HTTP/2 until the answer has all these parts.
    fn wait_http2(&self, path: &str, args: &[&str], parts: &[&str]) {
        eventually(SPREAD_LIMIT, "an answer over HTTP/2", || {
            let seen = self.over_http2(path, args);
            let is_so = parts.iter().all(|part| seen.contains(part));
            if is_so { Ok(()) } else { Err(format!("{parts:?}: {seen}")) }
        });
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

#[test]
fn routes_answer_by_themselves_and_rewrite_what_is_asked_for() {
    let road = Road::open();
    road.routes(json!([
        { "Match": { "HTTP": { "PathPrefix": "/old/" } },
          "Destination": { "Redirect": { "Scheme": "https", "Host": "shop.example",
              "PrefixRewrite": "/new/", "Code": 308 } } },
        { "Match": { "HTTP": { "PathExact": "/closed" } },
          "Destination": {
              "Response": { "Status": 410, "Body": "{\"closed\":true}",
                  "ContentType": "application/json" },
              "ResponseHeaders": { "Set": { "cache-control": "no-store" } } } },
        { "Match": { "HTTP": { "PathPrefix": "/users/" } },
          "Destination": {
              "HostRewrite": "people.example:81",
              "PathRewrite": { "Regex": "^/users/([0-9]+)", "Substitution": "/u/\\1/of" } } },
    ]));
    let closed = road.wait("/closed", "the routes are in force", |answer| answer.status == 410);
    assert_eq!(closed.body, "{\"closed\":true}");
    assert_eq!(closed.header("content-type"), Some("application/json"));
    assert_eq!(closed.header("cache-control"), Some("no-store"));
    assert_eq!(closed.header("x-weft-cause"), Some("direct-response"));
    let sent = road.wait("/old/shoes?size=7", "a redirect", |answer| answer.status == 308);
    assert_eq!(sent.header("location"), Some("https://shop.example/new/shoes?size=7"));
    let moved = road.wait("/users/7/orders?open", "another path", |answer| {
        answer.json()["path"] == "/u/7/of/orders?open"
    });
    assert_eq!(got(&moved, "host").as_deref(), Some("people.example:81"));

    if tools::have("routes_answer_by_themselves_and_rewrite_what_is_asked_for", &["curl"]) {
        let location = "location: https://shop.example/new/shoes\r\n";
        road.wait_http2("/old/shoes", &[], &["HTTP/2 308", location]);
        let parts = [r#""path":"/u/7/of""#, r#""host":"people.example:81""#];
        road.wait_http2("/users/7", &[], &parts);
    }
    let metrics = road.shop.proxy.admin().get("/metrics").expect("metrics").body;
    assert!(!metrics.contains("cause=\"redirect\""), "a redirect is no failure: {metrics}");
    for action in ["redirect", "direct-response"] {
        assert!(metrics.contains(&format!("action=\"{action}\"")), "{action}: {metrics}");
    }
}

#[test]
fn routes_tell_requests_apart_by_more_than_their_path() {
    let road = Road::open();
    let tells = |word: &str| json!({ "Response": { "Status": 200, "Body": word } });
    road.routes(json!([
        { "Match": { "HTTP": { "Sources": ["other"] } }, "Destination": tells("source") },
        { "Match": { "HTTP": { "PathTemplate": "/orders/{id}/items" } },
          "Destination": tells("template") },
        { "Match": { "HTTP": { "Host": ["*.api.example"], "Sources": ["shop"] } },
          "Destination": tells("host") },
        { "Match": { "HTTP": { "Cookie": [{ "Name": "beta", "Exact": "yes" }] } },
          "Destination": tells("cookie") },
        { "Match": { "HTTP": { "Grpc": { "Service": "s.Orders" } } },
          "Destination": tells("grpc") },
    ]));
    road.wait("/orders/7/items", "the routes are in force", |answer| answer.body == "template");
    for (path, headers, want) in [
        ("/x", &[("host", "v1.api.example:80")][..], "host"),
        ("/x", &[("cookie", "alpha=no; beta=yes")], "cookie"),
        ("/s.Orders/Get", &[("content-type", "application/grpc")], "grpc"),
    ] {
        road.wait_with((path, headers), want, |answer| answer.body == want);
    }
    let answer = road.door().get("/s.Orders/Get").expect("an answer");
    assert_eq!(answer.json()["path"], "/s.Orders/Get", "this is no gRPC");
    if tools::have("routes_tell_requests_apart_by_more_than_their_path", &["curl"]) {
        for (args, want) in [
            (["-H", "host: v1.api.example"], "host"),
            (["-H", "cookie: alpha=no; beta=yes"], "cookie"),
        ] {
            road.wait_http2("/x", &args, &["HTTP/2 200", &format!("\r\n\r\n{want}")]);
        }
    }
}

#[test]
fn faults_hit_the_requests_that_they_are_for() {
    let road = Road::open();
    let chaos =
        |kind: &str| json!({ "HTTP": { "Header": [{ "Name": "x-chaos", "Exact": kind }] } });
    road.routes(json!([
        { "Match": chaos("abort"), "Destination": { "Fault": { "Abort": { "Status": 418 } } } },
        { "Match": chaos("grpc"), "Destination": { "Fault": { "Abort": { "GrpcStatus": 8 } } } },
        { "Match": chaos("never"),
          "Destination": { "Fault": { "Abort": { "Status": 418, "Percent": 0 } } } },
        { "Match": chaos("late"), "Destination": { "RequestTimeout": "200ms",
            "Fault": { "Delay": { "Fixed": "10m" } } } },
        { "Match": chaos("slow"), "Destination": { "Fault": { "Delay": { "Fixed": "1ms" } } } },
        { "Match": chaos("thin"),
          "Destination": { "Fault": { "RateLimit": { "BytesPerSecond": 5_000 } } } },
    ]));
    road.wait_with(("/", &[("x-chaos", "abort")]), "a fault", |answer| answer.status == 418);
    for (kind, status, cause) in [
        ("abort", 418, Some("fault-injected")),
        ("grpc", 429, Some("fault-injected")),
        ("never", 200, None),
        ("late", 504, Some("request-timeout")),
        ("slow", 200, None),
        ("thin", 200, None),
    ] {
        road.wait_with(("/", &[("x-chaos", kind)]), kind, |answer| {
            (answer.status, answer.header("x-weft-cause")) == (status, cause)
        });
    }
    if tools::have("faults_hit_the_requests_that_they_are_for", &["curl"]) {
        road.wait_http2("/", &["-H", "x-chaos: abort"], &["HTTP/2 418"]);
        road.wait_http2("/", &["-H", "x-chaos: slow"], &["HTTP/2 200"]);
        road.wait_http2("/", &["-H", "x-chaos: thin"], &["HTTP/2 200", r#""app":"web-1""#]);
        let grpc = ["-H", "x-chaos: grpc", "-H", "content-type: application/grpc"];
        road.wait_http2("/", &grpc, &["grpc-status: 8"]);
    }
    let metrics = road.shop.proxy.admin().get("/metrics").expect("metrics").body;
    for counted in ["cause=\"fault-injected\"", "action=\"fault-delayed\""] {
        assert!(metrics.contains(counted), "{counted}: {metrics}");
    }
    eventually(SPREAD_LIMIT, "an answer comes slowly, and whole", || {
        let answer = road.door().request("GET", "/", &[("x-chaos", "thin")], "")?;
        assert_eq!(answer.json()["app"], "web-1");
        let metrics = road.shop.proxy.admin().get("/metrics")?.body;
        let is_so = metrics.contains("action=\"fault-rate-limited\"");
        if is_so { Ok(()) } else { Err(metrics) }
    });
}

#[test]
fn who_is_known_takes_the_same_leg_again() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let _v1 = called(&cluster, "web-1", "web", "v1");
    let _v2 = called(&cluster, "web-2", "web", "v2");
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "web",
        "Subsets": {
            "v1": { "Filter": "Service.Meta.version == v1" },
            "v2": { "Filter": "Service.Meta.version == v2" },
        },
    }));
    cluster.agent.configure(&json!({
        "Kind": "service-splitter", "Name": "web",
        "Splits": [{ "Weight": 50, "ServiceSubset": "v1" }, { "Weight": 50, "ServiceSubset": "v2" }],
        "Sticky": { "Cookie": { "Name": "leg", "TTL": "1h" } },
    }));
    cluster.agent.intend("shop", "web", "allow");
    cluster.agent.wait_passing("web", 2);
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    // Each worker takes new routes by itself, and any of them may answer.
    eventually(SPREAD_LIMIT, "every worker gives a cookie", || {
        let all = (0..20).map(|_| door.get("/")).collect::<Result<Vec<_>, _>>()?;
        let without = all.iter().find(|answer| answer.header("set-cookie").is_none());
        without.map_or(Ok(()), |answer| Err(format!("{answer:?}")))
    });
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        let first = door.get("/").expect("an answer");
        let given = first.header("set-cookie").expect("a cookie");
        let (cookie, rest) = given.split_once(';').expect("attributes");
        assert_eq!(rest, " Path=/; Max-Age=3600; HttpOnly");
        seen.insert(who(&first));
        for _ in 0..3 {
            let again = door.request("GET", "/", &[("cookie", cookie)], "").expect("an answer");
            assert_eq!(who(&again), who(&first), "{cookie}");
            assert_eq!(again.header("set-cookie"), None);
        }
    }
    // That 40 draws all take one leg happens once in 10^11 times.
    assert_eq!(seen.len(), 2, "{seen:?}");
    if tools::have("who_is_known_takes_the_same_leg_again", &["curl"]) {
        let url = format!("http://{}/", door.addr());
        let args = ["-sS", "-i", "--http2-prior-knowledge", "-m", "20", &url];
        let seen = tools::run("curl", &args).ok().expect("curl gets an answer");
        assert!(seen.contains("set-cookie: leg="), "{seen}");
    }
}

#[test]
fn a_caller_that_is_given_a_cookie_stays_with_its_instance() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let _first = called(&cluster, "web-1", "web", "v1");
    let _second = called(&cluster, "web-2", "web", "v1");
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "web",
        "LoadBalancer": { "Policy": "maglev", "HashPolicies": [
            { "Field": "cookie", "FieldValue": "at", "CookieConfig": { "TTL": "1m", "Path": "/" } },
        ] },
    }));
    cluster.agent.intend("shop", "web", "allow");
    cluster.agent.wait_passing("web", 2);
    let shop = Shop::open(&cluster, &["web"]);
    shop.wait_status("web", 200);
    let door = shop.to("web");
    let mut seen = BTreeSet::new();
    eventually(SPREAD_LIMIT, "both instances are taken", || {
        let first = door.get("/")?;
        let given = first.header("set-cookie").ok_or("no cookie")?.to_owned();
        let (cookie, rest) = given.split_once(';').ok_or("no attributes")?;
        assert_eq!(rest, " Path=/; Max-Age=60; HttpOnly");
        for _ in 0..3 {
            let again = door.request("GET", "/", &[("cookie", cookie)], "")?;
            if again.header("set-cookie").is_some() || who(&again) != who(&first) {
                return Err(format!("{cookie}: {first:?} {again:?}"));
            }
        }
        seen.insert(who(&first));
        if seen.len() == 2 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}
