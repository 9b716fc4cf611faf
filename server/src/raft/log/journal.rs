//! The one thread that writes the log, the vote and the marks beside it.
//!
//! All writes go through its queue, so they reach the disk in the order in which they were asked
//! for; those that wait together share one sync. After a failure nothing more is written.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::{error, warn};
use weft_proto::envelope;
use weft_runtime::clock;
use weft_runtime::store::{Store, Table};
use weft_runtime::task::TaskTree;

use super::damage::LogDamage;
use super::medium::Medium;
use crate::raft::gauge::Gauges;
use crate::raft::types::LogId;

/// Writes that wait before those who ask have to: more than consensus has in flight.
const QUEUE_LENGTH: usize = 256;
/// Writes that share one sync.
const GROUP_MAX: usize = 256;

/// Keys of the table of marks.
pub(super) const VOTE: &[u8] = b"vote";
/// How far the cluster has agreed; a lost mark only costs time at the next start.
pub(super) const COMMITTED: &[u8] = b"committed";

/// Called once a write is durable, or has failed.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A write.
pub(super) enum Write {
    /// Adds entries, each by its index.
    Append(Vec<(u64, Bytes)>),
    /// Removes entries up to an index.
    Purge { upto: LogId },
    /// Sets a mark.
    Mark(&'static [u8], Bytes),
    /// Removes entries from an index on.
    Truncate { from: u64 },
}

impl Write {
    /// Whether anyone relies on it after a power cut. A lost purge only costs time at the next
    /// start.
    fn must_be_durable(&self) -> bool {
        match self {
            Self::Append(_) | Self::Mark(..) | Self::Truncate { .. } => true,
            Self::Purge { .. } => false,
        }
    }
}

/// The queue to the thread.
#[derive(Clone)]
pub(super) struct Journal {
    queue: mpsc::Sender<(Write, Done)>,
    committed: Arc<Mutex<Option<LogId>>>,
}

impl Journal {
    /// Starts the thread. It ends when the last handle is dropped.
    pub(super) fn start(
        medium: impl Medium,
        marks: Marks,
        gauges: Gauges,
        tasks: &TaskTree,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        let committed = Arc::<Mutex<Option<LogId>>>::default();
        let bounds = medium.bounds();
        let mut writer = Writer {
            last: bounds.last.or(bounds.purged).map_or(0, |id| id.index),
            committed: committed.clone(),
            medium,
            marks,
            gauges,
            tasks: tasks.clone(),
        };
        tasks.worker("journal", waiting, GROUP_MAX, move |group| writer.handle(group));
        Self { queue, committed }
    }

    /// Notes how far the cluster has agreed. It is written along with the next entries, or when
    /// the thread ends: a write of its own would wake the thread for each entry once more.
    pub(super) fn note_committed(&self, committed: LogId) {
        *self.committed.lock() = Some(committed);
    }

    /// Returns what was noted and is not yet written.
    pub(super) fn committed(&self) -> Option<LogId> {
        *self.committed.lock()
    }

    /// Queues a write; waits while the queue is full.
    pub(super) async fn write(&self, write: Write, done: Done) {
        if let Err(mpsc::error::SendError((_, done))) = self.queue.send((write, done)).await {
            done(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed")));
        }
    }

    /// Writes and waits until it is durable.
    pub(super) async fn write_durably(&self, write: Write) -> io::Result<()> {
        let (done, outcome) = tokio::sync::oneshot::channel();
        self.write(write, Box::new(move |result| drop(done.send(result)))).await;
        outcome.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }
}

/// Where the vote and the commit mark lie.
pub(super) struct Marks {
    pub(super) store: Store,
    pub(super) table: Table,
}

impl Marks {
    fn put(&self, name: &[u8], value: &[u8]) -> Result<(), LogDamage> {
        Ok(self.table.put(name, value)?)
    }
}

struct Writer<M: Medium> {
    medium: M,
    /// The last index that was written.
    last: u64,
    /// How far the cluster has agreed, until it is written.
    committed: Arc<Mutex<Option<LogId>>>,
    marks: Marks,
    gauges: Gauges,
    tasks: TaskTree,
}

impl<M: Medium> Drop for Writer<M> {
    fn drop(&mut self) {
        if self.gauges.failure().is_none()
            && let Err(error) = self.mark_committed()
        {
            warn!(%error, "how far the cluster has agreed could not be written");
        }
    }
}

impl<M: Medium> Writer<M> {
    fn handle(&mut self, group: Vec<(Write, Done)>) {
        let result = if self.gauges.failure().is_some() {
            // What became of the write that failed is not known: whatever stood behind it in
            // the log could come back without it.
            Err(LogDamage::Poisoned)
        } else {
            self.carry_out(&group)
        };
        if let Err(error) = &result
            && self.gauges.failure().is_none()
        {
            error!(%error, "the log could not be written; this server stops taking part");
            self.gauges.log_failed(error.to_string());
        }
        for (_, done) in group {
            done(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::other(error.to_string())),
            });
        }
        if let Some(chore) = self.medium.chore() {
            // It has begun; nobody waits for its end but the tree of tasks.
            drop(self.tasks.blocking(chore));
        }
    }

    /// Writes a group, in order, and syncs what someone relies on.
    fn carry_out(&mut self, group: &[(Write, Done)]) -> Result<(), LogDamage> {
        let (medium, marks) = (&mut self.medium, &self.marks);
        for (write, _) in group {
            match write {
                Write::Append(entries) => {
                    medium.append(entries)?;
                    self.last = entries.last().map_or(self.last, |(index, _)| *index);
                }
                Write::Mark(name, value) => {
                    // Neither may survive without what was written before it.
                    medium.sync()?;
                    marks.put(name, value)?;
                    marks.store.sync()?;
                }
                Write::Purge { upto } => {
                    medium.purge(*upto)?;
                    self.last = self.last.max(upto.index);
                }
                Write::Truncate { from } => {
                    medium.truncate(*from)?;
                    self.last = self.last.min(from.saturating_sub(1));
                }
            }
        }
        if group.iter().any(|(write, _)| write.must_be_durable()) {
            let started = clock::instant();
            medium.sync()?;
            self.gauges.synced(clock::instant().duration_since(started));
        }
        self.mark_committed()
    }

    /// Writes how far the cluster has agreed, after the entries: a mark on the disk says that they
    /// had been there.
    fn mark_committed(&mut self) -> Result<(), LogDamage> {
        let reached = self.committed.lock().take_if(|committed| committed.index <= self.last);
        let put = |committed| self.marks.put(COMMITTED, &envelope::encode(&committed));
        reached.map_or(Ok(()), put)
    }
}
