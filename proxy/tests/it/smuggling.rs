//! Request smuggling: whatever is sent, the origin gets exactly what was authorised, or nothing.
//!
//! Each payload goes in by both doors: as the local application of a caller's proxy, and as a
//! member of the mesh that speaks to the service's proxy by itself.

mod cases;
use std::sync::Arc;

use crate::support::origin::Origin;
use crate::support::pair::{LIMIT, Pair, Raw};
use cases::Case;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weft_core::config_entry::Protocol;
use weft_runtime::net;
use weft_runtime::tls::tokio_rustls::TlsConnector;
use weft_runtime::tls::{Identity, PeerCheck, Trust, client_config, peer_name};

const CERTIFICATE: &str = "By=spiffe://test.mesh/ns/default/dc/dc1/svc/web;\
                           URI=spiffe://test.mesh/ns/default/dc/dc1/svc/client";

/// Sends a payload and returns all that comes back.
async fn exchange<S: AsyncRead + AsyncWrite>(stream: S, case: &Case) -> String {
    let (mut answers, mut payload) = tokio::io::split(stream);
    let mut read = Vec::new();
    let both = async {
        // The proxy may close before all is sent, and a reset is an end as well.
        let _ = tokio::join!(payload.write_all(&case.bytes), answers.read_to_end(&mut read));
    };
    let shown = String::from_utf8_lossy(&case.bytes[..case.bytes.len().min(400)]);
    assert!(tokio::time::timeout(LIMIT, both).await.is_ok(), "no end to {shown:?}");
    String::from_utf8_lossy(&read).into_owned()
}

/// Compares what came back and what the origin got with what must be.
fn check(case: &Case, answer: &str, origin: &Origin) {
    let shown = String::from_utf8_lossy(&case.bytes[..case.bytes.len().min(400)]);
    let seen = origin.take();
    assert!(seen.faults.is_empty(), "{shown:?} reached the origin as {:?}", seen.faults);
    assert_eq!(seen.requests, case.seen, "{shown:?} was answered {answer:?}");
    let good = answer.matches("HTTP/1.1 200 OK\r\n").count();
    let all = answer.matches("HTTP/1.1 ").count();
    assert_eq!(good, case.seen.len(), "{shown:?} was answered {answer:?}");
    assert_eq!(all - good, usize::from(case.is_refused), "{shown:?} was answered {answer:?}");
}

#[tokio::test]
async fn from_an_application_the_origin_gets_what_was_authorised_or_nothing() {
    let origin = Origin::start(CERTIFICATE).await;
    let pair = Pair::start(Protocol::Http, origin.address).await;
    let cases = cases::all();
    assert!(cases.len() >= 400, "{} cases", cases.len());
    for case in &cases {
        let raw = Raw::connect(pair.call).await;
        let answer = exchange(raw.0, case).await;
        check(case, &answer, &origin);
    }
    assert_counted(&pair, &cases, &origin).await;
}

#[tokio::test]
async fn from_a_member_without_proxy_the_origin_gets_what_was_authorised_or_nothing() {
    let origin = Origin::start(CERTIFICATE).await;
    let pair = Pair::start(Protocol::Http, origin.address).await;
    let door = pair.server.snapshots.borrow().inbound.bind;
    let snapshot = pair.client.snapshots.borrow().clone();
    let identity = Identity::from_leaf(&snapshot.leaf).expect("an identity");
    let trust = Trust::from_bundle(&snapshot.trust_bundle).expect("roots");
    let check_peer = PeerCheck::Exactly(pair.mesh.spiffe_id("web"));
    let config = client_config(&identity, &trust, check_peer, &["http/1.1"]).expect("a config");
    let connector = TlsConnector::from(Arc::new(config));
    let cases = cases::all();
    for case in &cases {
        let stream = net::connect_tcp(door, LIMIT).await.expect("a connection");
        let tls = connector.connect(peer_name(door), stream).await.expect("a handshake");
        let answer = exchange(tls, case).await;
        check(case, &answer, &origin);
    }
    assert_counted(&pair, &cases, &origin).await;
}

/// The proxy at the service counts each request that it let in; the origin got no other.
async fn assert_counted(pair: &Pair, cases: &[Case], origin: &Origin) {
    let late = origin.take();
    assert!(late.requests.is_empty() && late.faults.is_empty(), "came late: {late:?}");
    let authorised: usize = cases.iter().map(|case| case.seen.len()).sum();
    let count = "requests_total{direction=\"inbound\",service=\"web\",code=\"2xx\"} ";
    let metrics = pair.server.admin("/metrics").await;
    let at = metrics.find(count).expect("the count") + count.len();
    let counted = metrics[at..].lines().next().expect("a line");
    assert_eq!(counted, authorised.to_string());
}
