//! Consensus as a whole: folding, snapshots, restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use weft_core::ca::TrustBundle;
use weft_core::catalog::CatalogRegistration;
use weft_core::identity::SpiffeId;
use weft_core::state::{Change, Command, State};
use weft_runtime::clock;
use weft_runtime::disk::RealDisk;
use weft_runtime::store::Store;
use weft_runtime::task::TaskTree;

use super::consensus::{Consensus, ConsensusOptions};
use super::state_machine::Audience;
use super::types::Member;
use crate::ca::{SealKey, Signer, make_root};

const LIMIT: Duration = Duration::from_secs(20);

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

struct Node {
    consensus: Consensus,
    newest: Arc<Newest>,
    tasks: TaskTree,
}

impl Node {
    async fn start(dir: &Path) -> Self {
        let tasks = TaskTree::root("consensus");
        let seal = SealKey::generate();
        let id = SpiffeId::parse("spiffe://a.mesh/agent/server/dc/dc1/id/s1").expect("an id");
        let root = make_root(&id.trust_domain, &seal, clock::wall()).expect("a root");
        let bundle = TrustBundle {
            trust_domain: id.trust_domain.clone(),
            active_root: root.fingerprint.clone(),
            roots_pem: vec![root.certificate_pem.clone()],
        };
        let signer = Signer::make(&id, &seal, &root, &bundle, &tasks).expect("a signer");
        let newest = Arc::<Newest>::default();
        let options = ConsensusOptions {
            id: 1,
            disk: Arc::new(RealDisk),
            store: &Store::open(&dir.join("store")).expect("a store"),
            dir,
            audience: newest.clone(),
            tls: signer.client_tls(),
        };
        let consensus = Consensus::start(options, &tasks).await.expect("started");
        let me = Member { name: "s1".to_owned(), address: "127.0.0.1:1".to_owned() };
        consensus.found(me).await.expect("founded");
        consensus.wait_for_leader(LIMIT).await.expect("itself");
        consensus.read_barrier().await.expect("leads");
        Self { consensus, newest, tasks }
    }

    async fn stop(self) -> Vec<u8> {
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
