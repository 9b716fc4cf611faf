//! Carries rollouts on: asks those who are to be asked, judges what was measured, and writes how far
//! they have come. The judgement is `core::rollout`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tracing::{debug, info, warn};
use weft_core::config_entry::{EntryKind, Rollout, RolloutPhase, RolloutStatus, WebhookTime};
use weft_core::name::ServiceName;
use weft_core::rollout::{Due, Judgement, RolloutReport, Tally, due, held_up, judge, started};
use weft_core::state::{Answer, Command, RolloutAct, RolloutCommand};
use weft_core::watch::Topic;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::Office;
use super::rollout_hooks::{ask, tell};

/// Between two looks at rollouts that are under way: agents tell each second what was measured.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// What was measured, open while this server leads. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct RolloutBook(Arc<Mutex<Option<Tally>>>);

impl RolloutBook {
    /// Takes what an agent's proxies have measured; says whether the book is open.
    pub(crate) fn handle_reports(&self, reports: Vec<RolloutReport>) -> bool {
        let mut tally = self.0.lock();
        let Some(tally) = tally.as_mut() else { return false };
        tally.handle_reports(reports);
        true
    }

    fn with<T>(&self, work: impl FnOnce(&mut Tally) -> T) -> Option<T> {
        self.0.lock().as_mut().map(work)
    }
}

/// Closes the book at the end of leadership, however the duty ends.
struct Open(RolloutBook);

impl Drop for Open {
    fn drop(&mut self) {
        *self.0.0.lock() = None;
    }
}

/// Starts the duty.
pub(super) fn start(office: &Office, tasks: &TaskTree) {
    let (office, token) = (office.clone(), tasks.token());
    tasks.spawn("rollouts", async move {
        tokio::select! {
            () = run(&office) => {}
            // What is under way is begun anew by the next leader: a question is asked twice, and
            // nothing is written twice.
            () = token.cancelled() => {}
        }
    });
}

async fn run(office: &Office) {
    let book = office.consensus.rollouts().clone();
    *book.0.lock() = Some(Tally::default());
    let _open = Open(book.clone());
    let mut mailbox = office.mailbox();
    mailbox.follow(0, BTreeSet::from([Topic::EntryKind(EntryKind::Rollout)]));
    let mut busy = BTreeSet::new();
    let mut under_way = FuturesUnordered::new();
    let mut phases: Option<BTreeMap<ServiceName, RolloutPhase>> = None;
    loop {
        let rollouts: Vec<Rollout> = office.state().rollouts().cloned().collect();
        book.with(|tally| {
            tally.retain(|service| rollouts.iter().any(|rollout| rollout.name == *service));
            for rollout in &rollouts {
                tally.handle_interval(&rollout.name, rollout.status.measured_since);
            }
        });
        for rollout in ended(&rollouts, &mut phases) {
            under_way.push(Box::pin(act(office, &book, rollout, Work::Tell)));
        }
        let is_any = rollouts.iter().any(|rollout| !rollout.status.phase.is_over());
        let now = clock::wall();
        for rollout in rollouts {
            let work = match due(&rollout, now) {
                Due::Start => Work::Start,
                Due::Judge => Work::Judge,
                Due::At(_) | Due::Nothing => continue,
            };
            if busy.insert(rollout.name.clone()) {
                under_way.push(Box::pin(act(office, &book, rollout, work)));
            }
        }
        let pause = tokio::time::sleep(LOOK_PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                // Marks and times are levels, and what is under way is kept: none is lost with the others.
                _ = mailbox.marked() => break,
                () = &mut pause, if is_any => break,
                // What was found out is written, and marks the mailbox; where nothing was, it is
                // looked for again after the pause.
                Some((service, work)) = under_way.next(), if !under_way.is_empty() => {
                    if work != Work::Tell {
                        busy.remove(&service);
                    }
                }
            }
        }
    }
}

/// Returns the rollouts that came to an end since the last look, however they did. At the first one
/// none: the leader before has told of them.
fn ended(
    rollouts: &[Rollout],
    phases: &mut Option<BTreeMap<ServiceName, RolloutPhase>>,
) -> Vec<Rollout> {
    let phase = |rollout: &Rollout| (rollout.name.clone(), rollout.status.phase);
    let before = phases.replace(rollouts.iter().map(phase).collect());
    let Some(before) = before else { return Vec::new() };
    let is_new = |rollout: &&Rollout| {
        let before = before.get(&rollout.name);
        rollout.status.phase.is_over() && before.is_some_and(|it| *it != rollout.status.phase)
    };
    rollouts.iter().filter(is_new).cloned().collect()
}

/// What is done for one rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Start,
    Judge,
    Tell,
}

async fn act(
    office: &Office,
    book: &RolloutBook,
    rollout: Rollout,
    work: Work,
) -> (ServiceName, Work) {
    let next = match work {
        Work::Start => Some(match ask(&rollout, WebhookTime::Start).await {
            Ok(()) => started(clock::wall()),
            Err(reason) => held_up(&rollout, clock::wall(), &reason),
        }),
        Work::Judge => judged(office, book, &rollout).await,
        Work::Tell => {
            let is_promoted = rollout.status.phase == RolloutPhase::Promoted;
            let when = if is_promoted { WebhookTime::Finish } else { WebhookTime::Rollback };
            tell(&rollout, when).await;
            None
        }
    };
    if let Some(next) = next {
        write(office, &rollout, next).await;
    }
    (rollout.name, work)
}

/// Returns where a rollout stands after what was measured, where that is not where it stood.
async fn judged(office: &Office, book: &RolloutBook, rollout: &Rollout) -> Option<RolloutStatus> {
    let chain = office.state().compile_chain(&rollout.name).ok()?;
    let of_chain = chain.rollouts.iter().find(|it| it.service == rollout.name)?;
    let window = |target| book.with(|tally| tally.window(&rollout.name, target));
    let (stable, canary) = (window(&of_chain.stable)?, window(&of_chain.canary)?);
    let judge = |asked| judge(rollout, clock::wall(), (&stable, &canary), asked);
    let asked = match judge(None) {
        Judgement::Stay => return None,
        Judgement::Stand(status) => return Some(*status),
        Judgement::Pass(_) => ask(rollout, WebhookTime::Interval).await,
    };
    // Judged again, as of when all have answered, which may be minutes later.
    let stands = |asked| match judge(Some(asked)) {
        Judgement::Stay => None,
        Judgement::Pass(status) | Judgement::Stand(status) => Some(*status),
    };
    let status = stands(asked)?;
    if status.phase != RolloutPhase::Promoted {
        return Some(status);
    }
    match ask(rollout, WebhookTime::Promote).await {
        Ok(()) => stands(Ok(())),
        Err(reason) => Some(held_up(rollout, clock::wall(), &reason)),
    }
}

async fn write(office: &Office, rollout: &Rollout, next: RolloutStatus) {
    let (phase, step, reason) = (next.phase, next.step, next.reason.clone());
    let is_news = (phase, step) != (rollout.status.phase, rollout.status.step)
        || next.failures > rollout.status.failures;
    let service = &rollout.name;
    let act = RolloutAct::Judge { from: Box::new(rollout.status.clone()), to: Box::new(next) };
    let command = RolloutCommand { service: service.clone(), act };
    match office.write(Command::Rollout(command)).await {
        Ok((_, Answer::Done { .. })) if phase == RolloutPhase::RolledBack => {
            warn!(%service, canary = rollout.canary, reason, "a rollout is taken back");
        }
        Ok((_, Answer::Done { .. })) if is_news => {
            let step = step + 1;
            info!(%service, canary = rollout.canary, %phase, step, reason, "a rollout goes on");
        }
        Ok((_, Answer::Done { .. })) => {}
        // Somebody has said something meanwhile: the next look sees how it stands.
        Ok((_, answer)) => debug!(%service, ?answer, "a rollout is not as it was"),
        Err(error) => debug!(%service, %error, "a rollout's progress could not be written"),
    }
}
