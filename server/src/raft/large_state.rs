//! A snapshot of a large state beside writes: how long they wait. In a debug build the state is
//! small and the test only proves that writes go on;
//! `cargo test --release -p weft-server --lib raft::large_state -- --nocapture` tells figures
//! of 172,000 service instances.

use std::time::Duration;

use weft_core::catalog::CatalogRegistration;
use weft_core::state::Command;
use weft_runtime::clock;

use super::snapshot;
use super::tests::{LIMIT, Node};
use crate::config::StorageConfig;

const NODES: usize = if cfg!(debug_assertions) { 100 } else { 10_000 };
const INSTANCES_PER_NODE: usize = if cfg!(debug_assertions) { 5 } else { 17 };
/// Registrations on their way at once while the state is filled.
const AT_ONCE: usize = 500;

fn register(number: usize, instances: usize) -> Command {
    let services: Vec<_> = (0..instances)
        .map(|at| {
            serde_json::json!({
                "ID": format!("service-{at}-{number}"),
                "Service": format!("service-{}", (number + at) % 1000),
                "Port": 8000 + at,
                "Tags": ["v1", "primary"],
            })
        })
        .collect();
    let registration: CatalogRegistration = serde_json::from_value(serde_json::json!({
        "node": {
            "Node": format!("node-{number}"),
            "Address": format!("10.1.{}.{}", number / 250, number % 250),
            "Datacenter": "dc1",
        },
        "services": services,
    }))
    .expect("a registration");
    Command::Register(registration)
}

/// The longest and the median wait of writes one after another.
#[derive(Debug, Clone, Copy)]
struct Waits {
    longest: Duration,
    median: Duration,
    count: usize,
}

impl Waits {
    fn of(mut waits: Vec<Duration>) -> Self {
        waits.sort();
        let median = waits.get(waits.len() / 2).copied().unwrap_or_default();
        Self { longest: waits.last().copied().unwrap_or_default(), median, count: waits.len() }
    }
}

async fn write_until(node: &Node, mut is_over: impl FnMut(usize) -> bool) -> Waits {
    let mut waits = Vec::new();
    while !is_over(waits.len()) {
        let started = clock::instant();
        node.consensus.propose(register(waits.len() % 50, 1)).await.expect("written");
        waits.push(clock::instant().duration_since(started));
    }
    Waits::of(waits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_a_large_state_holds_no_write_up() {
    let here = std::env::current_exe().expect("this program");
    let dir = tempfile::tempdir_in(here.parent().expect("a directory")).expect("a directory");
    let config = StorageConfig {
        snapshot_entries: u64::MAX,
        snapshot_log_bytes: u64::MAX,
        ..StorageConfig::default()
    };
    let node = Node::start_with(dir.path(), config).await;
    let numbers: Vec<usize> = (0..NODES).collect();
    for some in numbers.chunks(AT_ONCE) {
        let writes =
            some.iter().map(|at| node.consensus.propose(register(*at, INSTANCES_PER_NODE)));
        for written in futures::future::join_all(writes).await {
            written.expect("written");
        }
    }
    let quiet = write_until(&node, |written| written == 300).await;
    node.consensus.raft.trigger().snapshot().await.expect("asked for");
    let metrics = node.consensus.raft.metrics();
    let started = clock::instant();
    let busy = write_until(&node, |_| {
        assert!(clock::instant().duration_since(started) < LIMIT * 3, "no snapshot in time");
        metrics.borrow().snapshot.is_some()
    })
    .await;
    let took = clock::instant().duration_since(started);
    let state = node.newest();
    let digest_started = clock::instant();
    snapshot::digest(&state);
    let digest_took = clock::instant().duration_since(digest_started);
    println!(
        "{} instances, a snapshot of {} bytes in {took:?}, digest in {digest_took:?}",
        NODES * INSTANCES_PER_NODE,
        node.consensus.storage().standing().snapshot_bytes,
    );
    for (when, waits) in [("quiet", quiet), ("beside the snapshot", busy)] {
        let Waits { longest, median, count } = waits;
        println!("{when}: {count} writes, median {median:?}, longest {longest:?}");
    }
    assert!(busy.longest < Duration::from_secs(2), "{busy:?}");
    node.stop().await;
}
