//! Drives `core::state`: committed entries in, answers out, changes to whoever waits for them.
//!
//! The state is in memory; what survives is the log and the snapshots, which are written in the
//! background from a clone that costs nothing.

use std::io::Cursor;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, Snapshot,
};
use weft_core::index::Index;
use weft_core::state::{Change, State};
use weft_runtime::task::TaskTree;

use super::log::storage_error;
use super::snapshot::{self, SnapshotDamage, Snapshots};
use super::types::{
    Applied, Batch, Entry, LogId, Membership, SnapshotMeta, StorageError, TypeConfig,
};

/// Commands applied before other tasks get the thread: some 10 µs each.
const APPLIED_AT_A_STRETCH: usize = 32;

/// Those who follow the state.
pub(crate) trait Audience: Send + Sync + 'static {
    /// Takes the state after an entry, with what the entry changed. Must not block.
    fn applied(&self, state: Arc<State>, changes: Vec<Change>);
    /// Takes a state that is not the successor of the last one. Must not block.
    fn replaced(&self, state: Arc<State>);
}

/// The state machine of consensus.
pub(crate) struct StateMachine {
    applied: Option<LogId>,
    membership: Membership,
    state: State,
    audience: Arc<dyn Audience>,
    snapshots: Snapshots,
    tasks: TaskTree,
}

impl StateMachine {
    /// Starts from the newest snapshot, or from nothing.
    pub(crate) fn open(
        dir: &std::path::Path,
        audience: Arc<dyn Audience>,
        tasks: &TaskTree,
    ) -> Result<Self, SnapshotDamage> {
        let snapshots = Snapshots::open(dir)?;
        let (meta, state) = match snapshots.newest()? {
            Some(bytes) => snapshot::decode(&bytes)?,
            None => (SnapshotMeta::default(), State::default()),
        };
        audience.replaced(Arc::new(state.clone()));
        Ok(Self {
            applied: meta.last_log_id,
            membership: meta.last_membership,
            state,
            audience,
            snapshots,
            tasks: tasks.clone(),
        })
    }

    /// Returns the last entry in the state.
    pub(super) fn applied(&self) -> Option<LogId> {
        self.applied
    }

    async fn apply_batch(
        &mut self,
        index: Index,
        batch: Batch,
        changes: &mut Vec<Change>,
    ) -> Applied {
        let commands = Arc::unwrap_or_clone(batch.commands);
        let mut answers = Vec::with_capacity(commands.len());
        for (at, command) in commands.into_iter().enumerate() {
            if at % APPLIED_AT_A_STRETCH == APPLIED_AT_A_STRETCH - 1 {
                // Nobody sees the state before the batch is done; only the thread is lent.
                tokio::task::yield_now().await;
            }
            let (answer, mut changed) = self.state.apply(index, batch.now, command);
            answers.push(answer);
            changes.append(&mut changed);
        }
        Applied { index, answers }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        let mut changes = Vec::new();
        for entry in entries {
            let index = Index(entry.log_id.index);
            self.applied = Some(entry.log_id);
            replies.push(match entry.payload {
                EntryPayload::Blank => Applied { index, answers: Vec::new() },
                EntryPayload::Normal(batch) => self.apply_batch(index, batch, &mut changes).await,
                EntryPayload::Membership(membership) => {
                    self.membership = Membership::new(Some(entry.log_id), membership);
                    Applied { index, answers: Vec::new() }
                }
            });
        }
        // Before the answers go out, so that whoever gets one reads its own write.
        self.audience.applied(Arc::new(self.state.clone()), changes);
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            meta: describe(self.applied, self.membership.clone()),
            state: self.state.clone(),
            snapshots: self.snapshots.clone(),
            tasks: self.tasks.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let (snapshots, meta_kept) = (self.snapshots.clone(), meta.clone());
        let work = self.tasks.blocking(move || {
            let bytes = snapshot.into_inner();
            let (_, state) = snapshot::decode(&bytes)?;
            snapshots.save(&meta_kept, &bytes)?;
            Ok::<State, SnapshotDamage>(state)
        });
        self.state = finish(work.await, ErrorVerb::Write)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.audience.replaced(Arc::new(self.state.clone()));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let snapshots = self.snapshots.clone();
        let work = self.tasks.blocking(move || {
            let Some(bytes) = snapshots.newest()? else { return Ok(None) };
            let (meta, _) = snapshot::decode(&bytes)?;
            Ok::<_, SnapshotDamage>(Some((meta, bytes)))
        });
        let newest = finish(work.await, ErrorVerb::Read)?;
        Ok(newest.map(|(meta, bytes)| Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) }))
    }
}

/// Writes one snapshot in the background, from a clone of the state.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    state: State,
    snapshots: Snapshots,
    tasks: TaskTree,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let (meta, state) = (self.meta.clone(), self.state.clone());
        let snapshots = self.snapshots.clone();
        let work = self.tasks.blocking(move || {
            let bytes = snapshot::encode(&meta, &state);
            snapshots.save(&meta, &bytes)?;
            Ok::<_, SnapshotDamage>(bytes)
        });
        let bytes = finish(work.await, ErrorVerb::Write)?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Box::new(Cursor::new(bytes)) })
    }
}

fn describe(applied: Option<LogId>, membership: Membership) -> SnapshotMeta {
    let (term, index) = applied.map_or((0, 0), |id| (id.leader_id.term, id.index));
    SnapshotMeta {
        last_log_id: applied,
        last_membership: membership,
        snapshot_id: format!("{term}-{index}"),
    }
}

// The error is openraft's own, and its traits ask for it by value.
#[allow(clippy::result_large_err)]
fn finish<T>(
    outcome: Result<Result<T, SnapshotDamage>, weft_runtime::task::TaskFailure>,
    verb: ErrorVerb,
) -> Result<T, StorageError> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(damage)) => Err(storage_error(ErrorSubject::Store, verb, &damage)),
        Err(failure) => {
            Err(storage_error(ErrorSubject::Store, verb, &std::io::Error::other(failure.message)))
        }
    }
}
