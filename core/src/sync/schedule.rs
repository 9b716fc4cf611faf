//! When to compare the host with the catalog.

use std::time::{Duration, Instant};

use rand_core::RngCore;

/// The pause between full comparisons (Consul: 1 min); up to a quarter is added by chance so
/// that agents that started together part.
const FULL_INTERVAL: Duration = Duration::from_secs(60);
/// How long output that changed alone may wait (Consul's `check_update_interval`); it is
/// halved by chance, and a busy check does not turn into a stream of writes.
const OUTPUT_INTERVAL: Duration = Duration::from_secs(300);
/// The pause after a comparison before the next: changes that come together go together.
const CHANGE_PAUSE: Duration = Duration::from_millis(20);
/// The time within which a full comparison follows a new connection, chosen by chance: many
/// hosts come to a server at once when another one ends (Consul: 3 s).
const CONNECTED_SPREAD: Duration = Duration::from_secs(3);
/// The first pause after a failure.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// The longest pause after failures (Consul: 15 s).
const RETRY_MAX: Duration = Duration::from_secs(15);

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncOrder {
    /// Whether to ask the catalog what it holds; else what it was last known to hold is taken.
    pub full: bool,
    /// Whether output that changed alone is sent as well.
    pub with_output: bool,
}

/// Decides when the host is compared with the catalog; the first time is at once and full.
#[derive(Debug)]
pub struct Schedule<R> {
    rng: R,
    /// A comparison is under way.
    busy: bool,
    full_at: Instant,
    change_at: Option<Instant>,
    output_at: Option<Instant>,
    /// No comparison starts before.
    not_before: Instant,
    failures: u32,
    order: Option<SyncOrder>,
}

impl<R: RngCore> Schedule<R> {
    /// Starts a schedule.
    pub fn new(now: Instant, rng: R) -> Self {
        Self {
            rng,
            busy: false,
            full_at: now,
            change_at: None,
            output_at: None,
            not_before: now,
            failures: 0,
            order: None,
        }
    }

    /// Takes note that services, checks or a status changed.
    pub fn handle_change(&mut self, now: Instant) {
        self.change_at.get_or_insert(now);
    }

    /// Takes note that nothing but a check's output changed.
    pub fn handle_output_change(&mut self, now: Instant) {
        if self.output_at.is_none() {
            self.output_at = Some(now + OUTPUT_INTERVAL / 2 + self.part_of(OUTPUT_INTERVAL / 2));
        }
    }

    /// Takes note that the comparison ordered last was carried out.
    pub fn handle_done(&mut self, now: Instant) {
        self.busy = false;
        self.failures = 0;
        self.not_before = now + CHANGE_PAUSE;
    }

    /// Takes note that the comparison ordered last failed. The next one is full, as it is not
    /// known what the catalog took.
    pub fn handle_failure(&mut self, now: Instant) {
        self.busy = false;
        self.failures = self.failures.saturating_add(1);
        let doubled = RETRY_MIN.saturating_mul(1 << self.failures.min(10).saturating_sub(1));
        let pause = doubled.min(RETRY_MAX);
        self.not_before = now + pause / 2 + self.part_of(pause / 2);
        self.full_at = now;
    }

    /// Takes note of a new connection to a server, which ends the pause after failures. A full
    /// comparison follows soon: what happened to the catalog meanwhile is not known.
    pub fn handle_connected(&mut self, now: Instant) {
        self.full_at = self.full_at.min(now + self.part_of(CONNECTED_SPREAD));
        if self.failures > 0 {
            self.failures = 0;
            self.not_before = now;
        }
    }

    /// Orders a comparison if one is due. A call before [`Self::poll_timeout`]'s moment
    /// changes nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let full = self.full_at <= now;
        let with_output = due(self.output_at);
        if full {
            let interval = FULL_INTERVAL + self.part_of(FULL_INTERVAL / 4);
            self.full_at = now + interval;
        }
        if with_output {
            self.output_at = None;
        }
        self.change_at = None;
        self.busy = true;
        self.order = Some(SyncOrder { full, with_output });
    }

    /// Returns when to call [`Self::handle_timeout`] next; ask again after each call. `None`
    /// while a comparison is under way.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.busy {
            return None;
        }
        let due = [Some(self.full_at), self.change_at, self.output_at].into_iter().flatten().min();
        due.map(|at| at.max(self.not_before))
    }

    /// Returns the comparison to carry out now; answer it with [`Self::handle_done`] or
    /// [`Self::handle_failure`].
    pub fn poll_output(&mut self) -> Option<SyncOrder> {
        self.order.take()
    }

    fn part_of(&mut self, whole: Duration) -> Duration {
        let ns = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(self.rng.next_u64() % ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The moment at which a test's time begins; which one does not matter.
    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    fn beginning() -> Instant {
        Instant::now()
    }

    /// Gives the same number each time.
    struct Always(u64);

    impl RngCore for Always {
        fn next_u32(&mut self) -> u32 {
            self.0 as u32
        }
        fn next_u64(&mut self) -> u64 {
            self.0
        }
        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    const FULL: Option<SyncOrder> = Some(SyncOrder { full: true, with_output: false });
    const PARTIAL: Option<SyncOrder> = Some(SyncOrder { full: false, with_output: false });

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(schedule: &mut Schedule<Always>, now: Instant) -> Option<SyncOrder> {
        schedule.handle_timeout(now);
        schedule.poll_output()
    }

    /// A schedule whose first comparison is done.
    fn settled(start: Instant) -> Schedule<Always> {
        let mut schedule = Schedule::new(start, Always(0));
        assert_eq!(at(&mut schedule, start), FULL);
        schedule.handle_done(start);
        schedule
    }

    #[test]
    fn a_full_comparison_comes_at_once_and_then_every_minute() {
        let start = beginning();
        let mut schedule = settled(start);
        assert_eq!(at(&mut schedule, start + ms(59_999)), None);
        assert_eq!(at(&mut schedule, start + ms(60_000)), FULL);
    }

    #[test]
    fn changes_that_come_together_go_together() {
        let start = beginning();
        let mut schedule = settled(start);
        schedule.handle_change(start + ms(1));
        schedule.handle_change(start + ms(10));
        assert_eq!(at(&mut schedule, start + ms(19)), None);
        assert_eq!(at(&mut schedule, start + ms(20)), PARTIAL);
        assert_eq!(at(&mut schedule, start + ms(500)), None);
    }

    #[test]
    fn a_change_during_a_comparison_brings_another() {
        let start = beginning();
        let mut schedule = Schedule::new(start, Always(0));
        assert_eq!(at(&mut schedule, start), FULL);
        schedule.handle_change(start + ms(5));
        assert_eq!(schedule.poll_timeout(), None);
        assert_eq!(at(&mut schedule, start + ms(100)), None);
        schedule.handle_done(start + ms(100));
        assert_eq!(at(&mut schedule, start + ms(120)), PARTIAL);
    }

    #[test]
    fn failures_are_retried_in_full_with_growing_pauses() {
        let start = beginning();
        let mut schedule = settled(start);
        let mut now = start + ms(1_000);
        schedule.handle_change(now);
        assert_eq!(at(&mut schedule, now), PARTIAL);
        for pause in [125, 250, 500, 1_000, 2_000, 4_000, 7_500, 7_500] {
            schedule.handle_failure(now);
            assert_eq!(schedule.poll_timeout(), Some(now + ms(pause)));
            now += ms(pause);
            assert_eq!(at(&mut schedule, now), FULL);
        }
        schedule.handle_failure(now);
        schedule.handle_connected(now);
        assert_eq!(at(&mut schedule, now), FULL);
    }

    #[test]
    fn a_new_connection_brings_a_full_comparison() {
        let start = beginning();
        let mut schedule = settled(start);
        schedule.handle_connected(start + ms(1_000));
        assert_eq!(at(&mut schedule, start + ms(1_000)), FULL);
    }

    #[test]
    fn output_alone_waits_for_minutes() {
        let start = beginning();
        let mut schedule = settled(start);
        schedule.handle_output_change(start);
        schedule.handle_output_change(start + ms(30_000));
        assert_eq!(at(&mut schedule, start + ms(60_000)), FULL);
        schedule.handle_done(start + ms(60_000));
        assert_eq!(at(&mut schedule, start + ms(120_000)), FULL);
        schedule.handle_done(start + ms(120_000));
        let with_output = Some(SyncOrder { full: false, with_output: true });
        assert_eq!(at(&mut schedule, start + ms(150_000)), with_output);
    }
}
