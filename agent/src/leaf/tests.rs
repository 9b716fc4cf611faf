//! Certificates from a server that signs, refuses, and goes away.

use std::time::Duration;

use tonic::Status;
use weft_core::time::Timestamp;
use weft_proto::grpc::v1::Topic;

use super::*;
use crate::views::fake::FakeServer;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

struct Host {
    server: FakeServer,
    leaves: Leaves,
    registry: Registry,
    tasks: TaskTree,
}

async fn host() -> Host {
    let (server, calls) = FakeServer::start().await;
    server.set(Topic::Roots, "", &server.ca.bundle());
    let (tasks, registry) = (TaskTree::root("test"), Registry::new("agent"));
    let views = Views::start(calls.clone(), &tasks);
    let membership = Arc::new(Membership {
        node: "host-1".parse().expect("a name"),
        node_id: String::new(),
        datacenter: "dc1".parse().expect("a datacenter"),
        trust_domain: "t.mesh".parse().expect("a trust domain"),
        cluster_id: String::new(),
    });
    let leaves = Leaves::start(calls, views, membership, (&registry, &tasks));
    Host { server, leaves, registry, tasks }
}

fn web() -> ServiceName {
    "web".parse().expect("a name")
}

async fn next(
    receiver: &mut watch::Receiver<Option<Arc<Leaf>>>,
    condition: impl Fn(Option<&Leaf>) -> bool,
) -> Option<Arc<Leaf>> {
    let reached = receiver.wait_for(|leaf| condition(leaf.as_deref()));
    let leaf = tokio::time::timeout(LIMIT, reached).await.expect("the leaf comes");
    leaf.expect("the manager lives").clone()
}

#[tokio::test]
async fn a_service_is_certified_and_receivers_share_the_certificate() {
    let host = host().await;
    let (mut first, mut second) = (host.leaves.leaf(&web()), host.leaves.leaf(&web()));
    let leaf = next(&mut first, |leaf| leaf.is_some()).await;
    assert_eq!(leaf, next(&mut second, |leaf| leaf.is_some()).await);
    let seconds = leaf.expect("certified").valid_before.unix_seconds();
    let metrics = host.registry.encode();
    let line = format!("weft_agent_leaf_valid_before_seconds{{service=\"web\"}} {seconds}");
    assert!(metrics.contains(&line), "{metrics}");

    drop((first, second));
    let released = async {
        while !host.leaves.shared.managed.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, released).await.expect("an unused manager ends");
    host.tasks.cancel();
}

#[tokio::test]
async fn a_refusal_is_retried_until_the_server_signs() {
    let host = host().await;
    *host.server.ca.refusal.lock() = Some(Status::permission_denied("web is not registered"));
    let mut receiver = host.leaves.leaf(&web());
    let refused = async {
        while !host.registry.encode().contains("leaf_renewal_failures_total{service=\"web\"} 2") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, refused).await.expect("it is tried again");
    assert!(receiver.borrow().is_none());
    *host.server.ca.refusal.lock() = None;
    next(&mut receiver, |leaf| leaf.is_some()).await;
    host.tasks.cancel();
}

#[tokio::test]
async fn a_certificate_that_peers_would_refuse_is_not_used() {
    let host = host().await;
    // Signed by a root that nobody trusts.
    let mut bundle = host.server.ca.bundle();
    bundle.roots_pem = vec![crate::views::fake::FakeCa::default().root_pem];
    host.server.set(Topic::Roots, "", &bundle);
    let mut receiver = host.leaves.leaf(&web());
    let refused = async {
        while !host.registry.encode().contains("leaf_renewal_failures_total{service=\"web\"} 2") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, refused).await.expect("it is tried again");
    assert!(receiver.borrow().is_none());
    host.server.set(Topic::Roots, "", &host.server.ca.bundle());
    next(&mut receiver, |leaf| leaf.is_some()).await;
    host.tasks.cancel();
}

#[tokio::test]
async fn a_certificate_is_renewed_in_time_and_given_up_at_its_end() {
    let host = host().await;
    *host.server.ca.lifetime.lock() = Duration::from_secs(4);
    let mut receiver = host.leaves.leaf(&web());
    let first = next(&mut receiver, |leaf| leaf.is_some()).await.expect("certified");
    let second = next(&mut receiver, |leaf| leaf != Some(&first)).await.expect("renewed");
    assert!(clock_now() < first.valid_before, "renewed before its end");
    assert_ne!(first.private_key_pem, second.private_key_pem, "each certificate has its own key");
    *host.server.ca.refusal.lock() = Some(Status::unavailable("no signer"));
    let ended = next(&mut receiver, |leaf| leaf.is_none()).await;
    assert_eq!(ended, None);
    assert!(clock_now() >= second.valid_before, "used until its end");
    host.tasks.cancel();
}

fn clock_now() -> Timestamp {
    weft_runtime::clock::wall()
}
