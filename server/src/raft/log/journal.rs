//! The one thread that writes the log, the vote and the marks beside it.
//!
//! All writes go through its queue, so they reach the disk in the order in which they were asked
//! for; those that wait together share one sync. After a failure nothing more is written.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::error;
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
    /// Whether anyone relies on it after a power cut. A lost commit mark or purge only costs
    /// time at the next start.
    fn must_be_durable(&self) -> bool {
        match self {
            Self::Append(_) | Self::Truncate { .. } => true,
            Self::Purge { .. } => false,
            Self::Mark(name, _) => *name != COMMITTED,
        }
    }
}

/// The queue to the thread.
#[derive(Clone)]
pub(super) struct Journal {
    queue: mpsc::Sender<(Write, Done)>,
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
        let mut writer = Writer { medium, marks, gauges, tasks: tasks.clone() };
        tasks.worker("journal", waiting, GROUP_MAX, move |group| writer.handle(group));
        Self { queue }
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

struct Writer<M> {
    medium: M,
    marks: Marks,
    gauges: Gauges,
    tasks: TaskTree,
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
        let mut committed = None;
        for (write, _) in group {
            match write {
                Write::Append(entries) => medium.append(entries)?,
                Write::Mark(COMMITTED, value) => committed = Some(value),
                Write::Mark(name, value) => {
                    // Neither may survive without what was written before it.
                    medium.sync()?;
                    marks.put(name, value)?;
                    marks.store.sync()?;
                }
                Write::Purge { upto } => medium.purge(*upto)?,
                Write::Truncate { from } => medium.truncate(*from)?,
            }
        }
        if group.iter().any(|(write, _)| write.must_be_durable()) {
            let started = clock::instant();
            medium.sync()?;
            self.gauges.synced(clock::instant().duration_since(started));
        }
        // After the entries: a mark on the disk says that they had been there.
        committed.map_or(Ok(()), |value| marks.put(COMMITTED, value))
    }
}
