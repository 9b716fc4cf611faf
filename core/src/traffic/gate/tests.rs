//! A service that is asked too much, on a clock of the test's own.

use std::collections::VecDeque;

use super::super::request::tests::Request;
use super::*;
use crate::traffic::Mix64;

#[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
fn beginning() -> Instant {
    Instant::now()
}

/// A service that works on so many requests at once, each for so long; others wait in turn.
struct Service {
    gate: Gate,
    began: Instant,
    now_ms: u64,
    at_once: usize,
    work_ms: u64,
    /// When each came; those at work also when they end.
    waiting: VecDeque<u64>,
    working: Vec<(u64, u64)>,
    dice: Mix64,
}

/// What became of requests over some time.
#[derive(Debug, Default)]
struct Seen {
    answered: u64,
    refused: u64,
    latency_ms: u64,
}

impl Service {
    fn new(limits: &LoadLimits, (at_once, work_ms): (usize, u64)) -> Self {
        let began = beginning();
        let gate = Gate::new(limits, began).expect("a limit");
        let (waiting, working, dice) = (VecDeque::new(), Vec::new(), Mix64::new(5));
        Self { gate, began, now_ms: 0, at_once, work_ms, waiting, working, dice }
    }

    /// Runs for so long with so many requests a second.
    fn run(&mut self, seconds: u64, per_second: u64) -> Seen {
        let mut seen = Seen::default();
        for _ in 0..seconds * 1_000 {
            self.now_ms += 1;
            let now = self.began + Duration::from_millis(self.now_ms);
            let done: Vec<_> =
                self.working.extract_if(.., |(_, ends)| *ends <= self.now_ms).collect();
            for (came, _) in done {
                seen.answered += 1;
                seen.latency_ms += self.now_ms - came;
                self.gate.answered(Duration::from_millis(self.now_ms - came), now);
                self.gate.leave();
            }
            for _ in 0..20 {
                if u64::from(self.dice.below(20_000)) < per_second {
                    match self.gate.enter(&Request::parse("GET /")) {
                        true => self.waiting.push_back(self.now_ms),
                        false => seen.refused += 1,
                    }
                }
            }
            while self.working.len() < self.at_once
                && let Some(came) = self.waiting.pop_front()
            {
                let jitter = u64::from(self.dice.below(3));
                self.working.push((came, self.now_ms + self.work_ms + jitter));
            }
        }
        seen
    }
}

fn adaptive() -> LoadLimits {
    LoadLimits { adaptive: Some(AdaptiveConcurrency::default()), ..LoadLimits::default() }
}

#[test]
fn what_a_service_can_do_is_let_in_and_what_is_too_much_is_not() {
    // 20 at once of 20 ms each are about a thousand in a second.
    let mut service = Service::new(&adaptive(), (20, 19));
    let light = service.run(10, 400);
    assert_eq!(light.refused, 0, "{light:?}");
    service.run(10, 3_000);
    let heavy = service.run(20, 3_000);
    let (mean, rate) = (heavy.latency_ms / heavy.answered, heavy.answered / 20);
    assert!(rate > 850, "{rate} answered in a second, of a thousand");
    assert!(mean < 50, "{mean} ms for what takes 20");
    // And once it is over nobody is refused.
    service.run(5, 400);
    let light = service.run(10, 400);
    assert_eq!(light.refused, 0, "{light:?}");
}

#[test]
fn a_service_that_becomes_slower_is_learnt_anew() {
    let mut service = Service::new(&adaptive(), (50, 9));
    service.run(10, 1_000);
    service.work_ms = 49;
    service.run(30, 500);
    let slow = service.run(20, 500);
    let share = slow.refused * 100 / (slow.refused + slow.answered);
    assert!(
        share < 10,
        "{share}% refused of half of what it can do: {slow:?} {:?}",
        service.gate.standing()
    );
}

#[test]
fn a_fixed_limit_is_exact_and_the_least_important_go_first() {
    let levels = ["high", "normal", "low"].map(str::to_owned).to_vec();
    let priority =
        RequestPriority { header: "x-priority".to_owned(), levels, default: "normal".to_owned() };
    let limits = LoadLimits {
        max_concurrent_requests: 100,
        priority: Some(priority),
        ..LoadLimits::default()
    };
    let gate = Gate::new(&limits, beginning()).expect("a limit");
    let enters = |request| {
        let request = Request::parse(request);
        (0..200).filter(|_| gate.enter(&request)).count()
    };
    assert_eq!(enters("GET / | x-priority: low"), 50);
    assert_eq!(enters("GET / | x-priority: unknown"), 25);
    assert_eq!(enters("GET / | x-priority: high"), 25);
    assert_eq!(gate.standing().in_flight, 100);
    let refused = gate.standing().refused;
    assert_eq!(refused, [("high", 175), ("normal", 175), ("low", 150)]);
    (0..100).for_each(|_| gate.leave());
    assert_eq!(enters("GET /"), 75, "those that say nothing are what the entry says");
}

#[test]
fn steps_of_latency_are_finer_than_what_is_borne() {
    for us in [1_u64, 2, 3, 10, 999, 1_000, 123_456, 10_000_000, 3_000_000_000] {
        let latency = Duration::from_micros(us);
        let middle = latency_of(step(latency)) as f64 / 1e3;
        assert!((middle / us as f64 - 1.0).abs() < 0.05 || us < 16, "{us} is about {middle}");
    }
    assert_eq!(step(Duration::ZERO), 0);
    assert_eq!(step(Duration::from_secs(1_000_000)), STEPS - 1);
}
