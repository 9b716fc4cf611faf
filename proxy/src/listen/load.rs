//! What one worker has to do, and whether it is too much.
//!
//! A worker that has more to do than it can takes longer for each turn through what is ready,
//! and everybody waits that long. It measures the turn with a task that does nothing, and when
//! even the shortest one of some time was too long, it lets fewer requests in at once, until
//! turns are short again.
//!
//! **Source**: CoDel (RFC 8289): the minimum over an interval tells a standing queue from a burst.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

/// Requests at once that are let in however long turns take: something must go on.
const ALLOWED_MIN: u32 = 8;
/// The shortest time over which turns are watched.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Turns that are measured in an interval, at most: each costs a switch of tasks.
const PROBES_MAX: u32 = 20;

/// One worker's load.
#[derive(Debug)]
pub(crate) struct Load {
    /// The longest turn that is no fault; zero when there is none.
    delay_max: Duration,
    in_flight: Cell<u32>,
    /// `None` while there is no limit.
    allowed: Cell<Option<u32>>,
    window: Cell<Option<Window>>,
    /// When the turn that is measured began.
    probe: Cell<Option<Instant>>,
    probe_due: Cell<Option<Instant>>,
    probed: Notify,
}

/// Turns that were measured in the current interval.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    shortest: Duration,
}

/// A request under way. It counts until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Rc<Load>);

impl Load {
    /// Makes the load of a worker that refuses requests when its turns take longer; zero never
    /// refuses.
    pub(super) fn new(delay_max: Duration) -> Rc<Self> {
        Rc::new(Self {
            delay_max,
            in_flight: Cell::new(0),
            allowed: Cell::new(None),
            window: Cell::new(None),
            probe: Cell::new(None),
            probe_due: Cell::new(None),
            probed: Notify::new(),
        })
    }

    /// Starts measuring, as a task of the worker's thread.
    pub(super) fn watch(self: &Rc<Self>, tasks: &TaskTree) {
        if self.delay_max.is_zero() {
            return;
        }
        let (load, token) = (self.clone(), tasks.token());
        tasks.spawn_local("load", async move {
            loop {
                tokio::select! {
                    // Both only wait.
                    () = load.probed.notified() => {}
                    () = token.cancelled() => return,
                }
                // Everything that was ready before it has had its turn.
                let now = clock::instant();
                if let Some(began) = load.probe.take() {
                    load.note(now - began, now);
                }
            }
        });
    }

    /// Lets a request in; `None` when there are too many for what the worker can do.
    pub(crate) fn admit(self: &Rc<Self>) -> Option<InFlight> {
        let count = self.in_flight.get();
        if !self.delay_max.is_zero() {
            self.measure(clock::instant());
            if self.allowed.get().is_some_and(|allowed| count >= allowed) {
                return None;
            }
        }
        self.in_flight.set(count + 1);
        Some(InFlight(self.clone()))
    }

    /// Whether there is more to do than the worker can.
    pub(crate) fn is_limited(&self) -> bool {
        self.allowed.get().is_some()
    }

    /// Lets a further attempt in; while there is a limit, the last half of it is for first ones.
    pub(crate) fn admit_further(self: &Rc<Self>) -> Option<InFlight> {
        let count = self.in_flight.get();
        match self.allowed.get() {
            Some(allowed) if count >= allowed / 2 => None,
            Some(_) | None => self.admit(),
        }
    }

    fn interval(&self) -> Duration {
        (self.delay_max * 4).max(INTERVAL_MIN)
    }

    fn measure(&self, now: Instant) {
        if self.probe.get().is_none() && self.probe_due.get().is_none_or(|due| now >= due) {
            self.probe.set(Some(now));
            self.probe_due.set(Some(now + self.interval() / PROBES_MAX));
            self.probed.notify_one();
        }
    }

    /// Takes note of a turn; at the end of an interval judges its shortest.
    fn note(&self, turn: Duration, now: Instant) {
        let window = self.window.get().unwrap_or(Window { began: now, shortest: turn });
        let shortest = window.shortest.min(turn);
        if now - window.began < self.interval() {
            self.window.set(Some(Window { shortest, ..window }));
            return;
        }
        self.window.set(None);
        let (count, allowed) = (self.in_flight.get(), self.allowed.get());
        self.allowed.set(match (shortest > self.delay_max, allowed) {
            (true, None) => Some((count / 2).max(ALLOWED_MIN)),
            (true, Some(allowed)) => Some((allowed / 4 * 3).max(ALLOWED_MIN)),
            // Nobody has come near it for an interval.
            (false, Some(allowed)) if count < allowed / 2 => None,
            (false, Some(allowed)) => Some(allowed + (allowed / 8).max(1)),
            (false, None) => None,
        });
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_standing_queue_lowers_what_is_let_in_and_a_burst_does_not() {
        let load = Load::new(50 * MS);
        let start = clock::instant();
        let requests: Vec<_> = (0..100).map(|_| load.admit().expect("no limit yet")).collect();
        // One long turn among short ones.
        for at in 0..8 {
            let turn = if at == 3 { 400 * MS } else { MS };
            load.note(turn, start + 100 * MS * at);
        }
        assert_eq!(load.allowed.get(), None);
        for at in 8..40 {
            load.note(80 * MS, start + 100 * MS * at);
        }
        let allowed = load.allowed.get().expect("a limit");
        assert!((ALLOWED_MIN..50).contains(&allowed), "{allowed}");
        assert!(load.admit().is_none());
        drop(requests);
        let first: Vec<_> = (0..allowed / 2).map_while(|_| load.admit_further()).collect();
        assert_eq!(first.len(), usize::try_from(allowed / 2).expect("small"));
        assert!(load.admit_further().is_none() && load.admit().is_some());
        drop(first);
        let _one = load.admit().expect("few are let in");
        for at in 40..60 {
            load.note(MS, start + 100 * MS * at);
        }
        assert_eq!(load.allowed.get(), None, "turns are short and few are under way");
    }

    #[test]
    fn without_a_limit_nobody_is_refused() {
        let load = Load::new(Duration::ZERO);
        let requests: Vec<_> = (0..10_000).map(|_| load.admit()).collect();
        assert!(requests.iter().all(Option::is_some));
        assert_eq!(load.in_flight.get(), 10_000);
        drop(requests);
        assert_eq!(load.in_flight.get(), 0);
    }
}
