//! One process for several services: each with its own identity, listeners and policy; what happens
//! to one does nothing to the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::pair::{App, LIMIT, Raw, eventually, free, get, localhost};
use crate::support::{Mesh, Upstream};
use tokio::sync::watch;
use weft_core::config_entry::{AccessLogType, AccessLogs, Protocol};
use weft_core::name::InstanceId;
use weft_core::proxycfg::ProxySnapshot;
use weft_proxy::config::{Config, Sharing, SnapshotSource, Snapshots, Workers};
use weft_proxy::{HandOver, Limits, Proxy, ProxyHandle};
use weft_runtime::net;
use weft_runtime::task::TaskTree;

/// A host proxy whose services the test changes.
struct Host {
    handle: ProxyHandle,
    services: watch::Sender<Snapshots>,
    tasks: TaskTree,
}

impl Host {
    async fn start(all: &[&ProxySnapshot], hand_over: Option<HandOver>) -> Self {
        let all: Snapshots = all.iter().map(|it| named((*it).clone())).collect();
        let (services, given) = watch::channel(all);
        let config = Config {
            source: SnapshotSource::GivenMany(given),
            admin_addr: localhost(0),
            workers: Workers { count: 2, reason: "as the test says" },
            start_limit: LIMIT,
            drain_limit: Duration::from_secs(5),
            drain_delay: Duration::ZERO,
            hand_over,
            limits: Limits::default(),
            access_log: None,
            mux: Sharing::Auto,
            quic: Sharing::Auto,
            audit: None,
            metric_dialects: Default::default(),
        };
        let tasks = TaskTree::root("host");
        let mut handle = Proxy::start(config, tasks.clone()).await.expect("a proxy");
        handle.ready().await.expect("a proxy in service");
        Self { handle, services, tasks }
    }

    fn put(&self, snapshot: ProxySnapshot) {
        self.services.send_modify(|all| all.extend([named(snapshot)]));
    }

    fn remove(&self, snapshot: &ProxySnapshot) {
        self.services.send_modify(|all| drop(all.remove(&snapshot.proxy_id)));
    }

    async fn admin(&self, path: &str) -> String {
        get(&format!("http://{}{path}", self.handle.admin_addr())).await.text()
    }

    /// Waits until the list of workloads holds this text.
    async fn shows(&self, text: &str) {
        eventually(|| async { self.admin("/workloads").await.contains(text) }).await;
    }
}

fn named(snapshot: ProxySnapshot) -> (InstanceId, Arc<ProxySnapshot>) {
    (snapshot.proxy_id.clone(), Arc::new(snapshot))
}

/// A service that calls another.
async fn caller(mesh: &Mesh, (name, app): (&str, &App), to: (&'static str, SocketAddr)) -> Caller {
    let call = free().await;
    let upstream = Upstream::of(to.0, (call, Protocol::Http), vec![to.1]);
    let door = (free().await, app.address);
    Caller { call, snapshot: mesh.snapshot(name, door, Protocol::Http, &[upstream]) }
}

struct Caller {
    call: SocketAddr,
    snapshot: ProxySnapshot,
}

impl Caller {
    async fn status(&self) -> u16 {
        get(&format!("http://{}/", self.call)).await.status.as_u16()
    }

    /// Whom the called service sees.
    async fn seen(&self) -> String {
        get(&format!("http://{}/", self.call)).await.text()
    }
}

/// web, called by shop and by bank, all of one host.
struct Three {
    web: ProxySnapshot,
    shop: Caller,
    bank: Caller,
    mesh: Mesh,
    app: App,
}

impl Three {
    async fn make() -> Self {
        let (mesh, app) = (Mesh::new("test.mesh"), App::start("web").await);
        let door = free().await;
        let web = mesh.snapshot("web", (door, app.address), Protocol::Http, &[]);
        let shop = caller(&mesh, ("shop", &app), ("web", door)).await;
        let bank = caller(&mesh, ("bank", &app), ("web", door)).await;
        Self { web, shop, bank, mesh, app }
    }

    fn all(&self) -> [&ProxySnapshot; 3] {
        [&self.web, &self.shop.snapshot, &self.bank.snapshot]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_service_calls_under_its_own_name_over_connections_of_its_own() {
    let three = Three::make().await;
    let host = Host::start(&three.all(), None).await;
    // Kept connections are there for both after the first calls; none is used for the other.
    for _ in 0..20 {
        for (caller, own, other) in [(&three.shop, "shop", "bank"), (&three.bank, "bank", "shop")] {
            let seen = caller.seen().await;
            assert!(seen.contains(&format!("/svc/{own}")), "{own}: {seen}");
            assert!(!seen.contains(&format!("/svc/{other}")), "{own}: {seen}");
        }
    }
    let metrics = host.admin("/metrics").await;
    for own in ["shop", "bank"] {
        let proxy = if own == "shop" { &three.shop } else { &three.bank }.snapshot.proxy_id.clone();
        let start = format!(
            "weft_proxy_requests_total{{direction=\"outbound\",proxy=\"{proxy}\",\
             service=\"{own}\",upstream=\"web\""
        );
        let line = metrics.lines().find(|line| line.starts_with(&start));
        assert!(line.is_some_and(|line| line.ends_with(" 20")), "{line:?} of {metrics}");
        // Both have opened a connection to web's door.
        let opened = format!(
            "weft_proxy_mux_connections_opened_total{{proxy=\"{proxy}\",direction=\"outbound\"}} "
        );
        let opened = metrics.lines().find_map(|line| line.strip_prefix(&opened)).expect("a count");
        assert!(opened.parse::<u32>().expect("a number") >= 1, "{metrics}");
    }
    host.tasks.cancel();
}

/// Has a service write down the number of each request's connection.
fn numbered(snapshot: &mut ProxySnapshot, folder: &Path) {
    let logs = AccessLogs {
        enabled: true,
        kind: AccessLogType::File,
        path: folder.join(snapshot.service.as_str()).to_str().expect("text").to_owned(),
        text_format: "%CONNECTION_ID%\n".to_owned(),
        ..AccessLogs::default()
    };
    snapshot.access_logs = Some(Box::new(logs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_services_of_one_host_give_connections_the_same_number() {
    const CALLS: usize = 16;
    let (mut three, folder) = (Three::make().await, tempfile::tempdir().expect("a folder"));
    for snapshot in [&mut three.web, &mut three.shop.snapshot, &mut three.bank.snapshot] {
        numbered(snapshot, folder.path());
    }
    let host = Host::start(&three.all(), None).await;
    for _ in 0..CALLS {
        assert_eq!((three.shop.status().await, three.bank.status().await), (200, 200));
    }
    let mut seen = BTreeSet::new();
    for (service, calls) in [("web", 2 * CALLS), ("shop", CALLS), ("bank", CALLS)] {
        let read = || std::fs::read_to_string(folder.path().join(service)).unwrap_or_default();
        eventually(|| async { read().lines().count() == calls }).await;
        // One connection may carry many requests.
        let own: BTreeSet<u64> =
            read().lines().map(|line| line.parse().expect("a number")).collect();
        assert!(seen.is_disjoint(&own), "{service}: {own:?} of {seen:?}");
        seen.extend(own);
    }
    host.tasks.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_judges_the_callers_of_one_host_apart() {
    let mut three = Three::make().await;
    let host = Host::start(&three.all(), None).await;
    assert_eq!((three.shop.status().await, three.bank.status().await), (200, 200));
    three.web.inbound.intentions = serde_json::from_value(serde_json::json!({
        "default_action": "allow",
        "intentions": [{
            "source": "shop", "destination": "web", "action": "deny", "precedence": 9,
        }],
    }))
    .expect("a set");
    three.web.version += 1;
    host.put(three.web.clone());
    eventually(|| async { three.shop.status().await == 403 }).await;
    for _ in 0..8 {
        assert_eq!((three.shop.status().await, three.bank.status().await), (403, 200));
    }
    host.tasks.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_come_and_go_and_the_others_do_not_notice() {
    let three = Three::make().await;
    let host = Host::start(&[&three.web, &three.shop.snapshot], None).await;
    // One connection of another service lives through all of it.
    let mut kept = Raw::connect(three.shop.call).await;
    let ask = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
    for round in 0..5 {
        host.put(three.bank.snapshot.clone());
        host.shows("\"service\": \"bank\"").await;
        eventually(|| async { net::connect_tcp(three.bank.call, LIMIT).await.is_ok() }).await;
        assert_eq!(three.bank.status().await, 200, "round {round}");
        kept.send(ask).await;
        assert!(kept.until("\r\n\r\n{").await.contains("200 OK"));
        host.remove(&three.bank.snapshot);
        eventually(|| async { net::connect_tcp(three.bank.call, LIMIT).await.is_err() }).await;
        assert!(!host.admin("/workloads").await.contains("\"service\": \"bank\""));
    }
    // It counts no more once its last connection has ended.
    let id = three.bank.snapshot.proxy_id.as_str();
    eventually(|| async { !host.admin("/metrics").await.contains(id) }).await;
    host.tasks.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_goes_has_its_requests_end() {
    let three = Three::make().await;
    let host = Host::start(&three.all(), None).await;
    let mut under_way = Raw::connect(three.bank.call).await;
    under_way.send("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 6\r\n\r\nabc").await;
    // The application has its head, so no queue of a listener holds the connection any more.
    eventually(|| async { three.app.count() == 1 }).await;
    host.remove(&three.bank.snapshot);
    eventually(|| async { net::connect_tcp(three.bank.call, LIMIT).await.is_err() }).await;
    under_way.send("def").await;
    let answer = under_way.rest().await;
    assert!(answer.contains("200 OK") && answer.contains("connection: close"), "{answer}");
    assert_eq!(three.shop.status().await, 200);
    host.tasks.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_configuration_and_one_taken_port_are_the_affair_of_one_service() {
    let three = Three::make().await;
    let mut bad = three.bank.snapshot.clone();
    bad.leaf = three.shop.snapshot.leaf.clone();
    // A listener that another service of the same process has.
    let mut taken =
        caller(&three.mesh, ("desk", &three.app), ("web", three.web.inbound.bind)).await;
    taken.snapshot.upstreams[0].bind = three.shop.call.into();
    let host = Host::start(&[&three.web, &three.shop.snapshot], None).await;
    host.put(bad);
    host.put(taken.snapshot.clone());
    host.shows("but the snapshot speaks for").await;
    host.shows("\"missing_listeners\": [\n").await;
    assert!(host.admin("/ready").await.contains("ready"));
    for _ in 0..20 {
        let seen = three.shop.seen().await;
        assert!(seen.contains("/svc/shop"), "it is not the other's door: {seen}");
    }
    // A good one after it counts.
    let mut good = three.bank.snapshot.clone();
    good.version += 1;
    host.put(good);
    eventually(|| async { net::connect_tcp(three.bank.call, LIMIT).await.is_ok() }).await;
    assert_eq!(three.bank.status().await, 200);
    // The port is free once its owner has gone, and then that of who waits.
    host.remove(&three.shop.snapshot);
    eventually(|| async { !host.admin("/workloads").await.contains("Address already in use") })
        .await;
    eventually(|| async { net::connect_tcp(three.shop.call, LIMIT).await.is_ok() }).await;
    assert!(three.shop.seen().await.contains("/svc/desk"));
    host.tasks.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_takes_over_the_listeners_of_all_services() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("proxy.sock");
    let limit = Duration::from_secs(60);
    let hand_over = HandOver { socket, takes_over: true, limit };
    let three = Three::make().await;
    let mut host = Host::start(&three.all()[..2], Some(hand_over.clone())).await;
    // One that came after the start.
    host.put(three.bank.snapshot.clone());
    eventually(|| async { net::connect_tcp(three.bank.call, LIMIT).await.is_ok() }).await;
    for generation in 1..4 {
        let next = Host::start(&three.all(), Some(hand_over.clone())).await;
        tokio::time::timeout(LIMIT, host.tasks.cancelled()).await.expect("it ends");
        let info = format!("\"generation\": {generation}");
        eventually(|| async { next.admin("/server_info").await.contains(&info) }).await;
        for (caller, own) in [(&three.shop, "shop"), (&three.bank, "bank")] {
            assert!(caller.seen().await.contains(&format!("/svc/{own}")));
        }
        host = next;
    }
    let dump: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&host.admin("/clusters").await).expect("JSON");
    assert_eq!(dump["workloads"].as_object().map(|all| all.len()), Some(3));
    let proxy = three.bank.snapshot.proxy_id.as_str();
    let one = host.admin(&format!("/config_dump?proxy={proxy}")).await;
    assert!(one.contains("(not shown)") && one.contains("\"service\": \"bank\""), "{one}");
    host.tasks.cancel();
}
