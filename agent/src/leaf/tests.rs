//! Certificates from a server that signs, refuses, and goes away.

use std::path::Path;
use std::time::Duration;

use tonic::Status;
use weft_core::ca::{KeyKind, TrustBundle};
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
    host_of((server, calls), None).await
}

/// Starts the leaves of a host, kept in a folder for a cluster.
async fn host_of((server, calls): (FakeServer, Calls), kept: Option<(&Path, &str)>) -> Host {
    server.set(Topic::Roots, "", &server.ca.bundle());
    let (tasks, registry) = (TaskTree::root("test"), Registry::new("agent"));
    let views = Views::start(calls.clone(), &tasks);
    let membership = Membership::of_test(kept.map_or("", |(_, cluster_id)| cluster_id));
    let kept = match kept {
        Some((folder, _)) => {
            let trusted = vec![server.ca.bundle()];
            let (folder, membership) = (folder.join("leaves"), membership.clone());
            KeptLeaves::open(folder, membership, trusted, &tasks).await.expect("opened")
        }
        None => KeptLeaves::default(),
    };
    let leaves =
        Leaves::start(calls, views, (membership, kept, KeyKind::default()), (&registry, &tasks));
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

#[tokio::test]
async fn a_busy_server_is_asked_again_later_and_the_figures_say_what_is_left() {
    let host = host().await;
    *host.server.ca.refusal.lock() = Some(Status::resource_exhausted("later"));
    let mut receiver = host.leaves.leaf(&web());
    let refused = async {
        while !host.registry.encode().contains("leaf_renewal_failures_total{service=\"web\"} 1") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, refused).await.expect("it is sent away");
    assert!(!host.registry.encode().contains("leaf_worst_remaining_seconds"));
    *host.server.ca.refusal.lock() = None;
    next(&mut receiver, |leaf| leaf.is_some()).await;
    let text = host.registry.encode();
    assert!(text.contains("leaf_renewals_total{service=\"web\"} 1"), "{text}");
    let worst = "weft_agent_leaf_worst_remaining_seconds ";
    let worst = text.lines().find_map(|line| line.strip_prefix(worst)).expect("the worst");
    let worst: u64 = worst.parse().expect("a number");
    assert!((3000..3600).contains(&worst), "{worst}");
    host.tasks.cancel();
}

#[tokio::test]
async fn a_change_of_roots_renews_a_certificate_that_was_made_before() {
    let host = host().await;
    *host.server.ca.lifetime.lock() = Duration::from_secs(10);
    // Known before the first certificate, as on every host but a fresh one.
    host.leaves.shared.views.roots().first(LIMIT).await;
    let mut receiver = host.leaves.leaf(&web());
    let first = next(&mut receiver, |leaf| leaf.is_some()).await.expect("certified");
    let mut bundle = host.server.ca.bundle();
    bundle.active_root = "another".to_owned();
    host.server.set(Topic::Roots, "", &bundle);
    next(&mut receiver, |leaf| leaf != Some(&first)).await.expect("renewed");
    assert!(clock_now() < first.valid_after.saturating_add(Duration::from_secs(5)), "soon");
    host.tasks.cancel();
}

#[tokio::test]
async fn a_certificate_outlives_the_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, calls) = FakeServer::start().await;
    let here = Some((folder.path(), "c1"));
    let host = host_of((server.clone(), calls.clone()), here).await;
    let mut receiver = host.leaves.leaf(&web());
    let leaf = next(&mut receiver, |leaf| leaf.is_some()).await;
    let file = folder.path().join("leaves/web.kept");
    let mode = std::fs::metadata(&file).expect("on disk before it is used").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    host.tasks.cancel();
    drop(receiver);
    host.tasks.join(LIMIT).await.expect("ended");

    server.kill();
    let host = host_of((server, calls), here).await;
    let mut receiver = host.leaves.leaf(&web());
    assert_eq!(next(&mut receiver, |leaf| leaf.is_some()).await, leaf);
    // A service that is gone takes its certificate along.
    drop(receiver);
    let removed = async {
        while file.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, removed).await.expect("it is removed");
    host.tasks.cancel();
}

#[tokio::test]
async fn a_kept_certificate_of_a_root_before_is_renewed_soon() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, calls) = FakeServer::start().await;
    *server.ca.lifetime.lock() = Duration::from_secs(10);
    let here = Some((folder.path(), "c1"));
    let host = host_of((server.clone(), calls.clone()), here).await;
    let leaf = next(&mut host.leaves.leaf(&web()), |leaf| leaf.is_some()).await;
    let leaf = leaf.expect("certified");
    host.tasks.cancel();
    host.tasks.join(LIMIT).await.expect("ended");

    let host = host_of((server.clone(), calls), here).await;
    let (ours, newer) = (server.ca.bundle(), crate::views::fake::FakeCa::default().bundle());
    let roots_pem = [newer.roots_pem, ours.roots_pem].concat();
    let active_root = newer.active_root;
    server.set(Topic::Roots, "", &TrustBundle { active_root, roots_pem, ..ours });
    let mut roots = host.leaves.shared.views.roots();
    while roots.current().value.is_none_or(|bundle| bundle.roots_pem.len() < 2) {
        tokio::time::timeout(LIMIT, roots.changed()).await.expect("the roots come");
    }
    let mut receiver = host.leaves.leaf(&web());
    assert_eq!(next(&mut receiver, |leaf| leaf.is_some()).await.as_ref(), Some(&leaf));
    next(&mut receiver, |newest| newest != Some(&leaf)).await.expect("renewed");
    assert!(clock_now() < leaf.valid_after.saturating_add(Duration::from_secs(5)), "soon");
    host.tasks.cancel();
}

#[tokio::test]
async fn a_kept_certificate_is_taken_only_if_peers_of_this_cluster_would() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, calls) = FakeServer::start().await;
    let host = host_of((server.clone(), calls), Some((folder.path(), "c1"))).await;
    let mut receiver = host.leaves.leaf(&web());
    let leaf = next(&mut receiver, |leaf| leaf.is_some()).await.expect("certified");
    host.tasks.cancel();
    host.tasks.join(LIMIT).await.expect("ended");
    let membership = &*host.leaves.shared.membership;
    let file = folder.path().join("leaves/web.kept");
    let bytes = std::fs::read(&file).expect("kept");
    let load = |membership: &Membership, trusted: TrustBundle, now| {
        std::fs::write(&file, &bytes).expect("written");
        let kept = KeptLeaves::load(folder.path().join("leaves"), membership, &[trusted], now);
        (kept.leaves.len(), file.exists())
    };
    let (ours, now) = (server.ca.bundle(), clock_now());
    assert_eq!(load(membership, ours.clone(), now), (1, true));
    assert_eq!(load(membership, ours.clone(), leaf.valid_before), (0, false), "expired");
    let theirs = crate::views::fake::FakeCa::default().bundle();
    assert_eq!(load(membership, theirs, now), (0, false), "nobody trusts it");
    let moved = Membership { datacenter: "dc2".parse().expect("one"), ..membership.clone() };
    assert_eq!(load(&moved, ours.clone(), now), (0, false), "another identity");
    let foreign = Membership { cluster_id: "c2".to_owned(), ..membership.clone() };
    assert_eq!(load(&foreign, ours, now), (0, false), "another cluster");
}

fn clock_now() -> Timestamp {
    weft_runtime::clock::wall()
}
