//! Which endpoints of a target are left out, for all workers of the proxy together. The machine of
//! [`weft_core::traffic::outlier`] decides.
//!
//! Choosing reads a flag; an answer that is good counts nothing unless shares are compared. Only who has news takes
//! the lock, and who finds it taken by another worker keeps its news for itself: nobody waits.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use weft_core::traffic::Mix64;
use weft_core::traffic::outlier::{Change, Failure, OutlierRules, Outliers, Standing, Window};
use weft_runtime::clock;

/// When nothing is due.
const NEVER: u64 = u64::MAX;

/// What the proxy knows of a target's endpoints, by their number.
#[derive(Debug)]
pub(crate) struct Health {
    machine: Mutex<Outliers>,
    hosts: Box<[Host]>,
    rules: OutlierRules,
    /// Whether some are to be passed over.
    passes_over: AtomicBool,
    began: Instant,
    /// When the machine is to look next.
    ///
    /// **Units**: milliseconds since it began.
    due_ms: AtomicU64,
}

/// What workers read and count of one endpoint.
#[derive(Debug, Default)]
struct Host {
    is_out: AtomicBool,
    is_failing: AtomicBool,
    requests: AtomicU32,
    failures: AtomicU32,
    timed: AtomicU32,
    timed_us: AtomicU64,
    /// When it was let in again; 0 while it never was.
    ///
    /// **Units**: milliseconds since the machine began.
    back_ms: AtomicU64,
}

impl Host {
    /// Takes what was counted. What comes between is counted in one of the two windows.
    fn take(&self) -> Window {
        Window {
            requests: self.requests.swap(0, Ordering::Relaxed),
            failures: self.failures.swap(0, Ordering::Relaxed),
            timed: self.timed.swap(0, Ordering::Relaxed),
            timed_us: self.timed_us.swap(0, Ordering::Relaxed),
        }
    }
}

impl Health {
    /// Begins with endpoints of which this is known.
    pub(crate) fn new(rules: OutlierRules, known: Vec<Standing>) -> Arc<Self> {
        let began = clock::instant();
        let hosts = known.iter().map(|_| Host::default()).collect();
        let mut machine = Outliers::new(rules.clone(), known);
        machine.handle_timeout(Vec::new, (began, &mut Mix64::new(0)));
        let health = Self {
            machine: Mutex::new(machine),
            hosts,
            rules,
            passes_over: AtomicBool::new(false),
            began,
            due_ms: AtomicU64::new(NEVER),
        };
        if let Some(mut machine) = health.machine() {
            // Who was let in while it was begun is nobody's news.
            while machine.poll_output().is_some() {}
            health.publish(&machine);
        }
        Arc::new(health)
    }

    /// Whether it was made of these rules.
    pub(crate) fn is_of(&self, rules: &OutlierRules) -> bool {
        self.rules == *rules
    }

    /// Returns what is known of an endpoint, to go on with when others come or go.
    pub(crate) fn standing(&self, number: usize) -> Standing {
        // Another worker has it for a moment at most; to lose this would be to forget who fails.
        let machine = self.machine.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        machine.standing(number)
    }

    /// Whether an endpoint may be chosen; all may while too few are left.
    pub(crate) fn passes(&self, number: usize) -> bool {
        !self.passes_over.load(Ordering::Relaxed) || !self.is_out(number)
    }

    /// Whether an endpoint is left out, or would be if enough were left.
    pub(crate) fn is_out(&self, number: usize) -> bool {
        self.hosts.get(number).is_some_and(|host| host.is_out.load(Ordering::Relaxed))
    }

    /// Returns when an endpoint was let in again, if it was.
    pub(super) fn back(&self, number: usize) -> Option<Instant> {
        let ms = self.hosts.get(number)?.back_ms.load(Ordering::Relaxed);
        Some(self.began + Duration::from_millis(ms)).filter(|_| ms > 0)
    }

    /// Whether somebody is to measure how long answers take.
    pub(super) fn wants_latency(&self) -> bool {
        self.rules.wants_latency()
    }

    /// Counts how long an endpoint took to answer.
    pub(super) fn timed(&self, number: usize, took: Duration) {
        let Some(host) = self.hosts.get(number).filter(|_| self.wants_latency()) else { return };
        host.timed.fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        host.timed_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Takes note of how a request to an endpoint ended; returns what has changed by that.
    pub(super) fn ended(
        &self,
        number: usize,
        end: Result<(), Failure>,
        random: &mut Mix64,
    ) -> Vec<Change> {
        let Some(host) = self.hosts.get(number) else { return Vec::new() };
        if self.rules.wants_windows() {
            host.requests.fetch_add(1, Ordering::Relaxed);
            host.failures.fetch_add(u32::from(end.is_err()), Ordering::Relaxed);
        }
        let failure = match end {
            Err(failure) if failure == Failure::NoAnswer || self.rules.wants_errors() => failure,
            Ok(()) | Err(_) => {
                if host.is_failing.load(Ordering::Relaxed)
                    && let Some(mut machine) = self.machine()
                {
                    machine.handle_success(number);
                    host.is_failing.store(false, Ordering::Relaxed);
                }
                return Vec::new();
            }
        };
        let Some(mut machine) = self.machine() else { return Vec::new() };
        machine.handle_failure(number, failure, (clock::instant(), random));
        host.is_failing.store(machine.is_failing(number), Ordering::Relaxed);
        self.settle(machine)
    }

    /// Lets the machine look when that is due; returns what has changed by that.
    pub(super) fn look(&self, now: Option<Instant>, random: &mut Mix64) -> Vec<Change> {
        let due = self.due_ms.load(Ordering::Relaxed);
        if due == NEVER {
            return Vec::new();
        }
        let now = now.unwrap_or_else(clock::instant);
        if self.since_began(now) < due {
            return Vec::new();
        }
        let Some(mut machine) = self.machine() else { return Vec::new() };
        let windows = || self.hosts.iter().map(Host::take).collect();
        machine.handle_timeout(windows, (now, random));
        let changes = self.settle(machine);
        for change in &changes {
            if let Change::Readmitted { number } = change {
                let ms = self.since_began(now).max(1);
                self.hosts[*number].back_ms.store(ms, Ordering::Relaxed);
            }
        }
        changes
    }

    fn since_began(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(NEVER)
    }

    fn machine(&self) -> Option<MutexGuard<'_, Outliers>> {
        match self.machine.try_lock() {
            Ok(machine) => Some(machine),
            Err(TryLockError::Poisoned(machine)) => Some(machine.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Shows workers how endpoints stand after an input; returns what has changed.
    fn settle(&self, mut machine: MutexGuard<'_, Outliers>) -> Vec<Change> {
        let changes: Vec<Change> = std::iter::from_fn(|| machine.poll_output()).collect();
        self.publish(&machine);
        changes
    }

    fn publish(&self, machine: &Outliers) {
        let mut is_any_out = false;
        for (number, host) in self.hosts.iter().enumerate() {
            let is_out = machine.is_out(number);
            is_any_out |= is_out;
            host.is_out.store(is_out, Ordering::Relaxed);
        }
        self.passes_over.store(is_any_out && !machine.is_panic(), Ordering::Relaxed);
        // A millisecond more: what is due then is due at the time that is rounded down.
        let due = machine.poll_timeout().map(|due| self.since_began(due).saturating_add(1));
        self.due_ms.store(due.unwrap_or(NEVER), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use weft_core::config_entry::PassiveHealthCheck;
    use weft_core::time::Span;
    use weft_core::traffic::outlier::Cause;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn health(count: usize, check: &PassiveHealthCheck) -> Arc<Health> {
        Health::new(OutlierRules::new(Some(check)), vec![Standing::default(); count])
    }

    #[test]
    fn what_one_worker_finds_out_all_follow() {
        let check = PassiveHealthCheck {
            max_failures: 4,
            base_ejection_time: Some(Span(20 * S)),
            enforcing_success_rate: Some(0),
            ..PassiveHealthCheck::default()
        };
        let health = health(3, &check);
        // Each on a thread of its own, as workers are.
        let changes: Vec<Change> = (0..4)
            .flat_map(|seed| {
                let health = health.clone();
                let failed = move || health.ended(1, Err(Failure::Server), &mut Mix64::new(seed));
                std::thread::spawn(failed).join().expect("no panic")
            })
            .collect();
        let ejected = Change::Ejected { number: 1, cause: Cause::Consecutive5xx, time: 20 * S };
        assert_eq!(changes, [ejected]);
        assert!(health.passes(0) && !health.passes(1) && health.is_out(1));
        let (now, random) = (clock::instant(), &mut Mix64::new(1));
        assert!(health.look(Some(now + 15 * S), random).is_empty());
        let changes = health.look(Some(now + 21 * S), random);
        assert_eq!(changes, [Change::Readmitted { number: 1 }]);
        assert!(health.passes(1));
        assert!(health.back(1) > Some(now) && health.back(0).is_none());
        // Others go on with what is known when endpoints come or go.
        let next = Health::new(health.rules.clone(), vec![health.standing(1), Standing::default()]);
        (0..4).for_each(|_| drop(next.ended(0, Err(Failure::NoAnswer), random)));
        assert!(next.is_out(0));
        let kept = Health::new(health.rules.clone(), vec![next.standing(0), next.standing(1)]);
        assert!(!kept.passes(0) && kept.passes(1));
    }

    #[test]
    fn a_success_ends_the_row_and_shares_are_counted_where_they_are_compared() {
        let check = PassiveHealthCheck {
            max_failures: 2,
            failure_percentage_threshold: Some(50),
            failure_percentage_minimum_hosts: Some(2),
            failure_percentage_request_volume: Some(10),
            ..PassiveHealthCheck::default()
        };
        let (health, random) = (health(3, &check), &mut Mix64::new(1));
        for _ in 0..10 {
            for (number, end) in [(0, Err(Failure::Server)), (0, Ok(())), (1, Ok(()))] {
                assert!(health.ended(number, end, random).is_empty());
            }
        }
        let changes = health.look(Some(clock::instant() + 11 * S), random);
        let cause = Cause::FailurePercentage;
        assert_eq!(changes, [Change::Ejected { number: 0, cause, time: 30 * S }]);
    }
}
