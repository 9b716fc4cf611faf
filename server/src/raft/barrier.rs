//! One confirmation of leadership for everyone who waited for it.

use tokio::sync::{mpsc, oneshot};
use weft_core::index::Index;
use weft_runtime::task::TaskTree;

use super::consensus::ProposeError;
use super::types::Raft;

/// Reads that wait; when full, those who read wait at the door.
const QUEUE_LENGTH: usize = 4096;

type Reply = oneshot::Sender<Result<Index, ProposeError>>;

/// The queue to the barrier.
#[derive(Clone)]
pub(super) struct Barrier {
    queue: mpsc::Sender<Reply>,
}

impl Barrier {
    pub(super) fn start(raft: Raft, tasks: &TaskTree) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Reply>(QUEUE_LENGTH);
        let token = tasks.token();
        tasks.spawn("read barrier", async move {
            loop {
                let first = tokio::select! {
                    // A read that was not received stays in the channel.
                    next = waiting.recv() => match next {
                        Some(first) => first,
                        None => return,
                    },
                    () = token.cancelled() => return,
                };
                // Only reads that arrived before the barrier starts may rely on it.
                let mut readers = vec![first];
                while let Ok(next) = waiting.try_recv() {
                    readers.push(next);
                }
                let outcome = raft
                    .ensure_linearizable()
                    .await
                    .map(|log_id| Index(log_id.map_or(0, |id| id.index)))
                    .map_err(ProposeError::from);
                for reader in readers {
                    let _ = reader.send(outcome.clone());
                }
            }
        });
        Self { queue }
    }

    /// Returns the index that every write acknowledged before the call has at most, once this
    /// server has applied it and a quorum has confirmed that it leads.
    pub(super) async fn pass(&self) -> Result<Index, ProposeError> {
        let (reply, outcome) = oneshot::channel();
        self.queue.send(reply).await.map_err(|_| ProposeError::Stopped)?;
        outcome.await.unwrap_or(Err(ProposeError::Stopped))
    }
}
