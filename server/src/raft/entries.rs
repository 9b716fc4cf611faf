//! At the leader: folds the groups that wait, its own and those of other servers, into one
//! replicated entry: one sync for a crowd, not for each.
//!
//! openraft 0.9 waits for the disk within each write, so that writes one by one cost a sync each.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use weft_core::limits;
use weft_core::state::Answered;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::error::ProposeError;
use super::types::{Batch, Group, Raft};

/// Entries on their way at once: the second gathers while the first is written.
const IN_FLIGHT: usize = 2;
/// Groups that wait: those of nine servers and the leader's duties. When full, those who propose
/// wait at the door.
const QUEUE_LENGTH: usize = 256;

type Reply = oneshot::Sender<Result<Arc<Answered>, ProposeError>>;

struct Waiting {
    group: Group,
    bytes: usize,
    reply: Reply,
}

/// The queue to the log.
#[derive(Clone)]
pub(super) struct Entries {
    queue: mpsc::Sender<Waiting>,
}

impl Entries {
    pub(super) fn start(raft: Raft, tasks: &TaskTree) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        let of_batches = tasks.clone();
        tasks.spawn("proposer", run(raft, waiting, of_batches));
        Self { queue }
    }

    /// Proposes a group at this server and waits for its answers. `bytes` is its size.
    ///
    /// # Errors
    /// [`ProposeError`]; also after [`ProposeError::NoLeader`] it may still be carried out, if
    /// this server led when it was proposed.
    pub(super) async fn propose(
        &self,
        group: Group,
        bytes: usize,
    ) -> Result<Arc<Answered>, ProposeError> {
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { group, bytes, reply };
        self.queue.send(waiting).await.map_err(|_| ProposeError::Stopped)?;
        answer.await.unwrap_or(Err(ProposeError::Stopped))
    }
}

async fn run(raft: Raft, mut waiting: mpsc::Receiver<Waiting>, tasks: TaskTree) {
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut held: Option<Waiting> = None;
    loop {
        let first = match held.take() {
            Some(first) => first,
            None => tokio::select! {
                // A group that was not received stays in the channel.
                next = waiting.recv() => match next {
                    Some(next) => next,
                    None => return,
                },
                () = tasks.cancelled() => return,
            },
        };
        // The place first: while it is waited for, more groups gather.
        let place = tokio::select! {
            // A place that was not taken goes to nobody; the task ends.
            place = places.clone().acquire_owned() => place,
            () = tasks.cancelled() => return,
        };
        let Ok(place) = place else { return };
        let (mut bytes, mut commands) = (first.bytes, first.group.commands.len());
        let (mut groups, mut replies) = (vec![first.group], vec![first.reply]);
        while let Ok(next) = waiting.try_recv() {
            let (more_bytes, more) = (next.bytes, next.group.commands.len());
            if bytes + more_bytes > limits::ENTRY_BYTES_MAX
                || commands + more > limits::COMMANDS_PER_ENTRY_MAX
            {
                held = Some(next);
                break;
            }
            (bytes, commands) = (bytes + more_bytes, commands + more);
            groups.push(next.group);
            replies.push(next.reply);
        }
        let raft = raft.clone();
        let batch = Batch { now: clock::wall(), groups };
        tasks.spawn("proposal", async move {
            propose(&raft, batch, replies).await;
            drop(place);
        });
    }
}

async fn propose(raft: &Raft, batch: Batch, replies: Vec<Reply>) {
    match raft.client_write(batch).await {
        Ok(written) => {
            for (reply, answered) in replies.into_iter().zip(written.data.groups) {
                let late = || ProposeError::Unanswered("it was given up before".to_owned());
                // A caller that went away does not undo its write.
                let _ = reply.send(answered.ok_or_else(late));
            }
        }
        Err(error) => {
            let error = ProposeError::from(error);
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}
