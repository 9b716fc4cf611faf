//! Gathers the commands that wait at this server into groups, and sees each group through: to
//! the log when this server leads, to the leader otherwise, and again when the leader falls.
//!
//! A group keeps its name when it is sent again, and a state that knows the name answers
//! without carrying the group out a second time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand_core::RngCore;
use tokio::sync::{Semaphore, mpsc, oneshot};
use weft_core::index::Index;
use weft_core::limits;
use weft_core::state::{Answer, Answered, Command, GroupId};
use weft_proto::envelope;
use weft_runtime::backoff::Backoff;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy};

use super::courier::Courier;
use super::error::ProposeError;
use super::types::Group;

/// How long a request is held while there is no leader.
///
/// **Source**: Consul: `rpc_hold_timeout`, 7 s.
pub(crate) const LEADERLESS_HOLD: Duration = Duration::from_secs(7);
/// Groups on their way at once: while they are, the next one gathers. At the leader two are in
/// the log and two wait for the next entry; from elsewhere they fill the way to the leader.
const IN_FLIGHT: usize = 4;
/// Commands that wait; when full, those who propose wait at the door.
const QUEUE_LENGTH: usize = 4096;
/// The pauses before a group is sent again.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(250);

type Reply = oneshot::Sender<Result<(Index, Answer), ProposeError>>;

struct Waiting {
    command: Command,
    bytes: usize,
    arrived: Instant,
    reply: Reply,
}

/// The queue to the leader, wherever it is.
#[derive(Clone)]
pub(super) struct Fold {
    queue: mpsc::Sender<Waiting>,
}

impl Fold {
    pub(super) fn start(courier: Courier, tasks: &TaskTree) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        let of_groups = tasks.clone();
        tasks.spawn("fold", run(courier, waiting, of_groups));
        Self { queue }
    }

    /// Has a command carried out and waits for its answer, which is then visible here.
    ///
    /// # Errors
    /// [`ProposeError`]; only after [`ProposeError::Unanswered`] may it have been carried out.
    pub(super) async fn propose(&self, command: Command) -> Result<(Index, Answer), ProposeError> {
        let bytes = size(&command)?;
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { command, bytes, arrived: clock::instant(), reply };
        self.queue.send(waiting).await.map_err(|_| ProposeError::Stopped)?;
        answer.await.unwrap_or(Err(ProposeError::Stopped))
    }
}

/// Returns how much of an entry a command takes.
pub(super) fn size(command: &Command) -> Result<usize, ProposeError> {
    let bytes = envelope::encode(command).len();
    if bytes > limits::ENTRY_BYTES_MAX {
        return Err(ProposeError::TooLarge { bytes });
    }
    Ok(bytes)
}

/// Names groups, and knows which of them still wait for their answers.
struct Names {
    origin: u64,
    last: u64,
    waiting: Arc<Mutex<BTreeSet<u64>>>,
}

impl Names {
    fn new() -> Self {
        // Zero is the name of no origin.
        let origin = entropy::rng().next_u64().max(1);
        Self { origin, last: 0, waiting: Arc::default() }
    }

    fn next(&mut self) -> GroupId {
        self.last += 1;
        let mut waiting = self.waiting.lock();
        waiting.insert(self.last);
        let answered_below = waiting.first().copied().unwrap_or(self.last);
        GroupId { origin: self.origin, number: self.last, answered_below }
    }
}

async fn run(courier: Courier, mut waiting: mpsc::Receiver<Waiting>, tasks: TaskTree) {
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut names = Names::new();
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
        let place = tokio::select! {
            // A place that was not taken goes to nobody; the task ends.
            place = places.clone().acquire_owned() => place,
            () = tasks.cancelled() => return,
        };
        let Ok(place) = place else { return };
        if is_over(&first) {
            // Held behind groups that found no leader either.
            let _ = first.reply.send(Err(ProposeError::NoLeader(None)));
            continue;
        }
        let until = first.arrived + LEADERLESS_HOLD;
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
        let group = Group { id: names.next(), commands: Arc::new(commands) };
        let (courier, named, token) = (courier.clone(), names.waiting.clone(), tasks.token());
        tasks.spawn("group of commands", async move {
            let number = group.id.number;
            let outcome = tokio::select! {
                outcome = see_through(&courier, group, bytes, until) => outcome,
                // What became of it is not known; nobody is left to be told.
                () = token.cancelled() => Err(ProposeError::Stopped),
            };
            named.lock().remove(&number);
            drop(place);
            answer(outcome, replies);
        });
    }
}

fn is_over(waiting: &Waiting) -> bool {
    clock::instant().duration_since(waiting.arrived) >= LEADERLESS_HOLD
}

/// Sends a group until it is answered, or until its time is over.
async fn see_through(
    courier: &Courier,
    group: Group,
    bytes: usize,
    until: Instant,
) -> Result<Arc<Answered>, ProposeError> {
    let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, entropy::rng());
    // Once an attempt got no answer, a refusal of a later one does not mean that nothing
    // happened.
    let mut unanswered: Option<ProposeError> = None;
    loop {
        let error = match courier.deliver(&group, bytes).await {
            Ok(answered) => return Ok(answered),
            Err(error) => error,
        };
        match &error {
            ProposeError::NoLeader(_) | ProposeError::NoQuorum => {}
            ProposeError::Unanswered(_) => unanswered = Some(error.clone()),
            ProposeError::DiskFull { .. }
            | ProposeError::Stopped
            | ProposeError::StorageFailed { .. }
            | ProposeError::TooLarge { .. } => return Err(unanswered.unwrap_or(error)),
        }
        if clock::instant() >= until {
            return Err(unanswered.unwrap_or(error));
        }
        courier.news_or(backoff.next()).await;
    }
}

fn answer(outcome: Result<Arc<Answered>, ProposeError>, replies: Vec<Reply>) {
    match outcome {
        Ok(answered) => {
            for (reply, answer) in replies.into_iter().zip(&answered.answers) {
                // A caller that went away does not undo its write.
                let _ = reply.send(Ok((answered.index, answer.clone())));
            }
        }
        Err(error) => {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}
