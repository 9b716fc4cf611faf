//! openraft's own tests of storage, against ours.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use weft_core::state::{Change, State};
use weft_runtime::store::Store;
use weft_runtime::task::TaskTree;

use super::log::Log;
use super::state_machine::{Audience, StateMachine};
use super::types::{StorageError, TypeConfig};

struct Deaf;

impl Audience for Deaf {
    fn applied(&self, _state: Arc<State>, _changes: Vec<Change>) {}
    fn replaced(&self, _state: Arc<State>) {}
}

struct InTempDir;

impl StoreBuilder<TypeConfig, Log, StateMachine, tempfile::TempDir> for InTempDir {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, StateMachine), StorageError> {
        let dir = tempfile::tempdir().expect("a directory");
        let tasks = TaskTree::root("suite");
        let store = Store::open(&dir.path().join("store")).expect("a new store");
        let log = Log::open(&store, &tasks).expect("a new log");
        let snapshots = dir.path().join("snapshots");
        let machine =
            StateMachine::open(&snapshots, Arc::new(Deaf), &tasks).expect("a new state machine");
        Ok((dir, log, machine))
    }
}

#[test]
fn the_storage_suite_of_openraft_passes() {
    Suite::test_all(InTempDir).expect("every test of the suite");
}
