//! The exercises that people do with Bookinfo when they get to know a mesh, each as an entry or two: versions by
//! header, shares, a canary for some users, blue-green, faults; circuit breaking, attempts, rate limits, failover.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, TestProxy, meshed};
use weft_tests::http::read_answer;
use weft_tests::ports::free_port;
use weft_tests::process::{Daemon, weft};
use weft_tests::{Answer, Api, Cluster, eventually};

use crate::story::{Shop, called, who};

/// What the front and what it calls are asked.
const PRODUCT: &str = "/api/v1/products/0";
const REVIEWS: &str = "/reviews/0";

/// The apps of the demo with their sidecars, on one host.
struct Bookinfo {
    cluster: Cluster,
    /// The front, as a user reaches it.
    front: Api,
    /// Where the front's sidecar listens for reviews.
    reviews: Api,
    _apps: Vec<Daemon>,
    _proxies: Vec<TestProxy>,
}

impl Bookinfo {
    fn open() -> Self {
        let cluster = Cluster::start();
        for service in ["details", "productpage", "ratings", "reviews"] {
            cluster.agent.configure(&json!({
                "Kind": "service-defaults", "Name": service, "Protocol": "http",
            }));
        }
        for (source, destination) in
            [("productpage", "details"), ("productpage", "reviews"), ("reviews", "ratings")]
        {
            cluster.agent.intend(source, destination, "allow");
        }
        subsets(&cluster, "v1");
        let (mut apps, mut proxies) = (Vec::new(), Vec::new());
        let mut start = |id: &str, service: &str, version: &str, upstreams: &[(&str, u16)]| {
            let port = free_port();
            let listen = format!("127.0.0.1:{port}");
            let mut command = Command::new(weft());
            command.args(["bookinfo", service, "--listen", &listen, "--instance", id]);
            if service == "reviews" {
                command.args(["--version", version]);
            }
            for (name, port) in upstreams {
                command.args([format!("--{name}"), format!("127.0.0.1:{port}")]);
            }
            let folder = cluster.folder.path();
            apps.push(Daemon::program(&format!("{id}-app"), folder, command));
            let mut registration = meshed(id, service, port, upstreams);
            registration["Meta"] = json!({ "version": version });
            cluster.agent.register(&registration);
            proxies.push(cluster.agent.sidecar(id));
            port
        };
        let reviews = free_port();
        start("details-1", "details", "v1", &[]);
        start("ratings-1", "ratings", "v1", &[]);
        start("reviews-v1", "reviews", "v1", &[]);
        start("reviews-v2", "reviews", "v2", &[("ratings", free_port())]);
        start("reviews-v3", "reviews", "v3", &[("ratings", free_port())]);
        let page = [("details", free_port()), ("reviews", reviews)];
        let front = start("productpage-1", "productpage", "v1", &page);
        let local = |port: u16| Api::new(SocketAddr::from(([127, 0, 0, 1], port)));
        let (front, reviews) = (local(front), local(reviews));
        let mesh = Self { cluster, front, reviews, _apps: apps, _proxies: proxies };
        for (service, count) in [("details", 1), ("ratings", 1), ("reviews", 3)] {
            mesh.cluster.agent.wait_passing(service, count);
        }
        mesh.wait_version(&[], "v1");
        mesh
    }

    fn configure(&self, entry: &Value) {
        self.cluster.agent.configure(entry);
    }

    /// Asks for reviews as the front would, with these headers.
    fn version(&self, headers: &[(&str, &str)]) -> Result<String, String> {
        let answer = self.reviews.request("GET", REVIEWS, headers, "")?.ok()?;
        Ok(answer.json()["version"].as_str().unwrap_or_default().to_owned())
    }

    fn wait_version(&self, headers: &[(&str, &str)], wanted: &str) {
        eventually(SPREAD_LIMIT, &format!("{headers:?} gets {wanted}"), || {
            let found = self.version(headers)?;
            if found == wanted { Ok(()) } else { Err(found) }
        });
    }

    /// Asks the front for the product on behalf of a user; returns what it shows of the reviews, as text.
    fn page(&self, user: &str) -> Result<String, String> {
        let answer = self.front.request("GET", PRODUCT, &[("end-user", user)], "")?.ok()?;
        Ok(answer.json()["reviews"].to_string())
    }

    fn sees(&self, user: &str, part: &str) -> bool {
        self.page(user).expect("the front answers").contains(part)
    }

    fn wait_page(&self, user: &str, part: &str) {
        eventually(SPREAD_LIMIT, &format!("{user} sees {part:?}"), || {
            let page = self.page(user)?;
            if page.contains(part) { Ok(()) } else { Err(page) }
        });
    }
}

/// The versions of reviews, and which one is meant by the name alone.
fn subsets(cluster: &Cluster, default: &str) {
    let of = |version: &str| json!({ "Filter": format!("Service.Meta.version == {version}") });
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "reviews", "DefaultSubset": default,
        "Subsets": { "v1": of("v1"), "v2": of("v2"), "v3": of("v3") },
    }));
}

fn by_header(name: &str, value: &str, subset: &str) -> Value {
    json!({
        "Match": { "HTTP": { "Header": [{ "Name": name, "Exact": value }] } },
        "Destination": { "ServiceSubset": subset },
    })
}

#[test]
fn versions_are_chosen_by_user_share_canary_and_colour() {
    let mesh = Bookinfo::open();
    // Jason alone sees the new version; an exact header, through the front.
    let route = |routes: Value| {
        mesh.configure(&json!({
            "Kind": "service-router", "Name": "reviews", "Routes": routes,
        }));
    };
    route(json!([by_header("end-user", "jason", "v2")]));
    mesh.wait_version(&[("end-user", "jason")], "v2");
    mesh.wait_page("jason", "black");
    for _ in 0..20 {
        assert!(mesh.sees("jason", "black"));
        assert!(!mesh.sees("mary", "stars"));
    }
    // A canary for whoever asks for it.
    route(json!([by_header("canary-user", "true", "v2")]));
    mesh.wait_version(&[("canary-user", "true")], "v2");
    for _ in 0..20 {
        assert_eq!(mesh.version(&[("canary-user", "true")]), Ok("v2".to_owned()));
        assert_eq!(mesh.version(&[("canary-user", "True")]), Ok("v1".to_owned()));
        assert_eq!(mesh.version(&[]), Ok("v1".to_owned()));
    }
    route(json!([]));
    // Nine in ten to the old version, one in ten to the new one.
    mesh.configure(&json!({
        "Kind": "service-splitter", "Name": "reviews",
        "Splits": [{ "Weight": 90, "ServiceSubset": "v1" }, { "Weight": 10, "ServiceSubset": "v2" }],
    }));
    mesh.wait_version(&[], "v2");
    let asked = 1_000;
    let new = (0..asked).filter(|_| mesh.version(&[]).as_deref() == Ok("v2")).count();
    // Five standard deviations of a hundred.
    assert!((53..=147).contains(&new), "{new} of {asked}");
    // Blue-green: all at once, and back, in one write each.
    let gone =
        mesh.cluster.agent.api().request("DELETE", "/v1/config/service-splitter/reviews", &[], "");
    gone.and_then(Answer::ok).expect("it is deleted");
    mesh.wait_version(&[], "v1");
    for colour in ["v3", "v1"] {
        subsets(&mesh.cluster, colour);
        mesh.wait_version(&[], colour);
        for _ in 0..50 {
            assert_eq!(mesh.version(&[]), Ok(colour.to_owned()));
        }
    }
}

#[test]
fn faults_meet_the_user_they_are_meant_for() {
    let mesh = Bookinfo::open();
    subsets(&mesh.cluster, "v3");
    mesh.wait_page("mary", "red");
    let fault = |fault: Value| {
        let jason = json!({ "HTTP": { "Header": [{ "Name": "end-user", "Exact": "jason" }] } });
        mesh.configure(&json!({
            "Kind": "service-router", "Name": "ratings",
            "Routes": [{ "Match": jason, "Destination": { "Fault": fault } }],
        }));
    };
    fault(json!({ "Abort": { "Status": 500 } }));
    mesh.wait_page("jason", "error");
    assert!(mesh.sees("mary", "red"), "nobody else is meant");
    // A delay is longer than the time that ratings has for an answer: jason waits no longer than that.
    mesh.configure(&json!({
        "Kind": "service-router", "Name": "ratings",
        "Routes": [{
            "Match": { "HTTP": { "Header": [{ "Name": "end-user", "Exact": "jason" }] } },
            "Destination": { "RequestTimeout": "50ms", "Fault": { "Delay": { "Fixed": "10m" } } },
        }],
    }));
    mesh.wait_page("jason", "504");
    fault(json!({ "Delay": { "Fixed": "1ms" } }));
    mesh.wait_page("jason", "red");
}

/// A request that is under way until its body is sent.
fn held(door: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(door).expect("the door is open");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit that is not zero");
    let head = b"POST /held HTTP/1.1\r\nhost: reviews\r\ncontent-length: 2\r\n\r\n1";
    stream.write_all(head).expect("the head is taken");
    stream
}

#[test]
fn the_circuit_breaks_at_the_numbers_of_the_exercise() {
    let cluster = Cluster::start();
    cluster.agent.configure(&json!({
        "Kind": "service-defaults", "Name": "reviews", "Protocol": "http",
    }));
    cluster.agent.configure(&json!({
        "Kind": "service-defaults", "Name": "shop", "Protocol": "http",
        "UpstreamConfig": { "Overrides": [{
            "Name": "reviews", "ConnectTimeoutMs": 60_000,
            "Limits": { "MaxConnections": 10, "MaxPendingRequests": 10 },
            "PassiveHealthCheck": {
                "MaxFailures": 3, "Interval": "30s", "BaseEjectionTime": "30s", "MaxEjectionPercent": 50,
            },
        }] },
    }));
    cluster.agent.intend("shop", "reviews", "allow");
    let _one = called(&cluster, "reviews-1", "reviews", "v1");
    let shop = Shop::open(&cluster, &["reviews"]);
    shop.wait_status("reviews", 200);
    let door = shop.to("reviews");
    let shown = |limit: &str| {
        let clusters = shop.proxy.admin().get("/clusters").expect("an answer").json();
        clusters["upstreams"][0]["targets"][0]["limits"][limit]["now"].clone()
    };
    // Ten under way and ten that wait; the next is one too many, and the first that ends makes room.
    let all: Vec<TcpStream> = (0..20).map(|_| held(door.addr())).collect();
    eventually(SPREAD_LIMIT, "ten under way, ten waiting", || {
        let found = (shown("connections"), shown("pending_requests"));
        if found == (json!(10), json!(10)) { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let refused = door.get("/").expect("an answer");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.header("x-weft-cause"), Some("upstream-pending-limit"), "{refused:?}");
    assert_eq!(refused.header("x-envoy-overloaded"), Some("true"), "{refused:?}");
    // Those that wait get their turn only as others end, in whatever order.
    for mut stream in &all {
        stream.write_all(b"2").expect("the rest is taken");
    }
    for stream in all {
        let answer = read_answer(&mut BufReader::new(stream)).expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    shop.wait_status("reviews", 200);
}

#[test]
fn attempts_limits_and_another_place_keep_the_page_up() {
    let cluster = Cluster::start();
    for service in ["reviews", "shop"] {
        cluster.agent.configure(&json!({
            "Kind": "service-defaults", "Name": service, "Protocol": "http",
        }));
    }
    cluster.agent.intend("shop", "reviews", "allow");
    let blue = called(&cluster, "reviews-v1", "reviews", "v1");
    let _green = called(&cluster, "reviews-v2", "reviews", "v2");
    let of = |version: &str| json!({ "Filter": format!("Service.Meta.version == {version}") });
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "reviews", "DefaultSubset": "v1",
        "Subsets": { "v1": of("v1"), "v2": of("v2") },
        "Failover": { "v1": { "ServiceSubset": "v2" } },
    }));
    cluster.agent.configure(&json!({
        "Kind": "service-router", "Name": "reviews",
        "Routes": [{ "Destination": {
            "NumRetries": 3, "RetryOnStatusCodes": [503], "PerTryTimeout": "20s",
        } }],
    }));
    let shop = Shop::open(&cluster, &["reviews"]);
    let door = shop.to("reviews");
    let by = |wanted: &str| {
        eventually(SPREAD_LIMIT, &format!("{wanted} answers"), || {
            let found = who(&door.get("/")?.ok()?);
            if found == wanted { Ok(()) } else { Err(found) }
        });
    };
    by("reviews-v1");
    // What answers 503 is asked again, three times, and then its answer is what the caller gets.
    let before = blue.app.requests_except("/status/200");
    assert_eq!(door.get("/status/503").expect("an answer").status, 503);
    assert_eq!(blue.app.requests_except("/status/200") - before, 4);
    // Where v1 is gone, v2 stands in.
    drop(blue);
    by("reviews-v2");

    // Ten requests in sixty seconds, at the service.
    cluster.agent.configure(&json!({
        "Kind": "service-defaults", "Name": "reviews", "Protocol": "http",
        "RateLimits": { "Buckets": [{
            "Name": "page", "MaxTokens": 10, "TokensPerFill": 10, "FillInterval": "60s",
            "Match": { "PathPrefix": "/page" },
        }] },
    }));
    let mut let_in = 0;
    eventually(SPREAD_LIMIT, "the limit is in force", || match door.get("/page")?.status {
        429 => Ok(()),
        _ => {
            let_in += 1;
            Err(format!("{let_in} were let in"))
        }
    });
    let refused = door.get("/page").expect("an answer");
    assert_eq!(
        (refused.status, refused.header("x-ratelimit-limit")),
        (429, Some("10")),
        "{refused:?}"
    );
    assert!(let_in >= 10, "{let_in}");
    assert_eq!(door.get("/").expect("an answer").status, 200, "other paths are not meant");
}
