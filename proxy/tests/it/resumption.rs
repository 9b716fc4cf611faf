//! Sessions that are resumed: whose they are is judged anew, as in a full handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::Mesh;
use crate::support::pair::{LIMIT, Running, free, localhost};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::ca::{Leaf, Revoked, TrustBundle};
use weft_core::config_entry::Protocol;
use weft_runtime::tls::rustls::{ClientConfig, HandshakeKind, NamedGroup};
use weft_runtime::tls::tokio_rustls::TlsConnector;
use weft_runtime::tls::{
    Identity, PeerCheck, Trust, certificates_from_pem, client_config, peer_certificate, peer_name,
};
use weft_runtime::{clock, net};

const WELCOME: &[u8] = b"welcome\n";

/// A sidecar of a service that greets first.
async fn sidecar(mesh: &Mesh) -> (Running, SocketAddr, TrustBundle) {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let app = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(WELCOME).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    let door = free().await;
    let snapshot = mesh.snapshot("web", (door, app), Protocol::Tcp, &[]);
    let trust = snapshot.trust_bundle.clone();
    (Running::start("server", snapshot).await, door, trust)
}

fn caller(leaf: &Leaf, trust: &TrustBundle) -> Arc<ClientConfig> {
    let identity = Identity::from_leaf(leaf).expect("a leaf");
    let trust = Trust::from_bundle(trust).expect("a bundle");
    let config = client_config(&identity, &trust, PeerCheck::AnyMember, &["weft-tcp"]);
    Arc::new(config.expect("a client"))
}

/// Calls, and reads what the service says; tells how the session came about.
async fn call(
    door: SocketAddr,
    config: &Arc<ClientConfig>,
) -> io::Result<(HandshakeKind, NamedGroup)> {
    let stream = net::connect_tcp(door, LIMIT).await?;
    let mut tls = TlsConnector::from(config.clone()).connect(peer_name(door), stream).await?;
    let mut said = [0; WELCOME.len()];
    tls.read_exact(&mut said).await?;
    assert_eq!(said, WELCOME);
    let session = tls.get_ref().1;
    let group = session.negotiated_key_exchange_group().map(|group| group.name());
    Ok((session.handshake_kind().expect("it is done"), group.expect("a group")))
}

#[tokio::test]
async fn a_session_is_resumed_no_longer_than_its_certificate_lasts() {
    let mesh = Mesh::new("test.mesh");
    let (_server, door, trust) = sidecar(&mesh).await;
    let leaf = mesh.leaf_for("client", Duration::from_secs(3));
    let config = caller(&leaf, &trust);
    let hybrid = NamedGroup::X25519MLKEM768;
    assert_eq!(call(door, &config).await.expect("accepted"), (HandshakeKind::Full, hybrid));
    let again = call(door, &config).await.expect("accepted");
    assert_eq!(again.0, HandshakeKind::Resumed);
    let refused = async {
        while let Ok((kind, _)) = call(door, &config).await {
            assert_eq!(kind, HandshakeKind::Resumed);
        }
    };
    tokio::time::timeout(LIMIT, refused).await.expect("refused in the end");
    assert!(clock::wall() >= leaf.valid_before, "not before its end");
}

#[tokio::test]
async fn a_session_of_a_revoked_certificate_is_not_resumed() {
    let mesh = Mesh::new("test.mesh");
    let (server, door, trust) = sidecar(&mesh).await;
    let leaf = mesh.leaf("client");
    let (config, other) = (caller(&leaf, &trust), caller(&mesh.leaf("other"), &trust));
    for (config, kind) in [
        (&config, HandshakeKind::Full),
        (&config, HandshakeKind::Resumed),
        (&other, HandshakeKind::Full),
        (&other, HandshakeKind::Resumed),
    ] {
        assert_eq!(call(door, config).await.expect("accepted").0, kind);
    }
    let chain = certificates_from_pem("a leaf", &leaf.certificate_pem).expect("PEM");
    let serial = peer_certificate(&chain).expect("a certificate").serial;
    server.change(|s| s.trust_bundle.revoked.push(Revoked::Certificate(serial.clone()))).await;
    call(door, &config).await.expect_err("it is revoked");
    // Who is not revoked shows its certificate once more.
    assert_eq!(call(door, &other).await.expect("accepted").0, HandshakeKind::Full);
    assert_eq!(call(door, &other).await.expect("accepted").0, HandshakeKind::Resumed);
    server.change(|s| s.trust_bundle.revoked.clear()).await;
    assert_eq!(call(door, &config).await.expect("taken back").0, HandshakeKind::Full);
}
