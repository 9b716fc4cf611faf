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
use tokio::sync::{mpsc, oneshot};
use weft_core::index::Index;
use weft_core::limits;
use weft_core::state::{Answer, Answered, Command, GroupId};
use weft_proto::encoded::Encoded;
use weft_runtime::backoff::Backoff;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy};

use super::courier::Courier;
use super::error::ProposeError;
use super::flight::{Gatherer, Gathering};
use super::types::Group;

/// How long a request is held while there is no leader.
///
/// **Source**: Consul: `rpc_hold_timeout`, 7 s.
pub(crate) const LEADERLESS_HOLD: Duration = Duration::from_secs(7);
/// Commands that wait; when full, those who propose wait at the door.
const QUEUE_LENGTH: usize = 4096;
/// The pauses before a group is sent again.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(250);

type Reply = oneshot::Sender<Result<(Index, Answer), ProposeError>>;

struct Waiting {
    command: Encoded<Command>,
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
        let command = encoded(command)?;
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { command, arrived: clock::instant(), reply };
        self.queue.send(waiting).await.map_err(|_| ProposeError::Stopped)?;
        answer.await.unwrap_or(Err(ProposeError::Stopped))
    }
}

/// Encodes a command, and refuses one that no entry could take.
pub(super) fn encoded(command: Command) -> Result<Encoded<Command>, ProposeError> {
    let command = Encoded::new(command);
    match command.size() {
        bytes if bytes > limits::COMMAND_BYTES_MAX => Err(ProposeError::TooLarge { bytes }),
        _ => Ok(command),
    }
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

/// Commands that go together.
#[derive(Default)]
struct Gathered {
    waiting: Vec<Waiting>,
    bytes: usize,
}

impl Gathering<Waiting> for Gathered {
    fn take(&mut self, next: Waiting) -> Option<Waiting> {
        let bytes = self.bytes + next.command.size();
        let is_full = self.waiting.len() >= limits::COMMANDS_PER_ENTRY_MAX
            || !self.waiting.is_empty() && bytes > limits::ENTRY_BYTES_MAX;
        if is_full {
            return Some(next);
        }
        self.bytes = bytes;
        self.waiting.push(next);
        None
    }

    fn commands(&self) -> usize {
        self.waiting.len()
    }
}

async fn run(courier: Courier, waiting: mpsc::Receiver<Waiting>, tasks: TaskTree) {
    let mut gatherer = Gatherer::new(waiting);
    let mut names = Names::new();
    while let Some((gathered, place)) = gatherer.next::<Gathered>(&tasks).await {
        let now = clock::instant();
        let is_over = |it: &Waiting| now.duration_since(it.arrived) >= LEADERLESS_HOLD;
        let (over, on_time): (Vec<_>, Vec<_>) = gathered.waiting.into_iter().partition(is_over);
        for late in over {
            // Held behind groups that found no leader either.
            let _ = late.reply.send(Err(ProposeError::NoLeader(None)));
        }
        let Some(until) = on_time.first().map(|first| first.arrived + LEADERLESS_HOLD) else {
            continue;
        };
        let (commands, replies): (Vec<_>, Vec<_>) =
            on_time.into_iter().map(|it| (it.command, it.reply)).unzip();
        let group = Group { id: names.next(), commands: Arc::new(commands) };
        let (courier, named, token) = (courier.clone(), names.waiting.clone(), tasks.token());
        tasks.spawn("group of commands", async move {
            let number = group.id.number;
            let outcome = tokio::select! {
                outcome = see_through(&courier, group, until) => outcome,
                // What became of it is not known; nobody is left to be told.
                () = token.cancelled() => Err(ProposeError::Stopped),
            };
            named.lock().remove(&number);
            drop(place);
            answer(outcome, replies);
        });
    }
}

/// Sends a group until it is answered, or until its time is over.
async fn see_through(
    courier: &Courier,
    group: Group,
    until: Instant,
) -> Result<Arc<Answered>, ProposeError> {
    // Made with the first failure: randomness is asked of the system.
    let mut backoff: Option<Backoff> = None;
    // Once an attempt got no answer, a refusal of a later one does not mean that nothing
    // happened.
    let mut unanswered: Option<ProposeError> = None;
    let mut held = None;
    loop {
        let leader = courier.leader_id();
        let outcome = tokio::select! {
            outcome = courier.deliver(&group) => outcome,
            // An attempt that is given up may have been carried out; the name sees to that.
            () = courier.other_than(leader) => {
                Err(ProposeError::Unanswered("another server leads now".to_owned()))
            }
        };
        let error = match outcome {
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
        held.get_or_insert_with(|| courier.storage.gauges().hold());
        let new = || Backoff::new(PAUSE_MIN, PAUSE_MAX, entropy::rng());
        let pause = backoff.get_or_insert_with(new).next();
        courier.news_or(pause).await;
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
