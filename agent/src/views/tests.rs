//! Views against a server that comes and goes.

use std::path::Path;
use std::time::Duration;

use weft_core::ca::TrustBundle;
use weft_proto::envelope;
use weft_proto::grpc::v1::watch_event::Answer;
use weft_proto::grpc::v1::{WatchDelta, WatchStart, WatchUnchanged};
use weft_runtime::digest;

use super::fake::FakeServer;
use super::*;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(10);

fn bundle(root: &str) -> TrustBundle {
    TrustBundle {
        trust_domain: "t.mesh".parse().expect("a trust domain"),
        active_root: root.to_owned(),
        roots: Vec::new(),
        roots_pem: Vec::new(),
        revoked: Vec::new(),
        retired: Vec::new(),
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

#[tokio::test]
async fn a_server_that_ends_every_stream_is_asked_ever_more_seldom() {
    use std::sync::atomic::Ordering;
    let (server, calls) = FakeServer::start().await;
    server.is_short.store(true, Ordering::SeqCst);
    let tasks = TaskTree::root("test");
    let started = weft_runtime::clock::instant();
    let _views = Views::start(calls, &tasks);
    let asked = async {
        while server.opened.load(Ordering::SeqCst) < 9 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(3 * LIMIT, asked).await.expect("it is asked on");
    // Eight first pauses take 800 ms at most; eight that grow take 6 s on average.
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
    tasks.cancel();
}

fn node(name: &str, address: &str) -> Node {
    let json = serde_json::json!({ "Node": name, "Address": address, "Datacenter": "dc1" });
    serde_json::from_value(json).expect("a node")
}

fn delta(from_index: u64, changed: &[Node], removed: &[&str]) -> Answer {
    let (changed, removed) = (envelope::encode(changed), envelope::encode(removed));
    Answer::Delta(WatchDelta { from_index, changed, removed })
}

fn names(slot: &Slot<Vec<Arc<Node>>>) -> Vec<String> {
    let nodes = slot.value.iter().flat_map(|nodes| nodes.iter());
    nodes.map(|node| format!("{}={}", node.name, node.address)).collect()
}

#[tokio::test]
async fn differences_bring_a_list_up_and_one_that_does_not_fit_has_it_sent_anew() {
    let (server, calls) = FakeServer::start().await;
    let tasks = TaskTree::root("test");
    let views = Views::start(calls, &tasks);
    let at = (Topic::Nodes, "");
    let value = |nodes: &[Node]| Answer::Value(envelope::encode(nodes));
    server.put_at(5, at, value(&[node("a", "1"), node("b", "1"), node("c", "1")]));
    let mut view = views.nodes();
    assert_eq!(view.first(LIMIT).await.index, Index(5));
    server.put_at(7, at, delta(5, &[node("b", "2"), node("d", "1")], &["a"]));
    let slot = until(&mut view, |slot| slot.index == Index(7)).await;
    assert_eq!(names(&slot), ["b=2", "c=1", "d=1"]);

    // From a value that is not here: the whole is asked for, under the same number.
    server.put_at(9, at, delta(8, &[], &["d"]));
    let whole = |start: &WatchStart| start.known_digest.is_empty() && start.takes_deltas;
    eventually(|| server.starts.lock().iter().filter(|start| whole(start)).count() >= 2).await;
    assert_eq!(names(&view.current()), ["b=2", "c=1", "d=1"], "the last value stays");
    server.put_at(10, at, value(&[node("b", "3")]));
    let slot = until(&mut view, |slot| slot.index == Index(10)).await;
    assert_eq!(names(&slot), ["b=3"]);
    tasks.cancel();
}

#[tokio::test]
async fn a_view_tells_what_it_has_and_takes_nothing_older() {
    let (server, calls) = FakeServer::start().await;
    let tasks = TaskTree::root("test");
    let views = Views::start(calls, &tasks);
    let at = (Topic::Nodes, "");
    server.put_at(5, at, Answer::Value(envelope::encode(&[node("a", "1")])));
    let mut view = views.nodes();
    view.first(LIMIT).await;

    // Another server, which has not come so far.
    server.kill();
    until(&mut view, |slot| !slot.is_live).await;
    server.put_at(4, at, Answer::Value(envelope::encode(&[node("a", "0")])));
    server.restart();
    eventually(|| server.starts.lock().len() == 2).await;
    let start = server.starts.lock()[1].clone();
    let known = digest::of_list([digest::of_bytes(&envelope::encode(&node("a", "1")))]);
    assert_eq!((start.known_index, &*start.known_digest), (5, &known[..]));
    server.set(Topic::Roots, "", &bundle("a"));
    views.roots().first(LIMIT).await;
    let slot = view.current();
    assert!(!slot.is_live, "it is not confirmed");
    assert_eq!((slot.index, names(&slot)), (Index(5), vec!["a=1".to_owned()]));

    // It has caught up, and the value is the same.
    server.put_at(6, at, Answer::Unchanged(WatchUnchanged {}));
    let slot = until(&mut view, |slot| slot.is_live).await;
    assert_eq!((slot.index, names(&slot)), (Index(5), vec!["a=1".to_owned()]));
    // Differences go on from there.
    server.put_at(8, at, delta(6, &[node("b", "1")], &[]));
    let slot = until(&mut view, |slot| slot.index == Index(8)).await;
    assert_eq!(names(&slot), ["a=1", "b=1"]);
    tasks.cancel();
}

#[tokio::test]
async fn what_servers_have_lost_for_good_is_given_up_after_a_while() {
    let (server, calls) = FakeServer::start().await;
    let tasks = TaskTree::root("test");
    let views = Views::start(calls, &tasks);
    let at = (Topic::Nodes, "");
    server.put_at(5, at, Answer::Value(envelope::encode(&[node("a", "1")])));
    let mut view = views.nodes();
    view.first(LIMIT).await;
    server.kill();
    until(&mut view, |slot| !slot.is_live).await;
    server.put_at(4, at, Answer::Value(envelope::encode(&[node("a", "0")])));
    let now = weft_runtime::clock::instant();
    let long_ago = now.checked_sub(Duration::from_secs(100)).expect("the machine is up for longer");
    views.shared.fall_behind(long_ago);
    assert!(views.shared.must_begin_anew(now));
    server.restart();
    let slot = until(&mut view, |slot| slot.is_live).await;
    assert_eq!((slot.index, names(&slot)), (Index(4), vec!["a=0".to_owned()]));
    assert!(!views.shared.must_begin_anew(now));
    tasks.cancel();
}

async fn kept(calls: Calls, folder: &Path, cluster_id: &str) -> (Views, TaskTree) {
    let tasks = TaskTree::root("test");
    let views = Views::start_kept(calls, (folder.join("views"), cluster_id), &tasks).await;
    (views.expect("started"), tasks)
}

async fn end(tasks: &TaskTree) {
    tasks.cancel();
    tasks.join(LIMIT).await.expect("the views end");
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("views")).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("readable").file_name();
    let mut names: Vec<String> =
        entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_value_outlives_the_agent_and_is_unconfirmed_until_a_server_speaks() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, calls) = FakeServer::start().await;
    server.set(Topic::Roots, "", &bundle("a"));
    server.set(Topic::Roots, "", &bundle("b"));
    let (views, tasks) = kept(calls.clone(), folder.path(), "c1").await;
    let before = views.roots().first(LIMIT).await;
    // What is not on disk yet is written when the agent ends.
    server.set(Topic::Nodes, "", &Vec::<u8>::new());
    views.nodes().first(LIMIT).await;
    end(&tasks).await;
    assert_eq!(files(folder.path()), ["nodes.kept", "roots.kept"]);

    server.kill();
    let (views, tasks) = kept(calls, folder.path(), "c1").await;
    views.settled(LIMIT).await;
    let mut view = views.roots();
    let slot = view.current();
    assert_eq!((slot.value, slot.index), (before.value, before.index));
    assert!(!slot.is_live && slot.problem.is_none());
    server.restart();
    server.set(Topic::Roots, "", &bundle("c"));
    let slot = until(&mut view, |slot| slot.is_live).await;
    assert_eq!(slot.value.as_deref(), Some(&bundle("c")));
    end(&tasks).await;
}

#[tokio::test]
async fn with_a_server_what_is_kept_is_served_once_it_is_confirmed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, calls) = FakeServer::start().await;
    server.set(Topic::Roots, "", &bundle("a"));
    let (views, tasks) = kept(calls.clone(), folder.path(), "c1").await;
    views.roots().first(LIMIT).await;
    end(&tasks).await;
    server.set(Topic::Roots, "", &bundle("b"));
    let (views, tasks) = kept(calls, folder.path(), "c1").await;
    views.settled(LIMIT).await;
    let slot = views.roots().current();
    assert!(slot.is_live);
    assert_eq!(slot.value.as_deref(), Some(&bundle("b")));
    end(&tasks).await;
}

#[tokio::test]
async fn the_file_of_a_view_goes_with_it_and_names_of_nobody_have_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, calls) = FakeServer::start().await;
    let (views, tasks) = kept(calls.clone(), folder.path(), "c1").await;
    let (web, nobody) = ("web".parse().expect("a name"), "nobody".parse().expect("a name"));
    let (mut connect, mut absent) = (views.connect(&web), views.service(&nobody));
    connect.first(LIMIT).await;
    absent.first(LIMIT).await;
    eventually(|| files(folder.path()) == ["connect.web.kept"]).await;
    connect.retire();
    eventually(|| files(folder.path()).is_empty()).await;
    end(&tasks).await;
    drop(server);
}

#[tokio::test]
async fn what_nobody_asks_for_after_a_restart_ends_after_a_longer_while() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, calls) = FakeServer::start().await;
    server.set(Topic::Roots, "", &bundle("a"));
    let (views, tasks) = kept(calls.clone(), folder.path(), "c1").await;
    views.roots().first(LIMIT).await;
    end(&tasks).await;
    let (views, tasks) = kept(calls, folder.path(), "c1").await;
    views.settled(LIMIT).await;
    let now = weft_runtime::clock::instant();
    views.shared.sweep(now);
    views.shared.sweep(now + Duration::from_secs(500));
    assert_eq!(views.shared.len(), 1);
    views.shared.sweep(now + Duration::from_secs(700));
    assert_eq!(views.shared.len(), 0);
    eventually(|| files(folder.path()).is_empty()).await;
    end(&tasks).await;
}

#[tokio::test]
async fn values_of_another_cluster_and_damaged_ones_are_not_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, calls) = FakeServer::start().await;
    server.set(Topic::Roots, "", &bundle("a"));
    let (views, tasks) = kept(calls.clone(), folder.path(), "c1").await;
    views.roots().first(LIMIT).await;
    end(&tasks).await;
    let keep = crate::keep::Keep::open(folder.path().join("views"), "c2", |_, _| {
        panic!("a file of another cluster was shown")
    });
    for (name, content) in [("roots", &b"\0\0\0\0\0\0\0\x01\x01\xc0"[..]), ("nonsense", b"")] {
        keep.put(name, content, crate::keep::Durability::Process).expect("written");
    }
    server.kill();
    let (views, tasks) = kept(calls, folder.path(), "c2").await;
    assert!(!views.roots().current().is_answered());
    assert_eq!(files(folder.path()), ["nonsense.kept.damaged", "roots.kept.damaged"]);
    end(&tasks).await;
}
