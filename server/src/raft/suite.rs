//! openraft's own tests of storage, against ours.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use weft_core::state::{Change, State};
use weft_runtime::disk::RealDisk;
use weft_runtime::store::Store;
use weft_runtime::task::TaskTree;

use super::gauge::Gauges;
use super::log::Log;
use super::snapshot::Snapshots;
use super::state_machine::{Audience, StateMachine};
use super::types::{StorageError, TypeConfig};

struct Deaf;

impl Audience for Deaf {
    fn applied(&self, _state: Arc<State>, _changes: Vec<Change>) {}
    fn replaced(&self, _state: Arc<State>) {}
}

#[derive(Clone, Copy)]
enum Medium {
    Segments,
    Tables,
}

impl StoreBuilder<TypeConfig, Log, StateMachine, tempfile::TempDir> for Medium {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, StateMachine), StorageError> {
        let dir = tempfile::tempdir().expect("a directory");
        let tasks = TaskTree::root("suite");
        let store = Store::open(&dir.path().join("store")).expect("a new store");
        let log = match self {
            Self::Segments => Log::open(
                Arc::new(RealDisk),
                &dir.path().join("log"),
                &store,
                Gauges::default(),
                &tasks,
            ),
            Self::Tables => Log::open_tables(&store, &tasks),
        };
        let log = log.expect("a new log");
        let snapshots = Snapshots::open(Arc::new(RealDisk), &dir.path().join("snapshots"));
        let snapshots = snapshots.expect("a new directory");
        let machine =
            StateMachine::open(snapshots, None, Arc::new(Deaf), Gauges::default(), &tasks);
        let machine = machine.expect("a new state machine");
        Ok((dir, log, machine))
    }
}

#[test]
fn the_storage_suite_of_openraft_passes_on_segments() {
    Suite::test_all(Medium::Segments).expect("every test of the suite");
}

#[test]
fn the_storage_suite_of_openraft_passes_on_tables() {
    Suite::test_all(Medium::Tables).expect("every test of the suite");
}
