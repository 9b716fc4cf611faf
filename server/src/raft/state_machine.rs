//! Drives `core::state`: committed entries in, answers out, changes to whoever waits for them.
//!
//! The state is in memory; what survives is the log and the snapshots, which are written in the
//! background from a clone that costs nothing.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::RaftStateMachine;
use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, Snapshot,
};
use tokio::sync::watch;
use tracing::{error, warn};
use weft_core::index::Index;
use weft_core::state::{
    Answer, Answered, Change, Command, GroupId, Recalled, Refusal, RestoreCommand, SessionCommand,
    State,
};
use weft_core::time::{Span, Timestamp};
use weft_runtime::backoff::Backoff;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy, knob};

use super::gauge::Gauges;
use super::log::storage_error;
use super::snapshot::{self, SnapshotDamage, SnapshotData, Snapshots};
use super::types::{
    Applied, Batch, Entry, Group, LogId, Membership, SnapshotMeta, StorageError, TypeConfig,
};

/// Commands applied before other tasks get the thread: some 10 µs each.
const APPLIED_AT_A_STRETCH: usize = 32;

/// How long after a snapshot that could not be written the next try comes.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Those who follow the state.
pub(crate) trait Audience: Send + Sync + 'static {
    /// Takes the state after an entry, with what the entry changed. Must not block.
    fn applied(&self, state: Arc<State>, changes: Vec<Change>);
    /// Takes a state that is not the successor of the last one. Must not block.
    fn replaced(&self, state: Arc<State>);
}

/// What some entries came to, for those who follow the state.
#[derive(Default)]
struct News {
    changes: Vec<Change>,
    /// Whether the state is another one altogether.
    replaced: bool,
}

/// The state machine of consensus.
pub(crate) struct StateMachine {
    applied: Option<LogId>,
    membership: Membership,
    state: State,
    audience: Arc<dyn Audience>,
    /// The last index that the audience has seen; changes before answers go out.
    progress: watch::Sender<u64>,
    snapshots: Snapshots,
    gauges: Gauges,
    tasks: TaskTree,
}

impl StateMachine {
    /// Follows the last index that readers see.
    pub(super) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// Starts from the newest snapshot that a log which begins after `purged` completes, or from
    /// nothing.
    pub(crate) fn open(
        snapshots: Snapshots,
        purged: Option<LogId>,
        audience: Arc<dyn Audience>,
        gauges: Gauges,
        tasks: &TaskTree,
    ) -> Result<Self, SnapshotDamage> {
        let (meta, state) = snapshots.recall(purged)?;
        audience.replaced(Arc::new(state.clone()));
        Ok(Self {
            applied: meta.last_log_id,
            membership: meta.last_membership,
            state,
            audience,
            progress: watch::Sender::new(meta.last_log_id.map_or(0, |id| id.index)),
            snapshots,
            gauges,
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
        news: &mut News,
    ) -> Result<Applied, StorageError> {
        let mut groups = Vec::with_capacity(batch.groups.len());
        for group in batch.groups {
            groups.push(match self.recall(group.id) {
                Recalled::Answered(answered) => Some(answered),
                Recalled::Late => None,
                Recalled::New => {
                    let id = group.id;
                    let answers = self.apply_group((index, batch.now), group, news).await?;
                    let answered = Arc::new(Answered { index, answers });
                    self.state.remember(id, batch.now, answered.clone());
                    Some(answered)
                }
            });
        }
        Ok(Applied { groups })
    }

    /// Returns whether a group has come before.
    fn recall(&self, id: GroupId) -> Recalled {
        match self.state.recall(id) {
            Recalled::Answered(_) if knob("bug: writes are repeated", 0) == 1 => Recalled::New,
            recalled => recalled,
        }
    }

    async fn apply_group(
        &mut self,
        (index, now): (Index, Timestamp),
        group: Group,
        news: &mut News,
    ) -> Result<Vec<Answer>, StorageError> {
        let mut answers = Vec::with_capacity(group.commands.len());
        for (at, command) in group.commands.iter().enumerate() {
            let mut command = command.record().clone();
            if at % APPLIED_AT_A_STRETCH == APPLIED_AT_A_STRETCH - 1 {
                // Nobody sees the state before the batch is done; only the thread is lent.
                tokio::task::yield_now().await;
            }
            if let Command::Restore(RestoreCommand::Finish { id }) = &command {
                answers.push(self.restore(index, now, id.clone()).await?);
                news.replaced = true;
                continue;
            }
            if let Command::Session(SessionCommand::Create(session)) = &mut command
                && knob("bug: locks have no delay", 0) == 1
            {
                session.lock_delay = Span::default();
            }
            if knob("bug: commands are applied twice", 0) == 1 {
                self.state.apply(index, now, command.clone());
            }
            let (answer, mut changed) = self.state.apply(index, now, command);
            answers.push(answer);
            news.changes.append(&mut changed);
        }
        Ok(answers)
    }

    /// Puts a snapshot in the place of the state, or changes nothing. Every server has the same
    /// bytes at this entry, and comes to the same.
    async fn restore(
        &mut self,
        index: Index,
        now: Timestamp,
        id: String,
    ) -> Result<Answer, StorageError> {
        let (state, of_work) = (self.state.clone(), id.clone());
        let work = self.tasks.blocking(move || {
            let bytes = state.restoring(&of_work)?;
            let (_, snapshot) = snapshot::decode(&bytes)
                .map_err(|reason| Refusal::Restore { reason: reason.to_string() })?;
            state.restored(index, snapshot)
        });
        match work.await {
            Ok(Ok(state)) => {
                self.state = state;
                Ok(Answer::Done { changed: true })
            }
            Ok(Err(refusal)) => {
                let forget = Command::Restore(RestoreCommand::Abandon { id });
                self.state.apply(index, now, forget);
                Ok(Answer::Refused(refusal))
            }
            Err(failure) => Err(storage_error(
                ErrorSubject::StateMachine,
                ErrorVerb::Write,
                &std::io::Error::other(failure.message),
            )),
        }
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
        let started = clock::instant();
        let mut replies = Vec::new();
        let mut news = News::default();
        for entry in entries {
            let index = Index(entry.log_id.index);
            self.applied = Some(entry.log_id);
            replies.push(match entry.payload {
                EntryPayload::Blank => Applied::default(),
                EntryPayload::Normal(batch) => self.apply_batch(index, batch, &mut news).await?,
                EntryPayload::Membership(membership) => {
                    self.membership = Membership::new(Some(entry.log_id), membership);
                    Applied::default()
                }
            });
        }
        // Before the answers go out, so that whoever gets one reads its own write.
        let state = Arc::new(self.state.clone());
        match news.replaced {
            true => self.audience.replaced(state),
            false => self.audience.applied(state, news.changes),
        }
        self.progress.send_replace(self.applied.map_or(0, |id| id.index));
        self.gauges.applied(clock::instant().duration_since(started));
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            meta: describe(self.applied, self.membership.clone()),
            state: self.state.clone(),
            snapshots: self.snapshots.clone(),
            gauges: self.gauges.clone(),
            tasks: self.tasks.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotData>, StorageError> {
        Ok(Box::new(SnapshotData::Memory(Cursor::default())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotData>,
    ) -> Result<(), StorageError> {
        let (snapshots, meta_kept) = (self.snapshots.clone(), meta.clone());
        let work = self.tasks.blocking(move || {
            let bytes = snapshot.into_bytes().map_err(SnapshotDamage::receive)?;
            let (_, state) = snapshot::decode(&bytes)?;
            snapshots.keep(&meta_kept, &bytes)?;
            Ok::<State, SnapshotDamage>(state)
        });
        self.state = finish(work.await, ErrorVerb::Write)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.audience.replaced(Arc::new(self.state.clone()));
        self.progress.send_replace(self.applied.map_or(0, |id| id.index));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let snapshots = self.snapshots.clone();
        let work = self.tasks.blocking(move || snapshots.newest());
        Ok(finish(work.await, ErrorVerb::Read)?.map(to_openraft))
    }
}

/// Writes one snapshot in the background, from a clone of the state.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    state: State,
    snapshots: Snapshots,
    gauges: Gauges,
    tasks: TaskTree,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    /// Tries until it is written: consensus would end with an error, and without a snapshot the
    /// log only grows. When that fills the disk the log is what stops.
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let mut pauses = Backoff::new(RETRY_PAUSE, RETRY_PAUSE_MAX, entropy::rng());
        loop {
            let (meta, state) = (self.meta.clone(), self.state.clone());
            let snapshots = self.snapshots.clone();
            let gauges = self.gauges.clone();
            let work = self.tasks.blocking(move || {
                let started = clock::instant();
                snapshots.build(&meta, &state)?;
                gauges.snapshot_written(clock::instant().duration_since(started));
                snapshots.newest()
            });
            match work.await {
                Ok(Ok(Some(newest))) => return Ok(to_openraft(newest)),
                Ok(Ok(None)) => warn!("the snapshot was removed; it is written again"),
                Ok(Err(error)) => {
                    self.gauges.snapshot_failed();
                    error!(%error, "no snapshot could be written; trying again");
                }
                Err(failure) => {
                    return Err(storage_error(
                        ErrorSubject::Store,
                        ErrorVerb::Write,
                        &std::io::Error::other(failure.message),
                    ));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pauses.next()) => {}
                () = self.tasks.cancelled() => {
                    let ending = std::io::Error::other("the server is ending");
                    return Err(storage_error(ErrorSubject::Store, ErrorVerb::Write, &ending));
                }
            }
        }
    }
}

fn to_openraft((meta, data): (SnapshotMeta, SnapshotData)) -> Snapshot<TypeConfig> {
    Snapshot { meta, snapshot: Box::new(data) }
}

fn describe(applied: Option<LogId>, membership: Membership) -> SnapshotMeta {
    let (term, index) = applied.map_or((0, 0), |id| (id.leader_id.term, id.index));
    SnapshotMeta {
        last_log_id: applied,
        last_membership: membership,
        snapshot_id: format!("{term}-{index}"),
    }
}

#[expect(clippy::result_large_err, reason = "openraft's traits ask for its error by value")]
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
