//! The PROXY header: what a service is told of its callers, and whom a proxy believes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::support::pair::{App, LIMIT, Pair, Raw, eventually, localhost};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::chain::Target;
use weft_core::config_entry::{MeshTransport, Protocol, ProxyProtocol};
use weft_core::proxycfg::ProxySnapshot;
use weft_core::traffic::proxy_protocol::Header;
use weft_proxy::config::Sharing;
use weft_runtime::net;

/// An application that takes a header before each connection, answers what it says, and notes
/// each connection.
async fn told(app: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<Header>>>) {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let headers: Arc<Mutex<Vec<Header>>> = Arc::default();
    let seen = headers.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                let length = loop {
                    match Header::parse(&bytes).expect("a header") {
                        Some((header, length)) => {
                            seen.lock().expect("not poisoned").push(header);
                            break length;
                        }
                        None => drop(stream.read_buf(&mut bytes).await.expect("bytes")),
                    }
                };
                let mut app = net::connect_tcp(app, LIMIT).await.expect("the app");
                app.write_all(&bytes[length..]).await.expect("sent");
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut app).await;
            });
        }
    });
    (address, headers)
}

/// How two proxies reach each other.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hop {
    /// A connection each.
    Plain,
    /// Streams of one connection.
    Shared,
    Quic,
}

impl Hop {
    async fn pair(self, protocol: Protocol, app: SocketAddr) -> Pair {
        let ours = if self == Self::Plain { Sharing::Off } else { Sharing::Auto };
        let pair = Pair::start_with(protocol, app, [ours, Sharing::Auto]).await;
        let over = if self == Self::Quic { MeshTransport::Quic } else { MeshTransport::Tcp };
        let target = |target: &mut Target| target.transport.mesh_transport = over;
        let change = |snapshot: &mut ProxySnapshot| {
            snapshot.upstreams[0].chain.targets.values_mut().for_each(target);
        };
        pair.client.change(change).await;
        pair
    }

    /// Waits until it is told that this one was used, and looks that no other was.
    async fn check(self, pair: &Pair, protocol: Protocol) {
        let wanted = [self == Self::Shared, self == Self::Quic];
        let used = || async {
            let metrics = pair.server.admin("/metrics").await;
            ["mux", "quic"].map(|name| {
                let start = format!("weft_proxy_{name}_connections_opened_total");
                let own = metrics.lines().filter(|line| line.starts_with(&start));
                own.filter(|line| line.contains("\"inbound\"") && !line.ends_with(" 0")).count()
            })
        };
        let comes = eventually(|| async { used().await.map(|count| count > 0) == wanted });
        if tokio::time::timeout(LIMIT / 2, comes).await.is_err() {
            panic!("{self:?} {protocol:?}: {:?} instead of {wanted:?}", used().await);
        }
    }
}

#[tokio::test]
async fn the_service_is_told_who_calls_before_each_connection_whatever_the_way() {
    let app = App::start("web").await;
    for hop in [Hop::Plain, Hop::Shared, Hop::Quic] {
        for protocol in [Protocol::Http, Protocol::Http2, Protocol::Tcp] {
            for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
                let pair = hop.pair(protocol, app.address).await;
                is_told(&pair, (protocol, version), app.address).await;
                hop.check(&pair, protocol).await;
                // Who wants none any more gets none.
                pair.server
                    .change(|snapshot| {
                        snapshot.inbound.local_app = app.address.into();
                        snapshot.inbound.proxy_protocol = None;
                    })
                    .await;
                assert!(pair.get("/").await.text().contains("\"web\""));
            }
        }
    }
}

async fn is_told(pair: &Pair, (protocol, version): (Protocol, ProxyProtocol), app: SocketAddr) {
    let (behind, headers) = told(app).await;
    pair.server
        .change(|snapshot| {
            snapshot.inbound.local_app = behind.into();
            snapshot.inbound.proxy_protocol = Some(version);
        })
        .await;
    for _ in 0..3 {
        assert!(pair.get("/").await.text().contains("\"web\""));
    }
    let seen = headers.lock().expect("not poisoned").clone();
    assert!(!seen.is_empty());
    for header in seen {
        let (from, to) = header.ends.expect("addresses");
        assert!(from.ip().is_loopback() && to == pair.server_door(), "{header:?}");
        let is_v2 = version == ProxyProtocol::V2;
        let id = pair.mesh.spiffe_id("client").to_string();
        assert_eq!(header.spiffe_id, is_v2.then_some(id));
        let ssl = header.ssl.map(|ssl| (ssl.version, ssl.common_name));
        let client = ("TLSv1.3".to_owned(), Some("client".to_owned()));
        assert_eq!(ssl, is_v2.then_some(client));
        let alpn = match protocol {
            Protocol::Http => Some(&b"http/1.1"[..]),
            Protocol::Http2 => Some(&b"h2"[..]),
            _ => None,
        };
        assert_eq!(header.alpn.as_deref(), alpn.filter(|_| is_v2));
    }
}

const ASK: &str =
    "GET / HTTP/1.1\r\nhost: web\r\nx-forwarded-for: 198.51.100.9\r\nconnection: close\r\n\r\n";

async fn said(pair: &Pair, before: &[u8]) -> String {
    let mut raw = Raw::connect(pair.call).await;
    raw.0.write_all(before).await.expect("sent");
    raw.send(ASK).await;
    raw.rest().await
}

#[tokio::test]
async fn a_header_is_believed_from_where_it_is_expected_and_then_must_be_there() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Http, app.address).await;
    let (from, to) = ("192.0.2.7:1000".parse(), "192.0.2.8:80".parse());
    let ends = Some((from.expect("an address"), to.expect("an address")));
    let header = Header { ends, ..Header::default() };
    let headers = [header.write_v1(), header.write_v2()];
    for bytes in &headers {
        let answer = said(&pair, bytes).await;
        assert!(!answer.contains(" 200 "), "it is no request: {answer}");
    }
    pair.client
        .change(|snapshot| {
            snapshot.proxy_protocol_from = vec!["127.0.0.0/8".parse().expect("a network")];
        })
        .await;
    for (hops, told) in [(0, "192.0.2.7"), (1, "198.51.100.9, 192.0.2.7")] {
        pair.client.change(|snapshot| snapshot.forwarded_headers.xff_num_trusted_hops = hops).await;
        for bytes in &headers {
            let answer = said(&pair, bytes).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            let told = format!("[\"x-forwarded-for\",\"{told}\"]");
            assert!(answer.contains(&told), "{told}: {answer}");
        }
    }
    let unknown = said(&pair, b"PROXY UNKNOWN\r\n").await;
    assert!(unknown.starts_with("HTTP/1.1 200 ") && !unknown.contains("192.0.2"), "{unknown}");
    let before = app.count();
    for bytes in [&b""[..], b"PROXY TCP4 1.2.3.4\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"] {
        assert_eq!(said(&pair, bytes).await, "", "{bytes:?}");
    }
    assert_eq!(app.count(), before);
    pair.client
        .change(|snapshot| {
            snapshot.proxy_protocol_from = vec!["10.0.0.0/8".parse().expect("a network")];
        })
        .await;
    assert!(said(&pair, b"").await.starts_with("HTTP/1.1 200 "), "others send none");
}
