//! Views against a server that comes and goes.

use std::time::Duration;

use weft_core::ca::TrustBundle;

use super::fake::FakeServer;
use super::*;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(10);

fn bundle(root: &str) -> TrustBundle {
    TrustBundle {
        trust_domain: "t.mesh".parse().expect("a trust domain"),
        active_root: root.to_owned(),
        roots_pem: Vec::new(),
    }
}

async fn until<T>(view: &mut View<T>, condition: impl Fn(&Slot<T>) -> bool) -> Slot<T> {
    let reached = view.slot.wait_for(|slot| condition(slot));
    tokio::time::timeout(LIMIT, reached)
        .await
        .expect("the condition is reached")
        .expect("the view lives")
        .clone()
}

async fn eventually(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, reached).await.expect("the condition is reached");
}

#[tokio::test]
async fn a_view_follows_its_value_through_problems_and_restarts() {
    let (server, calls) = FakeServer::start().await;
    let tasks = TaskTree::root("test");
    let views = Views::start(calls, &tasks);
    server.set(Topic::Roots, "", &bundle("a"));

    let mut view = views.roots();
    let slot = view.first(LIMIT).await;
    assert_eq!(slot.value.as_deref(), Some(&bundle("a")));
    assert!(slot.is_live && views.is_connected());

    server.set_problem(Topic::Roots, "", "being rotated");
    let slot = until(&mut view, |slot| slot.problem.is_some()).await;
    assert_eq!(slot.value.as_deref(), Some(&bundle("a")), "the last value stays");
    assert_eq!(slot.problem.as_deref(), Some("being rotated"));

    server.kill();
    let slot = until(&mut view, |slot| !slot.is_live).await;
    assert_eq!(slot.value.as_deref(), Some(&bundle("a")));
    // A new view of the same thing sees the last value at once, also without a server.
    assert_eq!(views.roots().current().value.as_deref(), Some(&bundle("a")));

    server.restart();
    server.set(Topic::Roots, "", &bundle("b"));
    let slot = until(&mut view, |slot| slot.is_live && slot.problem.is_none()).await;
    assert_eq!(slot.value.as_deref(), Some(&bundle("b")));
    tasks.cancel();
    tasks.join(LIMIT).await.expect("the views end");
}

#[tokio::test]
async fn views_of_one_thing_share_a_watch_that_ends_when_retired() {
    let (server, calls) = FakeServer::start().await;
    let tasks = TaskTree::root("test");
    let views = Views::start(calls, &tasks);
    let web = "web".parse().expect("a name");
    let (first, second) = (views.service(&web), views.service(&web));
    eventually(|| server.watchers(Topic::Service, "web") == 1).await;
    first.retire();
    assert_eq!(views.shared.len(), 1, "another view is left");
    second.retire();
    assert_eq!(views.shared.len(), 0);
    eventually(|| server.watchers(Topic::Service, "web") == 0).await;
    tasks.cancel();
}

#[tokio::test]
async fn a_watch_without_readers_ends_after_a_while() {
    let (server, calls) = FakeServer::start().await;
    let tasks = TaskTree::root("test");
    let views = Views::start(calls, &tasks);
    drop(views.nodes());
    eventually(|| server.watchers(Topic::Nodes, "") == 1).await;
    let now = weft_runtime::clock::instant();
    views.shared.sweep(now);
    assert_eq!(views.shared.len(), 1);
    let kept = views.nodes();
    views.shared.sweep(now + Duration::from_secs(100));
    assert_eq!(views.shared.len(), 1, "somebody looks");
    drop(kept);
    views.shared.sweep(now + Duration::from_secs(100));
    assert_eq!(views.shared.len(), 1, "it became idle just now");
    views.shared.sweep(now + Duration::from_secs(200));
    assert_eq!(views.shared.len(), 0);
    tasks.cancel();
}

#[tokio::test]
async fn without_a_server_a_first_value_is_waited_for_no_longer_than_asked() {
    let (server, calls) = FakeServer::start().await;
    server.kill();
    let tasks = TaskTree::root("test");
    let views = Views::start(calls, &tasks);
    let mut view = views.nodes();
    assert!(!view.first(Duration::from_millis(20)).await.is_answered());
    assert!(!views.is_connected());
    tasks.cancel();
}

#[tokio::test]
async fn an_unreadable_value_is_a_problem_and_leaves_the_last_one() {
    let (server, calls) = FakeServer::start().await;
    let tasks = TaskTree::root("test");
    let views = Views::start(calls, &tasks);
    server.set(Topic::Roots, "", &bundle("a"));
    let mut view = views.roots();
    view.first(LIMIT).await;
    server.set(Topic::Roots, "", &7);
    let slot = until(&mut view, |slot| slot.problem.is_some()).await;
    assert_eq!(slot.value.as_deref(), Some(&bundle("a")));
    tasks.cancel();
}
