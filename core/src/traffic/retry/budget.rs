//! How many further attempts one target bears: a share of what it answers well, and a few besides.

use std::time::{Duration, Instant};

/// Further attempts for each request that was answered well: with 20 % a target that fails now and
/// then is asked again nearly always, and one that fails always hardly at all.
///
/// **Source**: Finagle: `RetryBudget`; Linkerd: retry budgets. Differs: there every request pays in, so that a target
/// that answers nothing gets a fifth more than it already cannot do.
const SHARE: f64 = 0.2;
/// Over how long is looked back.
const WINDOW: Duration = Duration::from_secs(10);
/// Over how long a burst is seen: what was answered well for long does not pay for many further attempts at
/// once when that ends.
const BURST: Duration = Duration::from_secs(1);
/// Further attempts in a second, of all workers, that need not be paid for: else a service that is asked once a
/// minute would never be asked again.
const FLOOR_PER_SECOND: f64 = 3.0;
/// The least of that which one worker has in a window, however many there are.
const FLOOR_MIN: f64 = 1.0;

/// One worker's budget of further attempts at one target.
///
/// Costs nothing while nothing fails: it is told how much was asked and answered in all only when somebody
/// wants to try again. What lies back counts less the older it is.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    /// What may be had in a window without being paid for.
    floor: f64,
    /// When it was last asked, and the traffic until then.
    last: (Instant, Traffic),
    /// Within the window: requests that were answered well, and further attempts.
    good: f64,
    paid: f64,
    /// Within a burst: requests that have ended, and further attempts.
    burst_seen: f64,
    burst_paid: f64,
}

/// What one worker has asked of a target since it began.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Requests that have ended, however.
    pub ended: u64,
    /// Those of them that were answered well: with a status below 500.
    pub good: u64,
}

impl RetryBudget {
    /// Makes the budget of one of so many workers, at a time when there was so much traffic.
    pub fn new(workers: u16, now: Instant, traffic: Traffic) -> Self {
        let all = FLOOR_PER_SECOND * WINDOW.as_secs_f64();
        let floor = (all / f64::from(workers.max(1))).max(FLOOR_MIN);
        Self { floor, last: (now, traffic), good: 0.0, paid: 0.0, burst_seen: 0.0, burst_paid: 0.0 }
    }

    /// Takes one further attempt out, if there is one left, given the traffic until now.
    pub fn withdraw(&mut self, now: Instant, traffic: Traffic) -> bool {
        self.pass(now, traffic);
        // To the nearest: what lies back fades, and is never quite gone.
        let bears = |paid: f64, requests: f64| paid + 0.5 <= SHARE * requests + self.floor;
        // Requests under way are not counted as ended; the one that asks is one of them.
        if !bears(self.paid, self.good) || !bears(self.burst_paid, self.burst_seen + 1.0) {
            return false;
        }
        self.paid += 1.0;
        self.burst_paid += 1.0;
        true
    }

    fn pass(&mut self, now: Instant, traffic: Traffic) {
        let (since, before) = self.last;
        let elapsed = now.saturating_duration_since(since);
        self.last = (now.max(since), traffic);
        let more = |now: u64, before: u64| now.saturating_sub(before) as f64;
        let (ended, good) = (more(traffic.ended, before.ended), more(traffic.good, before.good));
        let (fades, comes) = fading(elapsed, WINDOW);
        self.good = self.good * fades + good * comes;
        self.paid *= fades;
        let (fades, comes) = fading(elapsed, BURST);
        self.burst_seen = self.burst_seen * fades + ended * comes;
        self.burst_paid *= fades;
    }
}

/// Says what is left after some time of what was there, and of what came evenly meanwhile.
fn fading(elapsed: Duration, window: Duration) -> (f64, f64) {
    let times = elapsed.as_secs_f64() / window.as_secs_f64();
    let fades = (-times).exp();
    let comes = if times > 1e-6 { (1.0 - fades) / times } else { 1.0 };
    (fades, comes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Lets so many requests a second go by for some seconds, of which a share fails; each of those
    /// asks for up to three further attempts, that fail as well. Returns the further attempts.
    fn run(budget: &mut RetryBudget, clock: &mut (Instant, Traffic), load: (u64, u64, f64)) -> u64 {
        let (per_second, seconds, failing) = load;
        let (mut failed, mut further) = (0.0, 0);
        for _ in 0..per_second * seconds {
            clock.0 += Duration::from_secs(1) / u32::try_from(per_second).expect("small");
            failed += failing;
            let fails = failed >= 1.0;
            if fails {
                failed -= 1.0;
                for _ in 0..3 {
                    further += u64::from(budget.withdraw(clock.0, clock.1));
                }
            }
            clock.1.ended += 1;
            clock.1.good += u64::from(!fails);
        }
        further
    }

    fn fresh(workers: u16) -> (RetryBudget, (Instant, Traffic)) {
        let clock = (instant(), Traffic::default());
        (RetryBudget::new(workers, clock.0, clock.1), clock)
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn instant() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_few_failures_are_all_tried_again() {
        let (mut budget, mut clock) = fresh(4);
        // Each failing request wants three: 15 % in all.
        assert!((595..=600).contains(&run(&mut budget, &mut clock, (100, 40, 0.05))));
    }

    #[test]
    fn further_attempts_are_a_share_of_what_is_answered_well() {
        let (mut budget, mut clock) = fresh(1);
        run(&mut budget, &mut clock, (1_000, 60, 0.5));
        let further = run(&mut budget, &mut clock, (1_000, 60, 0.5));
        // A fifth of the half that is answered well, and three a second.
        let most = 60.0 * (500.0 * SHARE + FLOOR_PER_SECOND);
        assert!((further as f64) < most * 1.02 && further as f64 > most * 0.95, "{further} {most}");
    }

    #[test]
    fn a_target_that_fails_always_gets_what_is_not_paid_for_and_recovers() {
        let (mut budget, mut clock) = fresh(1);
        run(&mut budget, &mut clock, (1_000, 60, 0.0));
        let first = run(&mut budget, &mut clock, (1_000, 1, 1.0));
        // The share of a second at once, and again while that fades; without this bound, 2,030.
        assert!(first <= 500, "{first} in the first second");
        run(&mut budget, &mut clock, (1_000, 60, 1.0));
        let later = run(&mut budget, &mut clock, (1_000, 60, 1.0));
        assert!((150..=200).contains(&later), "{later} in a minute");
        run(&mut budget, &mut clock, (1_000, 30, 0.0));
        assert_eq!(run(&mut budget, &mut clock, (1_000, 10, 0.01)), 300);
    }

    #[test]
    fn the_floor_is_shared_among_workers_and_never_nothing() {
        for (workers, at_once) in [(1, 30), (2, 15), (10, 3), (1_000, 1)] {
            let (mut budget, clock) = fresh(workers);
            let taken = (0..100).filter(|_| budget.withdraw(clock.0, clock.1)).count();
            assert_eq!(taken, at_once, "{workers}");
            let later = clock.0 + WINDOW * 10;
            assert!(budget.withdraw(later, clock.1));
        }
    }

    #[test]
    fn what_lies_back_long_pays_for_nothing() {
        let (mut budget, mut clock) = fresh(1);
        clock.1 = Traffic { ended: 1_000_000, good: 1_000_000 };
        clock.0 += Duration::from_secs(3_600);
        let taken = (0..1_000).filter(|_| budget.withdraw(clock.0 + MS, clock.1)).count();
        // As if the million had come evenly in the hour: 2,780 in a window.
        assert!(taken <= 100, "{taken}");
    }
}
