//! Server names in TLS: proxies tell them, and rules may ask for them. Who somebody is, is told
//! by certificates alone.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::support::Mesh;
use crate::support::pair::{App, LIMIT, Pair, Raw, Running, free, get};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::config_entry::Protocol;
use weft_core::intention::IntentionSet;
use weft_runtime::net;
use weft_runtime::tls::rustls::pki_types::ServerName;
use weft_runtime::tls::rustls::{ClientConfig, HandshakeKind};
use weft_runtime::tls::tokio_rustls::TlsConnector;
use weft_runtime::tls::{Identity, PeerCheck, Trust, client_config_with};

async fn permit(server: &Running, permissions: serde_json::Value, default: &str) {
    let intention = json!({ "source": "client", "destination": "web", "action": "deny",
        "permissions": permissions, "precedence": 9 });
    let set = json!({ "intentions": [intention], "default_action": default });
    let set: IntentionSet = serde_json::from_value(set).expect("a set");
    server.change(|snapshot| snapshot.inbound.intentions = set).await;
}

/// Puts the name that calls are made by in the place of what a chain says.
async fn call_by(pair: &Pair, name: &str) {
    let name = name.to_owned();
    let change = |snapshot: &mut weft_core::proxycfg::ProxySnapshot| {
        for upstream in &mut snapshot.upstreams {
            upstream.chain.targets.values_mut().for_each(|target| target.sni.clone_from(&name));
        }
    };
    pair.client.change(change).await;
}

#[tokio::test]
async fn requests_are_judged_by_the_name_that_the_calling_proxy_gave() {
    let app = App::start("web").await;
    for protocol in [Protocol::Http, Protocol::Http2] {
        let pair = Pair::start(protocol, app.address).await;
        let server = &pair.server;
        let status = || async { pair.get("/").await.status.as_u16() };
        let only = |name: &str| json!([{ "Action": "allow", "SNIs": [name] }]);
        permit(server, only("web"), "deny").await;
        assert_eq!(status().await, 200, "{protocol:?}");
        permit(server, only("*.web"), "deny").await;
        assert_eq!(status().await, 403, "{protocol:?}");
        call_by(&pair, "v1.web").await;
        assert_eq!(status().await, 200, "{protocol:?}");
        permit(server, json!([{ "Action": "deny", "SNIs": ["v1.web"] }]), "allow").await;
        assert_eq!(status().await, 403, "{protocol:?}");
        // DNS has no room for this one, so it is not given.
        call_by(&pair, "a b").await;
        assert_eq!(status().await, 403, "{protocol:?}");
        permit(server, only("web"), "deny").await;
        assert_eq!(status().await, 403, "{protocol:?}");
        permit(server, json!([{ "Action": "allow", "SourceCIDRs": ["127.0.0.1"] }]), "deny").await;
        assert_eq!(status().await, 200, "{protocol:?}");
    }
}

#[tokio::test]
async fn bytes_are_judged_by_it_and_are_cut_when_that_changes() {
    let app = App::start("web").await;
    let pair = Pair::start(Protocol::Tcp, app.address).await;
    let open = || async {
        // Refused, it may be reset before the connecting side has looked at it.
        let mut raw = Raw(net::connect_tcp(pair.call, LIMIT).await.ok()?);
        let sent = raw.0.write_all(b"GET /a HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut first = [0; 12];
        let read = raw.0.read_exact(&mut first).await;
        (sent.is_ok() && read.is_ok_and(|_| first == *b"HTTP/1.1 200")).then_some(raw)
    };
    permit(&pair.server, json!([{ "Action": "allow", "SNIs": ["web"] }]), "deny").await;
    let mut held = open().await.expect("it is allowed");
    permit(&pair.server, json!([{ "Action": "deny", "SNIs": ["web"] }]), "allow").await;
    // It ends.
    held.rest().await;
    assert!(open().await.is_none());
    call_by(&pair, "other").await;
    assert!(open().await.is_some());
}

/// Calls by a name and says what came of it: refused, or how the session came about.
async fn call(
    door: SocketAddr,
    (config, name): (&Arc<ClientConfig>, &str),
) -> io::Result<HandshakeKind> {
    let stream = net::connect_tcp(door, LIMIT).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut tls = TlsConnector::from(config.clone()).connect(name, stream).await?;
    tls.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await?;
    let mut said = [0; 12];
    tls.read_exact(&mut said).await?;
    assert_eq!(said, *b"HTTP/1.1 200");
    Ok(tls.get_ref().1.handshake_kind().expect("it is done"))
}

fn caller(mesh: &Mesh, snapshot: &weft_core::proxycfg::ProxySnapshot) -> Arc<ClientConfig> {
    let identity = Identity::from_leaf(&mesh.leaf("client")).expect("a leaf");
    let trust = Trust::from_bundle(&snapshot.trust_bundle).expect("a bundle");
    let how = (&["weft-tcp"][..], &weft_runtime::tls::Spoken::default());
    let config = client_config_with(&identity, &trust, PeerCheck::AnyMember, how);
    let mut config = config.expect("a client");
    config.enable_sni = true;
    Arc::new(config)
}

#[tokio::test]
async fn a_resumed_session_is_judged_by_its_own_name() {
    let app = App::start("web").await;
    let mesh = Mesh::new("test.mesh");
    let door = free().await;
    let snapshot = mesh.snapshot("web", (door, app.address), Protocol::Tcp, &[]);
    let config = caller(&mesh, &snapshot);
    let server = Running::start("server", snapshot).await;
    let (good, bad) = ((&config, "v1.web"), (&config, "v2.web"));
    assert_eq!(call(door, good).await.expect("allowed"), HandshakeKind::Full);
    assert_eq!(call(door, good).await.expect("allowed"), HandshakeKind::Resumed);
    assert_eq!(call(door, bad).await.expect("allowed"), HandshakeKind::Full);
    for (permissions, default) in [
        (json!([{ "Action": "allow", "SNIs": ["v1.web"] }]), "deny"),
        (json!([{ "Action": "deny", "SNIs": ["v2.web"] }]), "allow"),
    ] {
        permit(&server, permissions, default).await;
        for _ in 0..2 {
            assert_eq!(call(door, good).await.expect("allowed"), HandshakeKind::Resumed);
            call(door, bad).await.expect_err("denied, by a session as well");
            // An address is no server name, so none is given.
            call(door, (&config, "127.0.0.1")).await.expect_err("denied without a name");
        }
    }
    let counted = get(&format!("http://{}/metrics", server.handle.admin_addr())).await.text();
    assert!(counted.contains("intention-denied"), "{counted}");
}
