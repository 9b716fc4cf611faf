//! The one door for reads: how fresh, and until when to wait for something else to say.
//!
//! **Source**: Consul: api-docs/features/blocking, api-docs/features/consistency.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand_core::RngCore;
use weft_core::index::Index;
use weft_core::limits;
use weft_core::state::State;
use weft_core::watch::Topic;
use weft_runtime::backoff::Backoff;
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::metrics::Gauge;
use weft_runtime::{clock, entropy, knob};

use crate::raft::{Archive, Consensus, LEADERLESS_HOLD, ProposeError, Standing};
use crate::watch::{Hub, Waiting};

/// How fresh an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// As of now, confirmed by a majority.
    Consistent,
    /// As of now, as far as the leader's lease can tell.
    Default,
    /// Whatever this server has.
    Stale,
}

/// How to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadOptions {
    pub(crate) consistency: Consistency,
    /// How long ago a server may have heard of the leader whose stale answer is taken; `None` is
    /// any time.
    pub(crate) max_stale: Option<Duration>,
    /// Wait until the answer is newer than this.
    pub(crate) newer_than: Option<Index>,
    /// How long to wait; `None` means the default.
    pub(crate) wait: Option<Duration>,
}

impl ReadOptions {
    /// Asks for more than a stale answer when this server has not heard of the leader for too
    /// long.
    pub(crate) fn bounded(mut self, last_contact: Duration) -> Self {
        let is_too_old = self.max_stale.is_some_and(|most| last_contact > most);
        if self.consistency == Consistency::Stale && is_too_old {
            self.consistency = Consistency::Default;
        }
        self
    }
}

/// An answer, as it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// When it last changed.
    pub(crate) index: Index,
    /// The body, `None` when what was asked for does not exist.
    pub(crate) body: Option<Bytes>,
    /// Whether the caller is told that something was left out.
    pub(crate) is_filtered: bool,
}

impl Answer {
    /// After a restore all has changed, whatever the records say: no index falls behind it.
    pub(crate) fn raised(self, state: &State) -> Self {
        Self { index: self.index.max(state.restored_at()), ..self }
    }
}

/// A question: what it depends on, and how it is answered.
pub(crate) trait Ask<E>: Send {
    /// The topics whose change may change the answer. May differ from state to state.
    fn topics(&self, state: &State) -> BTreeSet<Topic>;
    /// When the answer last changed, where that is known without the answer and moves with
    /// nothing else; spares the wait the making of answers that nobody gets.
    fn index(&self, _: &State) -> Option<Index> {
        None
    }
    /// The answer.
    fn answer(&self, state: &State) -> Result<Answer, E>;
    /// What tells the question from others: whoever asks by the same name gets the same answer.
    /// `None` when it is nobody else's.
    fn name(&self) -> Option<String>;
}

/// The door.
#[derive(Clone)]
pub(crate) struct Reader {
    consensus: Consensus,
    hub: Arc<Hub>,
    tasks: TaskTree,
}

impl Reader {
    pub(crate) fn new(consensus: Consensus, hub: Arc<Hub>, tasks: TaskTree) -> Self {
        Self { consensus, hub, tasks }
    }

    /// Returns the tasks under which answers are made.
    pub(crate) fn tasks(&self) -> &TaskTree {
        &self.tasks
    }

    /// Returns where this server stands.
    pub(crate) fn standing(&self) -> Standing {
        self.consensus.standing()
    }

    /// Returns this server's part in consensus.
    pub(crate) fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// Returns the members of the cluster.
    pub(crate) fn members(&self) -> Vec<crate::raft::Member> {
        self.consensus.members()
    }

    /// Returns what saves the state.
    pub(crate) fn archive(&self) -> Archive {
        Archive::new(self.consensus.clone(), self.tasks.child("archive"))
    }

    /// Returns whatever state this server has.
    pub(crate) fn newest(&self) -> Arc<State> {
        self.hub.state()
    }

    /// Returns the newest state, as fresh as asked for.
    pub(crate) async fn state(&self, consistency: Consistency) -> Result<Arc<State>, ProposeError> {
        if knob("bug: a stale read as default", 0) == 1 {
            return Ok(self.hub.state());
        }
        match consistency {
            Consistency::Stale => return Ok(self.hub.state()),
            Consistency::Default => {
                // The state first: the lease must hold after it was taken.
                let state = self.hub.state();
                if self.consensus.has_lease() {
                    return Ok(state);
                }
            }
            Consistency::Consistent => {}
        }
        // Boxed, so that those who wait for another answer do not hold the room for it.
        Box::pin(self.confirmed_state(consistency)).await
    }

    /// Returns a state that others have confirmed to be the newest.
    async fn confirmed_state(&self, consistency: Consistency) -> Result<Arc<State>, ProposeError> {
        let until = clock::instant() + LEADERLESS_HOLD;
        let mut backoff =
            Backoff::new(Duration::from_millis(20), Duration::from_millis(500), entropy::rng());
        let mut held = None;
        loop {
            let passed = match consistency {
                Consistency::Stale => return Ok(self.hub.state()),
                Consistency::Consistent => self.consensus.read_barrier().await,
                Consistency::Default => {
                    // The state first: the lease must hold after it was taken.
                    let state = self.hub.state();
                    if self.consensus.has_lease() {
                        return Ok(state);
                    }
                    self.consensus.lease_barrier().await
                }
            };
            match passed {
                Ok(()) => return Ok(self.hub.state()),
                // A read may be asked again, whatever became of the first question.
                Err(
                    ProposeError::NoLeader(_)
                    | ProposeError::NoQuorum
                    | ProposeError::Unanswered(_),
                ) if clock::instant() < until => {
                    held.get_or_insert_with(|| self.consensus.storage().gauges().hold());
                    tokio::time::sleep(backoff.next()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Answers a question, at once or as soon as the answer is another.
    ///
    /// A wait ends when the index of the answer has passed the one given *and* the answer is
    /// not the one that was there at the start: changes that do not show do not wake.
    pub(crate) async fn read<E: From<ProposeError>>(
        &self,
        options: &ReadOptions,
        question: &impl Ask<E>,
    ) -> Result<Answer, E> {
        let state = self.state(options.consistency).await?;
        let Some(newer_than) = options.newer_than.filter(|index| index.0 > 0) else {
            return question.answer(&state).map(|answer| answer.raised(&state));
        };
        drop(state);
        // Boxed, so that those who do not wait do not hold the room for it.
        Box::pin(self.wait(newer_than, options.wait, question)).await
    }

    async fn wait<E: From<ProposeError>>(
        &self,
        newer_than: Index,
        wait: Option<Duration>,
        question: &impl Ask<E>,
    ) -> Result<Answer, E> {
        let waiting = Waiting::join(&self.hub, question.name());
        let metrics = self.hub.metrics();
        let _waiter = Waiter::enter(&metrics.waiters);
        let deadline = tokio::time::sleep(wait_with_jitter(wait));
        tokio::pin!(deadline);
        let mut seen: Option<Answer> = None;
        let mut is_woken = false;
        loop {
            let touched = waiting.touched();
            tokio::pin!(touched);
            // What changes after the look ends it.
            touched.as_mut().enable();
            if let Some(answer) = waiting.look(question, Some(newer_than))? {
                let is_same = seen.as_ref().is_some_and(|seen| seen.body == answer.body);
                if answer.index > newer_than && !is_same {
                    return Ok(answer);
                }
                seen = Some(answer);
            }
            if is_woken {
                metrics.wakeups_in_vain.inc();
            }
            tokio::select! {
                () = &mut touched => metrics.wakeups.inc(),
                () = &mut deadline => break,
                () = self.tasks.cancelled() => break,
            };
            is_woken = true;
        }
        let state = self.hub.state();
        question.answer(&state).map(|answer| answer.raised(&state))
    }
}

/// Counts one who waits.
struct Waiter<'a>(&'a Gauge);

impl<'a> Waiter<'a> {
    fn enter(waiters: &'a Gauge) -> Self {
        waiters.inc();
        Self(waiters)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Clients count on at most a sixteenth more than they asked for.
///
/// **Source**: Consul: api-docs/features/blocking#implementation-details.
fn wait_with_jitter(asked: Option<Duration>) -> Duration {
    let wait = asked
        .filter(|wait| !wait.is_zero())
        .unwrap_or(limits::BLOCKING_WAIT_DEFAULT)
        .min(limits::BLOCKING_WAIT_MAX);
    let share = entropy::rng().next_u32();
    wait + (wait / 16).mul_f64(f64::from(share) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question that nobody answers.
    struct Nothing;

    impl Ask<ProposeError> for Nothing {
        fn topics(&self, _: &State) -> BTreeSet<Topic> {
            BTreeSet::new()
        }
        fn answer(&self, _: &State) -> Result<Answer, ProposeError> {
            Err(ProposeError::NoLeader(None))
        }
        fn name(&self) -> Option<String> {
            None
        }
    }

    /// Returns the bytes of the future that a function returns.
    fn room<'a, F>(_: impl FnOnce(&'a Reader, &'a ReadOptions) -> F) -> usize {
        size_of::<F>()
    }

    /// A hundred thousand may wait at one server.
    #[test]
    fn who_waits_holds_little_and_who_does_not_holds_less() {
        let wait = room(|reader, _| reader.wait(Index(1), None, &Nothing));
        let read = room(|reader, options| reader.read(options, &Nothing));
        assert!(wait <= 768 && read <= 256, "{wait} bytes of a wait, {read} of a read");
    }

    #[test]
    fn waits_are_clamped_and_spread_by_at_most_a_sixteenth() {
        for (asked, base) in [(None, 300), (Some(0), 300), (Some(16), 16), (Some(9999), 600)] {
            let wait = wait_with_jitter(asked.map(Duration::from_secs));
            let base = Duration::from_secs(base);
            assert!(wait >= base && wait <= base + base / 16, "{asked:?}: {wait:?}");
        }
    }
}
