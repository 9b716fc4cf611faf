//! The storage of consensus: log, snapshots, and what keeps both within bounds.
//!
//! A snapshot is due when the log behind the last one has grown by so many bytes or entries.
//! Once it is written, the log goes up to the snapshot before it, so that either of the two
//! makes the state. While the disk is nearly full nothing new is written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tracing::{error, info, warn};
use weft_runtime::clock;
use weft_runtime::disk::Disk;
use weft_runtime::store::Store;
use weft_runtime::task::TaskTree;

use super::error::{ConsensusError, ProposeError};
use super::gauge::Gauges;
use super::log::{Log, LogView};
use super::snapshot::{Kept, Snapshots};
use super::state_machine::{Audience, StateMachine};
use super::types::Raft;
use crate::config::StorageConfig;

/// How often the bounds are looked at: each look is a few reads of numbers.
const LOOK_PERIOD: std::time::Duration = std::time::Duration::from_millis(250);

/// What consensus stores on the disk. Clones share it.
#[derive(Clone)]
pub(crate) struct Storage {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    log: LogView,
    snapshots: Snapshots,
    gauges: Gauges,
    config: StorageConfig,
}

/// What storage holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StorageStanding {
    pub(crate) log_bytes: u64,
    pub(crate) log_segments: u64,
    pub(crate) snapshot_bytes: u64,
    pub(crate) snapshot_index: u64,
    pub(crate) is_short: bool,
    pub(crate) has_failed: bool,
}

impl Storage {
    /// Opens log, snapshots and state. Blocks the thread.
    pub(super) fn open(
        (disk, dir): (Arc<dyn Disk>, &Path),
        store: &Store,
        audience: Arc<dyn Audience>,
        config: StorageConfig,
        tasks: &TaskTree,
    ) -> Result<(Self, Log, StateMachine), ConsensusError> {
        let gauges = Gauges::default();
        let log = Log::open(disk.clone(), &dir.join("log"), store, gauges.clone(), tasks)?;
        let snapshots = Snapshots::open(disk.clone(), &dir.join("snapshots"))?;
        let machine = StateMachine::open(
            snapshots.clone(),
            log.view().purged(),
            audience,
            gauges.clone(),
            tasks,
        )?;
        log.check_reach(machine.applied())?;
        let dir = dir.to_owned();
        let view = log.view();
        Ok((Self { disk, dir, log: view, snapshots, gauges, config }, log, machine))
    }

    /// Returns what the log holds.
    #[cfg(test)]
    pub(super) fn log(&self) -> &LogView {
        &self.log
    }

    /// Returns what storage tells of itself.
    pub(crate) fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Returns what storage holds.
    pub(crate) fn standing(&self) -> StorageStanding {
        let size = self.log.size_from(0);
        let kept = *self.snapshots.kept().borrow();
        StorageStanding {
            log_bytes: size.bytes,
            log_segments: size.segments,
            snapshot_bytes: kept.bytes,
            snapshot_index: kept.newest.unwrap_or_default(),
            is_short: self.gauges.is_short(),
            has_failed: self.gauges.failure().is_some(),
        }
    }

    /// Refuses a write that this server would have to lead.
    pub(super) fn admit(&self) -> Result<(), ProposeError> {
        if self.gauges.is_short() {
            return Err(ProposeError::DiskFull { reserve: self.config.disk_reserve_bytes });
        }
        Ok(())
    }

    /// Says why consensus has stopped, when storage is the reason.
    pub(super) fn explain(&self, error: ProposeError) -> ProposeError {
        match (error, self.gauges.failure()) {
            (ProposeError::Stopped, Some(reason)) => {
                ProposeError::StorageFailed { reason: reason.to_owned() }
            }
            (error, _) => error,
        }
    }

    /// Keeps log and snapshots within their bounds from now on.
    pub(super) fn start(&self, raft: &Raft, tasks: &TaskTree) {
        let (keeper, tree) =
            (Keeper { storage: self.clone(), raft: raft.clone(), asked: None }, tasks.clone());
        tasks.spawn("storage bounds", async move { keeper.run(&tree).await });
    }
}

struct Keeper {
    storage: Storage,
    raft: Raft,
    /// The newest snapshot when the next was asked for, and when that was.
    asked: Option<(Option<u64>, Instant)>,
}

impl Keeper {
    async fn run(mut self, tasks: &TaskTree) {
        let mut looks = tokio::time::interval(LOOK_PERIOD);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut kept = self.storage.snapshots.kept();
        loop {
            tokio::select! {
                // Neither is lost when the other comes first: both only say "look".
                _ = looks.tick() => {}
                changed = kept.changed() => if changed.is_err() { return },
                () = tasks.cancelled() => return,
            }
            let seen = *kept.borrow_and_update();
            self.watch_room(tasks).await;
            // An error says that consensus has ended; so will this task.
            if self.purge(seen).await.is_err() || self.ask_for_snapshot(seen).await.is_err() {
                return;
            }
        }
    }

    async fn purge(&self, kept: Kept) -> Result<(), ()> {
        let (Some(_), Some(previous)) = (kept.newest, kept.previous) else { return Ok(()) };
        let purged = self.storage.log.purged().map_or(0, |id| id.index);
        if purged >= previous {
            return Ok(());
        }
        self.raft.trigger().purge_log(previous).await.map_err(drop)
    }

    async fn ask_for_snapshot(&mut self, kept: Kept) -> Result<(), ()> {
        let (config, now) = (&self.storage.config, clock::instant());
        let behind = kept.newest.map_or(0, |index| index + 1);
        // A snapshot holds what is applied: entries that wait for a leader to say that they are
        // committed make none due, however many there are; it would be the same again.
        let applied = self.raft.metrics().borrow().last_applied.map_or(0, |id| id.index + 1);
        let entries = applied.saturating_sub(behind);
        if entries == 0 {
            return Ok(());
        }
        let size_from = |index| self.storage.log.size_from(index).bytes;
        let bytes = size_from(behind).saturating_sub(size_from(applied));
        // A state that is larger than the log's bound is not worth writing down more often.
        let is_large = bytes >= config.snapshot_log_bytes.max(kept.bytes);
        let is_long = entries >= config.snapshot_entries;
        let waited = self.asked.map(|(_, at)| now.duration_since(at));
        let is_early = waited.is_some_and(|waited| waited < config.snapshot_interval);
        let is_asked = self.asked.is_some_and(|(newest, _)| newest == kept.newest) && is_early;
        if is_asked || !(is_large || is_long && !is_early) {
            return Ok(());
        }
        self.asked = Some((kept.newest, now));
        self.raft.trigger().snapshot().await.map_err(drop)
    }

    async fn watch_room(&self, tasks: &TaskTree) {
        let (disk, dir) = (self.storage.disk.clone(), self.storage.dir.clone());
        let Ok(free) = tasks.blocking(move || disk.free_bytes(&dir)).await else { return };
        let free = match free {
            Ok(free) => free,
            Err(error) => {
                warn!(%error, "the room on the disk cannot be found out");
                return;
            }
        };
        let reserve = self.storage.config.disk_reserve_bytes;
        let is_short = free < reserve;
        if !self.storage.gauges.set_short(is_short) {
            return;
        }
        let dir = &self.storage.dir;
        if is_short {
            error!(?dir, free, reserve, "the disk is nearly full; this server leads no writes");
        } else {
            info!(?dir, free, "the disk has room again; writes are taken");
        }
    }
}
