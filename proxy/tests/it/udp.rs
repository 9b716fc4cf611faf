//! UDP between two proxies: datagrams keep their bounds, clients are told apart, and what is lost is counted.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::pair::{LIMIT, Running, eventually, free, localhost};
use crate::support::road::{Draws, Road, Weather};
use crate::support::{Mesh, Upstream, target_id};
use weft_core::config_entry::{IntentionAction, Protocol};
use weft_core::proxycfg::ProxySnapshot;
use weft_proxy::config::Sharing;
use weft_runtime::net::{self, UdpSocket};

/// Over what the two proxies speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Mux,
    /// A connection for each session.
    Own,
    Quic,
}

const WAYS: [Way; 3] = [Way::Mux, Way::Own, Way::Quic];

/// An application that gives back what it gets, and knows from whom.
struct Echo {
    address: SocketAddr,
    callers: Arc<Mutex<BTreeSet<SocketAddr>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Echo {
    async fn start(address: SocketAddr) -> Self {
        let socket = net::bind_udp(address).await.expect("a free port");
        let address = socket.local_addr().expect("bound");
        let callers = Arc::<Mutex<BTreeSet<SocketAddr>>>::default();
        let known = callers.clone();
        let task = tokio::spawn(async move {
            let mut bytes = vec![0; 1 << 16];
            while let Ok((count, from)) = socket.recv_from(&mut bytes).await {
                known.lock().expect("whole").insert(from);
                let _ = socket.send_to(&bytes[..count], from).await;
            }
        });
        Self { address, callers, task }
    }
}

/// A client's proxy and a service's.
struct Pair {
    mesh: Mesh,
    call: SocketAddr,
    client: Running,
    server: Running,
}

fn client_of(
    mesh: &Mesh,
    (call, inbound): (SocketAddr, SocketAddr),
    door: SocketAddr,
) -> ProxySnapshot {
    let upstream = Upstream::of("web", (call, Protocol::Udp), vec![door]);
    mesh.snapshot("client", (inbound, inbound), Protocol::Tcp, &[upstream])
}

async fn server_of(mesh: &Mesh, way: Way, app: SocketAddr) -> (Running, SocketAddr) {
    let door = free().await;
    let server = mesh.snapshot("web", (door, app), Protocol::Udp, &[]);
    let server = Running::launch_with("server", server, |config| {
        config.quic = if way == Way::Quic { Sharing::Auto } else { Sharing::Off };
    });
    let mut server = server.await.expect("a proxy");
    server.handle.ready().await.expect("a proxy in service");
    (server, door)
}

impl Pair {
    async fn start(way: Way, app: SocketAddr) -> Self {
        let mesh = Mesh::new("test.mesh");
        let (server, door) = server_of(&mesh, way, app).await;
        Self::with(mesh, way, (server, door)).await
    }

    async fn with(mesh: Mesh, way: Way, (server, door): (Running, SocketAddr)) -> Self {
        let call = free().await;
        let client = client_of(&mesh, (call, free().await), door);
        let client = Running::launch_with("client", client, |config| {
            config.mux = if way == Way::Own { Sharing::Off } else { Sharing::Auto };
            config.quic = if way == Way::Quic { Sharing::Auto } else { Sharing::Off };
        });
        let mut client = client.await.expect("a proxy");
        client.handle.ready().await.expect("a proxy in service");
        Self { mesh, call, client, server }
    }
}

/// A client of its own.
async fn caller(call: SocketAddr) -> UdpSocket {
    let socket = net::bind_udp(localhost(0)).await.expect("a free port");
    // Whoever is connected hears nobody else.
    socket.connect(call).await.expect("a route");
    socket
}

/// Sends a datagram and waits for one.
async fn ask(socket: &UdpSocket, datagram: &[u8]) -> Vec<u8> {
    socket.send(datagram).await.expect("sent");
    hear(socket).await
}

async fn hear(socket: &UdpSocket) -> Vec<u8> {
    let mut answer = vec![0; 1 << 16];
    let heard = tokio::time::timeout(LIMIT, socket.recv(&mut answer)).await;
    let count = heard.expect("an answer").expect("readable");
    answer.truncate(count);
    answer
}

/// Sends until that comes back; what came late of others is passed over.
async fn ask_until(socket: &UdpSocket, datagram: &[u8]) {
    let mut answer = vec![0; 1 << 16];
    let asking = async {
        loop {
            socket.send(datagram).await.expect("sent");
            let heard = socket.recv(&mut answer);
            if let Ok(heard) = tokio::time::timeout(Duration::from_millis(100), heard).await
                && answer[..heard.expect("readable")] == *datagram
            {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, asking).await.expect("an answer");
}

/// Returns a count of UDP.
async fn count(proxy: &Running, name: &str, labels: &str) -> u64 {
    let metrics = proxy.admin("/metrics").await;
    let line = format!("weft_proxy_udp_{name}_total{{{labels}}} ");
    let value = metrics.lines().find_map(|it| it.strip_prefix(&line));
    value.unwrap_or_else(|| panic!("no {line}: {metrics}")).parse().expect("a number")
}

const OUT: &str = "direction=\"outbound\"";
const IN: &str = "direction=\"inbound\"";

#[tokio::test]
async fn datagrams_of_each_size_come_whole_and_apart_over_each_way() {
    let app = Echo::start(localhost(0)).await;
    for way in WAYS {
        let pair = Pair::start(way, app.address).await;
        let socket = caller(pair.call).await;
        let sizes = [0, 1, 2, 100, 1_100, 1_150, 1_170, 1_200, 1_400, 1_472, 1_500, 9_000, 65_507];
        for size in sizes {
            let datagram: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            assert!(ask(&socket, &datagram).await == datagram, "{way:?} {size}");
        }
        // Several at once stay several; on one stream they stay in order.
        for number in 0..50_u8 {
            socket.send(&[number; 3]).await.expect("sent");
        }
        let mut came = Vec::new();
        for _ in 0..50 {
            came.push(hear(&socket).await);
        }
        let want: Vec<Vec<u8>> = (0..50).map(|number| vec![number; 3]).collect();
        came.sort();
        assert_eq!(came, want, "{way:?}");
        let datagrams = sizes.len() as u64 + 50;
        for (proxy, side) in [(&pair.client, OUT), (&pair.server, IN)] {
            // The last one may be heard before it is counted.
            for name in ["datagrams_sent", "datagrams_received"] {
                eventually(|| async { count(proxy, name, side).await == datagrams }).await;
            }
            assert_eq!(count(proxy, "sessions_opened", side).await, 1);
        }
        let quic = "weft_proxy_quic_streams_opened_total{direction=\"outbound\"} 1\n";
        let is_quic = pair.client.admin("/metrics").await.contains(quic);
        assert_eq!(is_quic, way == Way::Quic, "it is asked for without being said");
    }
}

#[tokio::test]
async fn a_thousand_clients_each_have_a_session_and_their_own_answers() {
    for way in [Way::Mux, Way::Quic] {
        let app = Echo::start(localhost(0)).await;
        let pair = Pair::start(way, app.address).await;
        let mut callers = Vec::new();
        for _ in 0..1_000 {
            callers.push(caller(pair.call).await);
        }
        for round in 0..3_u32 {
            for (at, socket) in callers.chunks(50).enumerate() {
                let asked = socket.iter().enumerate().map(|(number, socket)| async move {
                    let text = format!("{round} {at} {number}");
                    assert_eq!(ask(socket, text.as_bytes()).await, text.as_bytes());
                });
                futures::future::join_all(asked).await;
            }
        }
        assert_eq!(app.callers.lock().expect("whole").len(), 1_000);
        assert_eq!(count(&pair.client, "sessions_opened", OUT).await, 1_000);
        assert_eq!(count(&pair.server, "sessions_opened", IN).await, 1_000);
    }
}

#[tokio::test]
async fn a_hop_that_stands_still_costs_datagrams_and_nothing_else() {
    let app = Echo::start(localhost(0)).await;
    let mesh = Mesh::new("test.mesh");
    let (server, door) = server_of(&mesh, Way::Mux, app.address).await;
    let road = Road::to(door, Draws::new(7)).await;
    let pair = Pair::with(mesh, Way::Mux, (server, road.address)).await;
    let socket = caller(pair.call).await;
    assert_eq!(ask(&socket, b"first").await, b"first");
    road.turns(Weather::Frozen);
    let lost =
        || count(&pair.client, "datagrams_dropped", "direction=\"outbound\",reason=\"queue-full\"");
    eventually(|| async {
        for _ in 0..100 {
            socket.send(&[1; 1_200]).await.expect("sent");
        }
        lost().await > 0
    })
    .await;
    road.turns(Weather::Clear);
    socket.send(b"last").await.expect("sent");
    let mut answers = 0;
    while hear(&socket).await != b"last" {
        answers += 1;
        // Some of those that waited may be lost at the socket of the client.
        if answers % 50 == 0 {
            socket.send(b"last").await.expect("sent");
        }
    }
    assert_eq!(count(&pair.client, "sessions_opened", OUT).await, 1);
}

#[tokio::test]
async fn who_may_not_is_refused_before_the_service_hears_it_and_cut_when_that_changes() {
    for way in [Way::Mux, Way::Quic] {
        let app = Echo::start(localhost(0)).await;
        let pair = Pair::start(way, app.address).await;
        let socket = caller(pair.call).await;
        let decide =
            |action| pair.server.change(move |it| it.inbound.intentions.default_action = action);
        decide(IntentionAction::Deny).await;
        socket.send(b"refused").await.expect("sent");
        let denied = "weft_proxy_denied_total{direction=\"inbound\",service=\"web\"}";
        let is = |text: String| {
            let server = &pair.server;
            async move { server.admin("/metrics").await.contains(&text) }
        };
        eventually(|| is(format!("{denied} 1\n"))).await;
        assert!(app.callers.lock().expect("whole").is_empty());
        decide(IntentionAction::Allow).await;
        ask_until(&socket, b"let in").await;
        assert_eq!(app.callers.lock().expect("whole").len(), 1);
        decide(IntentionAction::Deny).await;
        let cut = "weft_proxy_udp_sessions_closed_total{direction=\"inbound\"} 2\n";
        eventually(|| is(cut.to_owned())).await;
        // The caller's proxy may not know yet; then what it sends is lost.
        eventually(|| async {
            socket.send(b"refused").await.expect("sent");
            !is(format!("{denied} 1\n")).await
        })
        .await;
        assert_eq!(app.callers.lock().expect("whole").len(), 1);
    }
}

#[tokio::test]
async fn without_quic_there_it_goes_by_tcp() {
    let app = Echo::start(localhost(0)).await;
    let mesh = Mesh::new("test.mesh");
    let server = server_of(&mesh, Way::Mux, app.address).await;
    let pair = Pair::with(mesh, Way::Quic, server).await;
    let socket = caller(pair.call).await;
    assert_eq!(ask(&socket, b"x").await, b"x");
    let fallbacks = "weft_proxy_quic_fallbacks_total{direction=\"outbound\"} 1\n";
    assert!(pair.client.admin("/metrics").await.contains(fallbacks));
}

#[tokio::test]
async fn a_service_that_speaks_something_else_is_named_as_such() {
    let app = Echo::start(localhost(0)).await;
    for way in [Way::Mux, Way::Quic] {
        let mesh = Mesh::new("test.mesh");
        let door = free().await;
        let server = mesh.snapshot("web", (door, app.address), Protocol::Tcp, &[]);
        let server = Running::start("server", server).await;
        let pair = Pair::with(mesh, way, (server, door)).await;
        let socket = caller(pair.call).await;
        socket.send(b"x").await.expect("sent");
        let cause = "cause=\"not-spoken\"} ";
        eventually(|| async { pair.client.admin("/metrics").await.contains(cause) }).await;
        // Until a second has passed no other is opened.
        let paused = "direction=\"outbound\",reason=\"paused\"";
        eventually(|| async {
            socket.send(b"x").await.expect("sent");
            count(&pair.client, "datagrams_dropped", paused).await > 0
        })
        .await;
    }
}

#[tokio::test]
async fn a_session_leaves_an_instance_that_is_gone_and_the_next_datagram_goes_to_another() {
    let (first, second) = (Echo::start(localhost(0)).await, Echo::start(localhost(0)).await);
    for way in [Way::Mux, Way::Quic] {
        let pair = Pair::start(way, first.address).await;
        let (other, door) = server_of(&pair.mesh, way, second.address).await;
        let socket = caller(pair.call).await;
        assert_eq!(ask(&socket, b"one").await, b"one");
        pair.client
            .change(|snapshot| {
                let endpoints = snapshot.endpoints.get_mut(&target_id("web"));
                endpoints.expect("a target")[0].address = door;
            })
            .await;
        let before = second.callers.lock().expect("whole").len();
        ask_until(&socket, b"two").await;
        assert_eq!(second.callers.lock().expect("whole").len(), before + 1);
        drop(other);
    }
}

#[tokio::test]
async fn a_service_that_is_away_ends_neither_proxy_nor_session() {
    let app = Echo::start(localhost(0)).await;
    let address = app.address;
    let pair = Pair::start(Way::Mux, address).await;
    let socket = caller(pair.call).await;
    assert_eq!(ask(&socket, b"x").await, b"x");
    app.task.abort();
    let _ = app.task.await;
    let unreachable = "direction=\"inbound\",reason=\"unreachable\"";
    eventually(|| async {
        socket.send(b"lost").await.expect("sent");
        count(&pair.server, "datagrams_dropped", unreachable).await > 0
    })
    .await;
    let _back = Echo::start(address).await;
    ask_until(&socket, b"back").await;
    assert_eq!(count(&pair.server, "sessions_opened", IN).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_that_another_process_takes_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("proxy.sock");
    let app = Echo::start(localhost(0)).await;
    let mesh = Mesh::new("test.mesh");
    let (_server, door) = server_of(&mesh, Way::Mux, app.address).await;
    let call = free().await;
    let snapshot = client_of(&mesh, (call, free().await), door);
    let mut running =
        Running::succeeding("first", &snapshot, (&socket, 2)).await.expect("nobody is there");
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let storm = tokio::spawn(async move {
        let mut count = 0_u32;
        while !told.load(Ordering::SeqCst) {
            let text = count.to_string();
            // Each is a client of its own, and asks once.
            assert_eq!(ask(&caller(call).await, text.as_bytes()).await, text.as_bytes());
            count += 1;
        }
        count
    });
    let faithful = caller(call).await;
    assert_eq!(ask(&faithful, b"before").await, b"before");
    for workers in [1, 3] {
        let next = Running::succeeding("next", &snapshot, (&socket, workers)).await;
        let next = next.expect("it takes over");
        assert_eq!(ask(&faithful, b"after").await, b"after");
        let asked = || async { count(&next, "sessions_opened", OUT).await > 5 };
        eventually(asked).await;
        // The one before ends by itself.
        tokio::time::timeout(LIMIT, running.tasks.cancelled()).await.expect("it ends");
        running = next;
    }
    stop.store(true, Ordering::SeqCst);
    assert!(storm.await.expect("each got its answer") > 10);
}
