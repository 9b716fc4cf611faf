//! Versions and suites of TLS between proxies, as the mesh entry says: they hold for whoever comes
//! next, and what is open goes on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::support::Mesh;
use crate::support::pair::{App, LIMIT, Pair, Running, eventually, free, localhost};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::ca::{Leaf, Revoked, TrustBundle};
use weft_core::config_entry::{Protocol, TlsDirection, TlsVersion};
use weft_runtime::net::{self, TcpStream};
use weft_runtime::tls::rustls::{CipherSuite, ClientConfig, HandshakeKind, ProtocolVersion};
use weft_runtime::tls::tokio_rustls::TlsConnector;
use weft_runtime::tls::tokio_rustls::client::TlsStream;
use weft_runtime::tls::{
    Identity, PeerCheck, Spoken, Trust, certificates_from_pem, client_config_with,
    peer_certificate, peer_name,
};

const AES_256: &str = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";

fn spoken(min: TlsVersion, max: TlsVersion, suites: &[&str]) -> TlsDirection {
    let cipher_suites = suites.iter().map(|&suite| suite.to_owned()).collect();
    TlsDirection { tls_min_version: min, tls_max_version: max, cipher_suites }
}

fn only_12(suites: &[&str]) -> TlsDirection {
    spoken(TlsVersion::V1_2, TlsVersion::V1_2, suites)
}

/// A sidecar of a service that says again what it is told.
async fn sidecar(mesh: &Mesh) -> (Running, SocketAddr, TrustBundle) {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let app = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.into_split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    let door = free().await;
    let snapshot = mesh.snapshot("web", (door, app), Protocol::Tcp, &[]);
    let trust = snapshot.trust_bundle.clone();
    (Running::start("server", snapshot).await, door, trust)
}

fn caller(leaf: &Leaf, trust: &TrustBundle, direction: &TlsDirection) -> Arc<ClientConfig> {
    let identity = Identity::from_leaf(leaf).expect("a leaf");
    let trust = Trust::from_bundle(trust).expect("a bundle");
    let spoken = Spoken::of(direction).expect("known suites");
    let how = (&["weft-tcp"][..], &spoken);
    Arc::new(client_config_with(&identity, &trust, PeerCheck::AnyMember, how).expect("a client"))
}

/// Calls, and hears an answer.
async fn call(door: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = net::connect_tcp(door, LIMIT).await?;
    let mut tls = TlsConnector::from(config.clone()).connect(peer_name(door), stream).await?;
    speak(&mut tls).await?;
    Ok(tls)
}

async fn speak(tls: &mut TlsStream<TcpStream>) -> io::Result<()> {
    tls.write_all(b"word").await?;
    let mut heard = [0; 4];
    tls.read_exact(&mut heard).await?;
    assert_eq!(&heard, b"word");
    Ok(())
}

fn version(tls: &TlsStream<TcpStream>) -> ProtocolVersion {
    tls.get_ref().1.protocol_version().expect("it is done")
}

#[tokio::test]
async fn callers_are_met_as_the_mesh_says_and_those_who_are_in_stay() {
    let mesh = Mesh::new("test.mesh");
    let (server, door, trust) = sidecar(&mesh).await;
    let leaf = mesh.leaf("client");
    let new = caller(&leaf, &trust, &TlsDirection::default());
    let old = caller(&leaf, &trust, &only_12(&[]));

    let mut held_13 = call(door, &new).await.expect("TLS 1.3 is what is spoken");
    assert_eq!(version(&held_13), ProtocolVersion::TLSv1_3);
    call(door, &old).await.expect_err("TLS 1.2 is not spoken unless it is said");

    let from_12 = spoken(TlsVersion::V1_2, TlsVersion::Unset, &[]);
    server.change(|snapshot| snapshot.tls.incoming = Some(from_12)).await;
    let mut held_12 = call(door, &old).await.expect("TLS 1.2 as well");
    assert_eq!(version(&held_12), ProtocolVersion::TLSv1_2);
    assert_eq!(version(&call(door, &new).await.expect("both")), ProtocolVersion::TLSv1_3);

    server.change(|snapshot| snapshot.tls.incoming = Some(only_12(&[AES_256]))).await;
    call(door, &new).await.expect_err("TLS 1.2 alone");
    let chosen =
        call(door, &old).await.expect("the one suite").get_ref().1.negotiated_cipher_suite();
    let chosen = chosen.expect("it is done").suite();
    assert_eq!(chosen, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
    let other = only_12(&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]);
    call(door, &caller(&leaf, &trust, &other)).await.expect_err("no suite in common");

    server.change(|snapshot| snapshot.tls.incoming = None).await;
    call(door, &old).await.expect_err("TLS 1.2 is gone again");
    assert_eq!(version(&call(door, &new).await.expect("as ever")), ProtocolVersion::TLSv1_3);
    speak(&mut held_13).await.expect("it stays open");
    speak(&mut held_12).await.expect("it stays open as well");
}

/// The rules of resumption do not depend on the version.
#[tokio::test]
async fn a_session_of_tls_12_is_not_resumed_by_who_is_revoked() {
    let mesh = Mesh::new("test.mesh");
    let (server, door, trust) = sidecar(&mesh).await;
    server.change(|snapshot| snapshot.tls.incoming = Some(only_12(&[]))).await;
    let leaf = mesh.leaf("client");
    let old = caller(&leaf, &trust, &only_12(&[]));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let tls = call(door, &old).await.expect("accepted");
        assert_eq!(tls.get_ref().1.handshake_kind(), Some(kind));
    }
    let chain = certificates_from_pem("a leaf", &leaf.certificate_pem).expect("PEM");
    let serial = peer_certificate(&chain).expect("a certificate").serial;
    server.change(|s| s.trust_bundle.revoked.push(Revoked::Certificate(serial))).await;
    call(door, &old).await.expect_err("it is revoked");
}

#[tokio::test]
async fn services_are_called_as_the_mesh_says() {
    let app = App::start("web").await;
    for protocol in [Protocol::Http, Protocol::Http2] {
        let pair = Pair::start(protocol, app.address).await;
        pair.client.change(|snapshot| snapshot.tls.outgoing = Some(only_12(&[]))).await;
        assert_eq!(pair.get("/").await.status, 502, "the other end speaks TLS 1.3 alone");
        let from_12 = spoken(TlsVersion::V1_2, TlsVersion::Unset, &[]);
        pair.server.change(|snapshot| snapshot.tls.incoming = Some(from_12)).await;
        eventually(|| async { pair.get("/").await.status == 200 }).await;
        pair.client.change(|snapshot| snapshot.tls.outgoing = None).await;
        pair.server.change(|snapshot| snapshot.tls.incoming = None).await;
        assert_eq!(pair.get("/").await.status, 200, "what is new in the pool is TLS 1.3");
    }
}
