//! When what has gathered goes on its way: late enough that those who are about to come join,
//! early enough that nobody waits for nothing.
//!
//! A way costs the same whether one command goes or a hundred do: syncs, messages, wake-ups. Who
//! was just answered asks again within a few turns of the runtime; a gathering that went at once
//! would leave most of them behind, for the next.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use weft_runtime::task::TaskTree;

/// On their way at once: while the first is written and agreed on, the second is read from its
/// callers.
const IN_FLIGHT: u32 = 2;
/// Commands that are worth a way of their own while the first has not come back. With fewer
/// callers than that, they all go together.
const WORTH: usize = 128;
/// Turns of the runtime in which nothing came, after which nothing more is waited for.
const QUIET_TURNS: usize = 3;
/// How long what has gathered waits for the first to come back: many syncs. A first that hangs
/// must not hold up the rest.
const PATIENCE: Duration = Duration::from_millis(50);

/// A place on the way; dropped when what had it has come back.
pub(super) type Place = OwnedSemaphorePermit;

/// What gathers.
pub(super) trait Gathering<T> {
    /// Takes one more, or gives it back when it does not fit.
    fn take(&mut self, next: T) -> Option<T>;
    /// Returns how many commands have gathered.
    fn commands(&self) -> usize;
}

/// Gathers what waits in a queue, one gathering after another.
pub(super) struct Gatherer<T> {
    flight: Flight,
    waiting: mpsc::Receiver<T>,
    /// What did not fit into the last gathering, and begins the next.
    held: Option<T>,
}

impl<T> Gatherer<T> {
    pub(super) fn new(waiting: mpsc::Receiver<T>) -> Self {
        Self { flight: Flight::new(), waiting, held: None }
    }

    /// Returns the next gathering and its place on the way; `None` when the server ends, which
    /// those who had gathered learn by their replies being dropped.
    pub(super) async fn next<G>(&mut self, tasks: &TaskTree) -> Option<(G, Place)>
    where
        G: Gathering<T> + Default,
    {
        tokio::select! {
            next = self.gather() => next,
            () = tasks.cancelled() => None,
        }
    }

    async fn gather<G>(&mut self) -> Option<(G, Place)>
    where
        G: Gathering<T> + Default,
    {
        let first = match self.held.take() {
            Some(first) => first,
            None => self.waiting.recv().await?,
        };
        let mut gathered = G::default();
        self.held = gathered.take(first);
        let place = self.flight.gather(&mut gathered, &mut self.waiting, &mut self.held).await;
        Some((gathered, place))
    }
}

/// The way, and what is on it.
struct Flight {
    places: Arc<Semaphore>,
}

impl Flight {
    fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(IN_FLIGHT as usize)) }
    }

    /// Gathers until it is time to go. What did not fit any more is left in `held`.
    ///
    /// # Cancel safety
    /// None: what was taken is lost with the gathering.
    async fn gather<T>(
        &self,
        gathering: &mut impl Gathering<T>,
        waiting: &mut mpsc::Receiver<T>,
        held: &mut Option<T>,
    ) -> Place {
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        let (mut quiet, mut is_late) = (0, false);
        loop {
            let before = gathering.commands();
            while held.is_none()
                && let Ok(next) = waiting.try_recv()
            {
                *held = gathering.take(next);
            }
            let commands = gathering.commands();
            quiet = if commands == before { quiet + 1 } else { 0 };
            let is_alone = self.places.available_permits() == IN_FLIGHT as usize;
            let is_worth_it = is_late || held.is_some() || commands >= WORTH;
            if (is_worth_it || is_alone && quiet > QUIET_TURNS)
                && let Ok(place) = self.places.clone().try_acquire_owned()
            {
                return place;
            }
            if is_alone {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                // All are cancel-safe: a place that was not taken goes to nobody, what was not
                // received stays in the channel. A closed channel leaves the places.
                _ = self.places.acquire(), if is_worth_it => {}
                _ = self.places.acquire_many(IN_FLIGHT), if !is_worth_it => {}
                () = patience.as_mut(), if !is_late => is_late = true,
                Some(next) = waiting.recv(), if held.is_none() => *held = gathering.take(next),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_runtime::clock;

    use super::*;

    impl Gathering<u32> for Vec<u32> {
        fn take(&mut self, next: u32) -> Option<u32> {
            if self.len() == 2 * WORTH {
                return Some(next);
            }
            self.push(next);
            None
        }

        fn commands(&self) -> usize {
            self.len()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_come_within_a_few_turns_go_together() {
        let (queue, mut waiting) = mpsc::channel(8);
        let (mut gathered, mut held) = (vec![0], None);
        let flight = Flight::new();
        let callers = async {
            for number in 1..=5 {
                tokio::task::yield_now().await;
                queue.send(number).await.expect("there is room");
            }
        };
        let gather = flight.gather(&mut gathered, &mut waiting, &mut held);
        let (_place, ()) = tokio::join!(gather, callers);
        assert_eq!((gathered, held), (vec![0, 1, 2, 3, 4, 5], None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_goes_when_it_is_worth_it_or_the_first_hangs() {
        let (queue, mut waiting) = mpsc::channel(4 * WORTH);
        let mut held = None;
        let (flight, began) = (Flight::new(), clock::instant());
        let first = flight.gather(&mut vec![0], &mut waiting, &mut held).await;
        for number in 0..3 * WORTH {
            queue.try_send(u32::try_from(number).expect("small")).expect("there is room");
        }
        let mut many = Vec::new();
        let second = flight.gather(&mut many, &mut waiting, &mut held).await;
        assert_eq!((many.len(), held.is_some()), (2 * WORTH, true), "as many as fit");
        let waited = |since| clock::instant().duration_since(since);
        assert!(waited(began).is_zero(), "nobody waited");
        drop(second);
        while waiting.try_recv().is_ok() {}
        held = None;
        let third = flight.gather(&mut vec![0], &mut waiting, &mut held).await;
        assert!(waited(began) >= PATIENCE, "the first had not come back");
        let back = async {
            tokio::time::sleep(PATIENCE / 10).await;
            drop((first, third));
        };
        let began = clock::instant();
        let mut few = vec![0];
        let (_fourth, ()) = tokio::join!(flight.gather(&mut few, &mut waiting, &mut held), back);
        assert!(waited(began) < PATIENCE, "the others had come back");
    }
}
