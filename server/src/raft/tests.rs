//! Consensus as a whole: folding, snapshots, restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use weft_core::ca::{CaSettings, TrustBundle};
use weft_core::catalog::CatalogRegistration;
use weft_core::identity::SpiffeId;
use weft_core::state::{Change, Command, State};
use weft_runtime::clock;
use weft_runtime::disk::{Disk, Fault, RealDisk, SimulatedDisk};
use weft_runtime::store::Store;
use weft_runtime::task::TaskTree;

use super::consensus::{Consensus, ConsensusOptions};
use super::error::ProposeError;
use super::state_machine::Audience;
use super::types::Member;
use crate::ca::{SealKey, Signer, make_root};
use crate::config::StorageConfig;

pub(super) const LIMIT: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Newest(Mutex<Arc<State>>);

impl Audience for Newest {
    fn applied(&self, state: Arc<State>, _changes: Vec<Change>) {
        *self.0.lock() = state;
    }
    fn replaced(&self, state: Arc<State>) {
        *self.0.lock() = state;
    }
}

pub(super) struct Node {
    pub(super) consensus: Consensus,
    newest: Arc<Newest>,
    tasks: TaskTree,
}

impl Node {
    async fn start(dir: &Path) -> Self {
        Self::start_with(dir, StorageConfig::default()).await
    }

    pub(super) async fn start_with(dir: &Path, storage: StorageConfig) -> Self {
        Self::start_on(Arc::new(RealDisk), dir, storage).await
    }

    async fn start_on(disk: Arc<dyn Disk>, dir: &Path, storage: StorageConfig) -> Self {
        let tasks = TaskTree::root("consensus");
        let seal = SealKey::generate();
        let id = SpiffeId::parse("spiffe://a.mesh/agent/server/dc/dc1/id/s1").expect("an id");
        let root = make_root(&id.trust_domain, &seal, clock::wall()).expect("a root");
        let bundle = TrustBundle {
            trust_domain: id.trust_domain.clone(),
            active_root: root.fingerprint.clone(),
            roots: Vec::new(),
            roots_pem: vec![root.certificate_pem.clone()],
            revoked: Vec::new(),
            retired: Vec::new(),
        };
        let terms = CaSettings::default().terms(Duration::from_secs(3600));
        let signer = Signer::make(&id, &seal, (&root, &bundle), None, (terms, &tasks));
        let signer = signer.await.expect("a signer");
        let newest = Arc::<Newest>::default();
        let options = ConsensusOptions {
            id: 1,
            disk,
            store: &Store::open(&dir.join("store")).expect("a store"),
            dir,
            storage,
            audience: newest.clone(),
            tls: signer.client_tls(),
        };
        let consensus = Consensus::start(options, &tasks).await.expect("started");
        let me = Member {
            name: "s1".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            is_read_replica: false,
        };
        consensus.found(me).await.expect("founded");
        consensus.wait_for_leader(LIMIT).await.expect("itself");
        let leads = tokio::time::timeout(LIMIT, async {
            // On a busy machine the first sign of a majority may come a moment later.
            while consensus.read_barrier().await.is_err() {
                tokio::task::yield_now().await;
            }
        });
        leads.await.expect("leads");
        Self { consensus, newest, tasks }
    }

    /// Returns the newest state.
    pub(super) fn newest(&self) -> Arc<State> {
        self.newest.0.lock().clone()
    }

    pub(super) async fn stop(self) -> Vec<u8> {
        let state = weft_proto::envelope::encode(&self.newest.0.lock().to_snapshot());
        self.tasks.cancel();
        self.consensus.stop().await;
        drop(self.consensus);
        self.tasks.join(LIMIT).await.expect("every task ends");
        state.to_vec()
    }
}

fn register(number: usize) -> Command {
    let registration: CatalogRegistration = serde_json::from_value(serde_json::json!({
        "node": { "Node": format!("n{number}"), "Address": "10.0.0.1", "Datacenter": "dc1" },
        "services": [{ "ID": "web", "Service": "web" }],
    }))
    .expect("a registration");
    Command::Register(registration)
}

#[tokio::test]
async fn commands_that_wait_together_share_an_entry_and_a_restart_finds_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path()).await;
    let writes = (0..200).map(|number| node.consensus.propose(register(number)));
    let written = futures::future::join_all(writes).await;
    let mut indexes: Vec<_> = written.into_iter().map(|it| it.expect("written").0).collect();
    indexes.dedup();
    assert!(indexes.len() < 50, "{} entries for 200 commands", indexes.len());

    // A snapshot, the log before it purged, and more after it.
    node.consensus.raft.trigger().snapshot().await.expect("asked for");
    let at = indexes.last().expect("some").0;
    let wait = node.consensus.raft.wait(Some(LIMIT));
    wait.metrics(|metrics| metrics.snapshot.is_some_and(|id| id.index >= at), "a snapshot")
        .await
        .expect("a snapshot");
    node.consensus.raft.trigger().purge_log(at).await.expect("asked for");
    let wait = node.consensus.raft.wait(Some(LIMIT));
    wait.metrics(|metrics| metrics.purged.is_some_and(|id| id.index >= at), "a shorter log")
        .await
        .expect("a shorter log");
    for number in 200..210 {
        node.consensus.propose(register(number)).await.expect("written");
    }
    let before = node.stop().await;

    let node = Node::start(dir.path()).await;
    let nodes = node.newest.0.lock().nodes().1.len();
    assert_eq!(nodes, 210);
    // A new leader's first entry is empty: the state is the same to the last byte.
    assert_eq!(node.stop().await, before);
}

#[tokio::test]
async fn who_asks_where_servers_are_hears_of_a_move_before_the_cluster_knows() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path()).await;
    let addresses = |node: &Node| -> Vec<String> {
        node.consensus.members().into_iter().map(|member| member.address).collect()
    };
    assert_eq!(addresses(&node), ["127.0.0.1:1"]);
    let me =
        Member { name: "s1".to_owned(), address: "127.0.0.1:2".to_owned(), is_read_replica: false };
    node.consensus.found_at(me);
    assert_eq!(addresses(&node), ["127.0.0.1:2"]);
    node.stop().await;
}

#[tokio::test]
async fn the_log_is_bounded_in_bytes_and_reaches_back_to_the_snapshot_before_the_last() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = StorageConfig {
        snapshot_entries: u64::MAX,
        snapshot_interval: Duration::ZERO,
        snapshot_log_bytes: 20_000,
        disk_reserve_bytes: 0,
    };
    let node = Node::start_with(dir.path(), config.clone()).await;
    let written = tokio::time::timeout(LIMIT, async {
        // One and the same host, so that the state stays small and the log grows.
        while node.consensus.storage().log().purged().is_none_or(|id| id.index < 300) {
            node.consensus.propose(register(0)).await.expect("written");
        }
    });
    written.await.expect("snapshots and purges in time");
    let standing = node.consensus.storage().standing();
    assert!(standing.snapshot_index > 300 && standing.snapshot_bytes > 0, "{standing:?}");
    let before = node.stop().await;

    // Should the newest snapshot be damaged, the one before it and the log are enough.
    let snapshots = dir.path().join("snapshots");
    let mut names: Vec<_> = std::fs::read_dir(&snapshots)
        .expect("a directory")
        .map(|file| file.expect("a file").path())
        // Not one that was being written when the server was stopped.
        .filter(|path| path.extension().is_some_and(|ending| ending == "snap"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    std::fs::write(&names[1], b"damaged").expect("written");
    let node = Node::start_with(dir.path(), config).await;
    assert_eq!(node.stop().await, before);
}

#[tokio::test]
async fn while_the_disk_is_nearly_full_nothing_new_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = SimulatedDisk::default();
    let options = StorageConfig { disk_reserve_bytes: 10 << 20, ..StorageConfig::default() };
    let node = Node::start_on(Arc::new(disk.clone()), dir.path(), options).await;
    node.consensus.propose(register(1)).await.expect("written");
    disk.set_capacity(Some(disk.used() + (9 << 20)));
    let refused = tokio::time::timeout(LIMIT, async {
        loop {
            if let Err(error) = node.consensus.propose(register(2)).await {
                return error;
            }
        }
    });
    let refused = refused.await.expect("noticed in time");
    assert!(matches!(refused, ProposeError::DiskFull { .. }), "{refused:?}");
    node.consensus.read_barrier().await.expect("still leads, and reads are answered");
    disk.set_capacity(None);
    let written = tokio::time::timeout(LIMIT, async {
        while node.consensus.propose(register(3)).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    written.await.expect("goes on by itself");
    node.stop().await;
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_and_the_reason_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = SimulatedDisk::default();
    let node = Node::start_on(Arc::new(disk.clone()), dir.path(), StorageConfig::default()).await;
    node.consensus.propose(register(1)).await.expect("written");
    // From the next call but one on: within a write of the log, or before it.
    disk.plan(2, Fault::Cut);
    let failed = tokio::time::timeout(LIMIT, async {
        loop {
            if let Err(error) = node.consensus.propose(register(2)).await {
                return error;
            }
        }
    });
    failed.await.expect("noticed in time");
    for number in 3..6 {
        let error = node.consensus.propose(register(number)).await.expect_err("it has stopped");
        let told = error.to_string();
        assert!(told.contains("simulated") && told.contains("restart"), "{told}");
    }
    assert!(node.consensus.storage().standing().has_failed);
    node.stop().await;
    let node = Node::start_on(Arc::new(disk.image()), dir.path(), StorageConfig::default()).await;
    let names: Vec<String> = {
        let state = node.newest.0.lock().clone();
        state.nodes().1.iter().map(|node| node.name.to_string()).collect()
    };
    assert_eq!(names.first().map(String::as_str), Some("n1"), "{names:?}");
    assert!(!names.iter().any(|name| ["n3", "n4", "n5"].contains(&name.as_str())), "{names:?}");
    node.stop().await;
}
