//! Folds the commands that wait into one replicated entry: one sync for a crowd, not for each.
//!
//! openraft 0.9 waits for the disk within each write, so that writes one by one cost a sync each.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use weft_core::index::Index;
use weft_core::limits;
use weft_core::state::{Answer, Command};
use weft_proto::envelope;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::consensus::ProposeError;
use super::types::{Batch, Raft};

/// Entries on their way at once: the second gathers while the first is written.
const IN_FLIGHT: usize = 2;
/// Commands that wait; when full, those who propose wait at the door.
const QUEUE_LENGTH: usize = 4096;

type Reply = oneshot::Sender<Result<(Index, Answer), ProposeError>>;

struct Waiting {
    command: Command,
    bytes: usize,
    reply: Reply,
}

/// The queue to the proposer.
#[derive(Clone)]
pub(super) struct Fold {
    queue: mpsc::Sender<Waiting>,
}

impl Fold {
    pub(super) fn start(raft: Raft, tasks: &TaskTree) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        let of_batches = tasks.clone();
        tasks.spawn("proposer", run(raft, waiting, of_batches));
        Self { queue }
    }

    /// Proposes a command at this server and waits for its answer.
    pub(super) async fn propose(&self, command: Command) -> Result<(Index, Answer), ProposeError> {
        let bytes = envelope::encode(&command).len();
        if bytes > limits::ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes });
        }
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { command, bytes, reply };
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
                // A command that was not received stays in the channel.
                next = waiting.recv() => match next {
                    Some(next) => next,
                    None => return,
                },
                () = tasks.cancelled() => return,
            },
        };
        // The place first: while it is waited for, more commands gather.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let mut bytes = first.bytes;
        let (mut commands, mut replies) = (vec![first.command], vec![first.reply]);
        while commands.len() < limits::COMMANDS_PER_ENTRY_MAX
            && let Ok(next) = waiting.try_recv()
        {
            if bytes + next.bytes > limits::ENTRY_BYTES_MAX {
                held = Some(next);
                break;
            }
            bytes += next.bytes;
            commands.push(next.command);
            replies.push(next.reply);
        }
        let raft = raft.clone();
        let batch = Batch { now: clock::wall(), commands: Arc::new(commands) };
        tasks.spawn("proposal", async move {
            propose(&raft, batch, replies).await;
            drop(place);
        });
    }
}

async fn propose(raft: &Raft, batch: Batch, replies: Vec<Reply>) {
    match raft.client_write(batch).await {
        Ok(written) => {
            let index = written.data.index;
            for (reply, answer) in replies.into_iter().zip(written.data.answers) {
                // A caller that went away does not undo its write.
                let _ = reply.send(Ok((index, answer)));
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
