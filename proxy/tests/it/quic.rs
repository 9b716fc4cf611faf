//! QUIC between two proxies: each stream is served, judged and cut as a connection of its own, and where
//! UDP gets no answer, TCP carries what comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::cut::one_of_two_is_cut;
use crate::support::pair::{App, LIMIT, Raw, Running, eventually, free, get, localhost};
use crate::support::{Mesh, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::ca::Revoked;
use weft_core::config_entry::{MeshTransport, Protocol};
use weft_proxy::config::Sharing;
use weft_runtime::net::{self, UdpSocket};

/// A caller's proxy and a service's, with a wire between them that can be cut for UDP.
struct Far {
    call: SocketAddr,
    client: Running,
    server: Running,
    wire: Arc<Wire>,
}

/// Carries TCP and UDP on.
#[derive(Default)]
struct Wire {
    is_blocked: AtomicBool,
    /// How often the caller's port has changed on the way.
    moves: AtomicUsize,
}

impl Wire {
    /// Stands before a door.
    async fn lay(door: SocketAddr) -> (Arc<Self>, SocketAddr) {
        let wire = Arc::new(Self::default());
        let before = free().await;
        let tcp = net::bind_tcp(before).await.expect("a free port");
        tokio::spawn(async move {
            while let Ok((mut near, _)) = tcp.accept().await {
                tokio::spawn(async move {
                    let mut far = net::connect_tcp(door, LIMIT).await.expect("the door is open");
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        let near = Arc::new(net::bind_udp(before).await.expect("a free port"));
        tokio::spawn(wire.clone().carry(near, door));
        (wire, before)
    }

    async fn carry(self: Arc<Self>, near: Arc<UdpSocket>, door: SocketAddr) {
        // One for each caller; a change of port opens it anew.
        let mut ways: Vec<(SocketAddr, usize, Arc<UdpSocket>)> = Vec::new();
        let mut bytes = vec![0; 65_536];
        while let Ok((count, from)) = near.recv_from(&mut bytes).await {
            let moves = self.moves.load(Ordering::SeqCst);
            ways.retain(|way| way.0 != from || way.1 == moves);
            if !ways.iter().any(|way| way.0 == from) {
                let way = Arc::new(net::bind_udp(localhost(0)).await.expect("a free port"));
                way.connect(door).await.expect("connected");
                let (back, near, wire) = (way.clone(), near.clone(), self.clone());
                tokio::spawn(async move {
                    let mut bytes = vec![0; 65_536];
                    while let Ok(count) = back.recv(&mut bytes).await {
                        if !wire.is_blocked.load(Ordering::SeqCst) {
                            let _ = near.send_to(&bytes[..count], from).await;
                        }
                    }
                });
                ways.push((from, moves, way));
            }
            let way = ways.iter().find(|way| way.0 == from).expect("just opened");
            if !self.is_blocked.load(Ordering::SeqCst) {
                let _ = way.2.send(&bytes[..count]).await;
            }
        }
    }
}

impl Far {
    async fn start(protocol: Protocol, app: SocketAddr) -> Self {
        Self::start_with(protocol, app, (1, Sharing::Auto)).await
    }

    async fn start_with(
        protocol: Protocol,
        app: SocketAddr,
        (workers, theirs): (usize, Sharing),
    ) -> Self {
        let mesh = Mesh::new("test.mesh");
        let (call, door) = (free().await, free().await);
        let server = mesh.snapshot("web", (door, app), protocol, &[]);
        let (wire, before) = Wire::lay(door).await;
        let upstream = Upstream::of("web", (call, protocol), vec![before]);
        let mut client = mesh.snapshot("client", (free().await, app), protocol, &[upstream]);
        for target in client.upstreams[0].chain.targets.values_mut() {
            target.transport.mesh_transport = MeshTransport::Quic;
        }
        let server = Running::launch_with("server", server, |config| {
            config.quic = theirs;
            // The wire ends with the test, and nobody hears goodbyes.
            config.drain_limit = Duration::from_secs(1);
            config.workers.count = workers;
        });
        let mut server = server.await.expect("a proxy");
        server.handle.ready().await.expect("a proxy in service");
        let client = Running::start("client", client).await;
        Self { call, client, server, wire }
    }

    async fn status(&self) -> u16 {
        get(&format!("http://{}/", self.call)).await.status.as_u16()
    }

    async fn speaks(&self, want: &str) {
        let want = format!("\"{want}\"");
        eventually(|| async { self.client.admin("/clusters").await.contains(&want) }).await;
    }
}

/// Waits until a count of a proxy is what it should be.
async fn counts(proxy: &Running, name: &str, want: u64) {
    let line = format!("weft_proxy_quic_{name} {want}\n");
    eventually(|| async { proxy.admin("/metrics").await.contains(&line) }).await;
}

const OUT: &str = "{direction=\"outbound\"}";
const IN: &str = "{direction=\"inbound\"}";

#[tokio::test]
async fn a_storm_of_requests_opens_one_connection_and_leaves_tcp_alone() {
    let app = App::start("web").await;
    let far = Far::start(Protocol::Http, app.address).await;
    for _ in 0..2 {
        let answers = futures::future::join_all((0..40).map(|_| far.status())).await;
        assert!(answers.iter().all(|status| *status == 200));
    }
    assert_eq!(app.count(), 80);
    counts(&far.client, &format!("connections_opened_total{OUT}"), 1).await;
    counts(&far.server, &format!("connections_opened_total{IN}"), 1).await;
    counts(&far.client, &format!("fallbacks_total{OUT}"), 0).await;
    let metrics = far.client.admin("/metrics").await;
    let mux = format!("weft_proxy_mux_connections_opened_total{OUT} 0\n");
    assert!(metrics.contains(&mux), "{metrics}");
    far.speaks("quic").await;
}

#[tokio::test]
async fn bytes_come_whole_both_ways_and_a_reader_that_stands_still_stops_no_other() {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let app = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // The server speaks first; then it gives back what it gets.
                stream.write_all(b"hello").await.expect("sent");
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    let far = Far::start(Protocol::Tcp, app).await;
    let mut slow = Raw::connect(far.call).await;
    slow.until("hello").await;
    let bytes: Vec<u8> = (0..4_u32 << 20).map(|n| (n * 7 % 251) as u8).collect();
    let (mut slow_read, mut slow_write) = slow.0.into_split();
    let sent = bytes.clone();
    let writing = tokio::spawn(async move {
        let _ = slow_write.write_all(&sent).await;
        let _ = slow_write.shutdown().await;
    });
    for _ in 0..3 {
        let mut fast = Raw::connect(far.call).await;
        fast.until("hello").await;
        let (mut read, mut write) = fast.0.into_split();
        let sent = bytes.clone();
        let sending = tokio::spawn(async move {
            write.write_all(&sent).await.expect("sent");
            write.shutdown().await.expect("ended");
        });
        let mut came = Vec::new();
        let reading = read.read_to_end(&mut came);
        tokio::time::timeout(LIMIT, reading).await.expect("in time").expect("whole");
        sending.await.expect("sent");
        assert!(came == bytes, "as they were sent");
    }
    let mut came = Vec::new();
    slow_read.read_to_end(&mut came).await.expect("whole");
    assert!(came == bytes, "and the slow one gets all of it");
    writing.await.expect("sent");
    counts(&far.client, &format!("connections_opened_total{OUT}"), 1).await;
}

#[tokio::test]
async fn without_an_answer_over_udp_a_call_goes_by_tcp_and_comes_back() {
    let app = App::start("web").await;
    let far = Far::start(Protocol::Http, app.address).await;
    far.wire.is_blocked.store(true, Ordering::SeqCst);
    let began = Instant::now();
    assert_eq!(far.status().await, 200);
    let first = began.elapsed();
    assert!(first >= Duration::from_millis(300), "it waited for an answer: {first:?}");
    assert!(first < Duration::from_millis(1500), "{first:?}");
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(far.status().await, 200);
    }
    assert!(began.elapsed() < Duration::from_millis(300), "nobody else waits");
    far.speaks("tcp, no answer over UDP").await;
    far.wire.is_blocked.store(false, Ordering::SeqCst);
    eventually(|| async { far.status().await == 200 && has_returned(&far).await }).await;
    far.speaks("quic").await;
    let streams = format!("streams_opened_total{OUT}");
    eventually(|| async { far.status().await == 200 && !reads(&far.client, &streams, 0).await })
        .await;
}

async fn has_returned(far: &Far) -> bool {
    reads(&far.client, &format!("returns_total{OUT}"), 1).await
}

async fn reads(proxy: &Running, name: &str, want: u64) -> bool {
    proxy.admin("/metrics").await.contains(&format!("weft_proxy_quic_{name} {want}\n"))
}

#[tokio::test]
async fn a_path_that_falls_silent_costs_a_call_a_third_of_a_second_and_no_more() {
    let app = App::start("web").await;
    let far = Far::start(Protocol::Http, app.address).await;
    // Idle streams wait for further requests too.
    assert_eq!(futures::future::join_all((0..4).map(|_| far.status())).await, [200; 4]);
    far.speaks("quic").await;
    far.wire.is_blocked.store(true, Ordering::SeqCst);
    // What is taken for alive is so for a second.
    let heard = Instant::now();
    eventually(|| async { heard.elapsed() > Duration::from_millis(1100) }).await;
    let began = Instant::now();
    let answers = futures::future::join_all((0..4).map(|_| far.status())).await;
    assert_eq!(answers, [200; 4]);
    let first = began.elapsed();
    assert!(first < Duration::from_millis(1500), "{first:?}");
    counts(&far.client, &format!("fallbacks_total{OUT}"), 1).await;
    far.speaks("tcp, no answer over UDP").await;
    far.wire.is_blocked.store(false, Ordering::SeqCst);
    eventually(|| async { far.status().await == 200 && has_returned(&far).await }).await;
}

#[tokio::test]
async fn who_does_not_speak_it_is_called_by_tcp() {
    let app = App::start("web").await;
    let far = Far::start_with(Protocol::Http, app.address, (1, Sharing::Off)).await;
    assert_eq!(far.status().await, 200);
    assert_eq!(far.status().await, 200);
    counts(&far.client, &format!("fallbacks_total{OUT}"), 1).await;
    assert!(far.server.admin("/config_dump").await.contains("\"quic\": \"off\""));
}

#[tokio::test]
async fn a_caller_may_change_its_port_whichever_worker_it_has() {
    let app = App::start("web").await;
    let far = Far::start_with(Protocol::Http, app.address, (2, Sharing::Auto)).await;
    for _ in 0..12 {
        assert_eq!(far.status().await, 200);
        // The kernel would give the new port to either worker.
        far.wire.moves.fetch_add(1, Ordering::SeqCst);
    }
    counts(&far.client, &format!("connections_opened_total{OUT}"), 1).await;
    counts(&far.client, &format!("fallbacks_total{OUT}"), 0).await;
    counts(&far.server, &format!("connections_opened_total{IN}"), 1).await;
}

#[tokio::test]
async fn a_change_of_policy_cuts_the_streams_that_it_concerns_and_no_others() {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let far = Far::start(Protocol::Http, listener.local_addr().expect("an address")).await;
    let _stays = one_of_two_is_cut(far.call, &far.server, &listener).await;
    counts(&far.server, &format!("connections_closed_total{IN}"), 0).await;
}

#[tokio::test]
async fn who_is_revoked_loses_its_connection_on_either_side() {
    for caller in [true, false] {
        let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
        let far = Far::start(Protocol::Tcp, listener.local_addr().expect("an address")).await;
        let mut raw = Raw::connect(far.call).await;
        raw.send("x").await;
        let (mut app, _) = listener.accept().await.expect("a connection");
        app.read_exact(&mut [0]).await.expect("a byte");
        far.speaks("quic").await;
        let (revoked, judge) = match caller {
            true => (&far.client, &far.server),
            false => (&far.server, &far.client),
        };
        let id = revoked.snapshots.borrow().spiffe_id.clone();
        let gone = Revoked::Identity { id, issued_before: None };
        judge.change(|snapshot| snapshot.trust_bundle.revoked.push(gone)).await;
        assert_eq!(raw.rest().await, "", "cut");
        let side = if caller { IN } else { OUT };
        counts(judge, &format!("connections_closed_total{side}"), 1).await;
    }
}

#[tokio::test]
async fn strangers_are_turned_away_at_the_door() {
    let app = App::start("web").await;
    let far = Far::start(Protocol::Http, app.address).await;
    assert_eq!(far.status().await, 200);
    // The same names, signed by somebody else.
    let leaf = Mesh::new("test.mesh").leaf("client");
    let trust = far.client.snapshots.borrow().trust_bundle.clone();
    let mut stranger = (*far.client.snapshots.borrow()).as_ref().clone();
    let call = free().await;
    stranger.upstreams[0].bind = call.into();
    stranger.inbound.bind = free().await;
    (stranger.leaf, stranger.trust_bundle) = (leaf, trust);
    let _stranger = Running::start("stranger", stranger).await;
    let status = get(&format!("http://{call}/")).await.status.as_u16();
    assert!((502..=503).contains(&status), "{status}");
    eventually(|| async { !reads(&far.server, &format!("attempts_failed_total{IN}"), 0).await })
        .await;
    counts(&far.server, &format!("connections_opened_total{IN}"), 1).await;
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn who_stops_finishes_what_is_under_way() {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let far = Far::start(Protocol::Http, listener.local_addr().expect("an address")).await;
    let mut raw = Raw::connect(far.call).await;
    raw.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    let (mut app, _) = listener.accept().await.expect("the request");
    app.read_exact(&mut [0; 4]).await.expect("a head");
    far.speaks("quic").await;
    far.server.tasks.cancel();
    counts(&far.client, &format!("streams_opened_total{OUT}"), 1).await;
    app.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("answered");
    assert!(raw.until("ok").await.starts_with("HTTP/1.1 200"));
    far.server.tasks.join(LIMIT).await.expect("it ends with the request");
    counts(&far.client, &format!("connections_closed_total{OUT}"), 1).await;
}
