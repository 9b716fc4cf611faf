//! At the leader: folds the groups that wait, its own and those of other servers, into one
//! replicated entry: one sync for a crowd, not for each.
//!
//! openraft 0.9 waits for the disk within each write, so that writes one by one cost a sync each.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use weft_core::limits;
use weft_core::state::Answered;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::error::ProposeError;
use super::flight::{Gatherer, Gathering};
use super::types::{Batch, Group, Raft};

/// Groups that wait: those of nine servers and the leader's duties. When full, those who propose
/// wait at the door.
const QUEUE_LENGTH: usize = 256;

type Reply = oneshot::Sender<Result<Arc<Answered>, ProposeError>>;

struct Waiting {
    group: Group,
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

    /// Proposes a group at this server and waits for its answers.
    ///
    /// # Errors
    /// [`ProposeError`]; also after [`ProposeError::NoLeader`] it may still be carried out, if
    /// this server led when it was proposed.
    pub(super) async fn propose(&self, group: Group) -> Result<Arc<Answered>, ProposeError> {
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { group, reply };
        self.queue.send(waiting).await.map_err(|_| ProposeError::Stopped)?;
        answer.await.unwrap_or(Err(ProposeError::Stopped))
    }
}

/// Groups that make one entry.
#[derive(Default)]
struct Gathered {
    groups: Vec<Group>,
    replies: Vec<Reply>,
    commands: usize,
    bytes: usize,
}

impl Gathering<Waiting> for Gathered {
    fn take(&mut self, next: Waiting) -> Option<Waiting> {
        let more = next.group.commands.len();
        let bytes = self.bytes + next.group.bytes();
        let is_full = bytes > limits::ENTRY_BYTES_MAX
            || self.commands + more > limits::COMMANDS_PER_ENTRY_MAX;
        if is_full && !self.groups.is_empty() {
            return Some(next);
        }
        self.commands += more;
        self.bytes = bytes;
        self.groups.push(next.group);
        self.replies.push(next.reply);
        None
    }

    fn commands(&self) -> usize {
        self.commands
    }
}

async fn run(raft: Raft, waiting: mpsc::Receiver<Waiting>, tasks: TaskTree) {
    let mut gatherer = Gatherer::new(waiting);
    while let Some((gathered, place)) = gatherer.next::<Gathered>(&tasks).await {
        let raft = raft.clone();
        let batch = Batch { now: clock::wall(), groups: gathered.groups };
        tasks.spawn("proposal", async move {
            propose(&raft, batch, gathered.replies).await;
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
