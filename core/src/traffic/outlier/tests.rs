//! Endpoints that fail in different ways, on a clock of our own.

use super::*;
use crate::config_entry::PassiveHealthCheck;
use crate::time::Span;

const S: Duration = Duration::from_secs(1);

fn check() -> PassiveHealthCheck {
    PassiveHealthCheck {
        interval: Span(10 * S),
        max_failures: 3,
        max_ejection_percent: Some(50),
        base_ejection_time: Some(Span(20 * S)),
        ..PassiveHealthCheck::default()
    }
}

/// Compares shares alone.
fn shares() -> PassiveHealthCheck {
    PassiveHealthCheck { max_failures: 1_000_000, ..check() }
}

#[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
fn start() -> Instant {
    Instant::now()
}

struct World {
    outliers: Outliers,
    random: Mix64,
    start: Instant,
    windows: Vec<Window>,
}

impl World {
    fn new(check: Option<&PassiveHealthCheck>, count: usize) -> Self {
        let hosts = vec![Standing::default(); count];
        let outliers = Outliers::new(OutlierRules::new(check), hosts);
        let windows = vec![Window::default(); count];
        let mut world = Self { outliers, random: Mix64::new(1), start: start(), windows };
        assert!(world.changes(0).is_empty());
        world
    }

    fn fails(&mut self, second: u32, (number, failure): (usize, Failure), times: u32) {
        for _ in 0..times {
            let at = (self.start + S * second, &mut self.random);
            self.outliers.handle_failure(number, failure, at);
        }
    }

    /// Counts requests of which so many fail, for the next look.
    fn asked(&mut self, number: usize, requests: u32, failures: u32) {
        self.windows[number].requests += requests;
        self.windows[number].failures += failures;
    }

    fn changes(&mut self, second: u32) -> Vec<String> {
        let (windows, count) = (&mut self.windows, self.outliers.hosts.len());
        let taken = || std::mem::replace(windows, vec![Window::default(); count]);
        self.outliers.handle_timeout(taken, (self.start + S * second, &mut self.random));
        let outputs = std::iter::from_fn(|| self.outliers.poll_output());
        let shown = |change| match change {
            Change::Ejected { number, cause, time } => {
                format!("{number} out for {} s: {}", time.as_secs(), cause.word())
            }
            Change::Readmitted { number } => format!("{number} in"),
            Change::Spared { number } => format!("{number} spared"),
        };
        outputs.map(shown).collect()
    }
}

#[test]
fn failures_in_a_row_leave_out_for_longer_each_time() {
    let mut world = World::new(Some(&check()), 4);
    world.fails(0, (1, Failure::Server), 2);
    world.outliers.handle_success(1);
    world.fails(0, (1, Failure::Server), 2);
    assert!(world.outliers.is_failing(1));
    assert!(world.changes(0).is_empty(), "not in a row");
    world.fails(1, (1, Failure::Server), 1);
    assert_eq!(world.changes(1), ["1 out for 20 s: consecutive_5xx"]);
    assert!(world.outliers.is_out(1) && !world.outliers.is_panic());
    assert!(world.changes(20).is_empty());
    assert_eq!(world.changes(21), ["1 in"]);
    world.fails(22, (1, Failure::Gateway), 3);
    assert_eq!(world.changes(22), ["1 out for 40 s: consecutive_gateway_failure"]);
    assert_eq!(world.changes(62), ["1 in"]);
    // Each interval without failures is forgiven one.
    world.changes(75);
    world.changes(86);
    world.fails(87, (1, Failure::NoAnswer), 3);
    assert_eq!(world.changes(87), ["1 out for 20 s: consecutive_local_origin_failure"]);
}

#[test]
fn who_fails_again_at_once_is_left_out_no_longer_than_is_allowed() {
    let check = PassiveHealthCheck { max_ejection_time: Some(Span(50 * S)), ..check() };
    let mut world = World::new(Some(&check), 4);
    let mut second = 0;
    let mut times = Vec::new();
    for _ in 0..4 {
        world.fails(second, (2, Failure::NoAnswer), 3);
        times.extend(world.changes(second));
        second += 60;
        // The interval in which it comes back has failures.
        world.asked(2, 1, 1);
        world.changes(second);
        world.fails(second, (2, Failure::NoAnswer), 1);
        second += 10;
        world.asked(2, 1, 1);
        world.changes(second);
    }
    let seconds: Vec<&str> = times.iter().filter_map(|it| it.split(' ').nth(3)).collect();
    assert_eq!(seconds, ["20", "40", "50", "50"], "{times:?}");
}

#[test]
fn a_failure_is_one_of_each_lesser_kind_and_ends_the_row_of_greater_ones() {
    let check = PassiveHealthCheck { consecutive_local_origin_failure: Some(2), ..check() };
    let mut world = World::new(Some(&check), 4);
    world.fails(0, (1, Failure::NoAnswer), 1);
    world.fails(0, (1, Failure::Gateway), 1);
    world.fails(0, (1, Failure::NoAnswer), 1);
    assert_eq!(world.changes(0), ["1 out for 20 s: consecutive_gateway_failure"]);
    world.fails(0, (2, Failure::NoAnswer), 2);
    assert_eq!(world.changes(0), ["2 out for 20 s: consecutive_local_origin_failure"]);
}

#[test]
fn never_more_are_left_out_than_is_allowed_and_never_the_last() {
    let out = |check: &PassiveHealthCheck, count| {
        let mut world = World::new(Some(check), count);
        (0..count).for_each(|number| world.fails(0, (number, Failure::Server), 3));
        let changes = world.changes(0);
        changes.iter().filter(|change| change.contains("out")).count()
    };
    assert_eq!(out(&check(), 4), 2);
    assert_eq!(out(&check(), 2), 1);
    assert_eq!(out(&check(), 1), 0);
    // A tenth of three is one.
    assert_eq!(out(&PassiveHealthCheck { max_ejection_percent: None, ..check() }, 3), 1);
    assert_eq!(out(&PassiveHealthCheck { max_ejection_percent: Some(0), ..check() }, 3), 0);
    assert_eq!(out(&PassiveHealthCheck { max_ejection_percent: Some(100), ..check() }, 9), 8);
}

#[test]
fn when_too_few_are_left_all_are_called_again() {
    let all = PassiveHealthCheck { max_ejection_percent: Some(100), ..check() };
    let mut world = World::new(Some(&all), 5);
    let mut panics = Vec::new();
    for number in 0..4 {
        world.fails(0, (number, Failure::NoAnswer), 3);
        panics.push(world.outliers.is_panic());
    }
    // 4, 3, 2 and 1 of 5: below a half.
    assert_eq!(panics, [false, false, true, true]);
    let never = PassiveHealthCheck { panic_threshold: Some(0), ..all };
    let mut world = World::new(Some(&never), 5);
    (0..4).for_each(|number| world.fails(0, (number, Failure::NoAnswer), 3));
    assert!(!world.outliers.is_panic());
}

#[test]
fn without_an_entry_only_those_are_left_out_that_give_no_answer() {
    let mut world = World::new(None, 3);
    world.fails(0, (0, Failure::Server), 500);
    world.fails(0, (1, Failure::Gateway), 500);
    assert!(world.changes(0).is_empty());
    assert_eq!(world.outliers.poll_timeout(), None, "nothing is to be looked at");
    world.fails(0, (2, Failure::NoAnswer), 4);
    world.outliers.handle_success(2);
    world.fails(0, (2, Failure::NoAnswer), 5);
    assert_eq!(world.changes(0), ["2 out for 10 s: consecutive_local_origin_failure"]);
    assert!(!OutlierRules::new(None).wants_errors());
}

#[test]
fn who_is_not_enforced_is_left_in_unless_it_cannot_be_reached() {
    let lenient = PassiveHealthCheck { enforcing_consecutive_5xx: Some(0), ..check() };
    let mut world = World::new(Some(&lenient), 3);
    world.fails(0, (1, Failure::Gateway), 30);
    assert!(world.changes(0).is_empty());
    world.fails(0, (2, Failure::NoAnswer), 3);
    assert_eq!(world.changes(0), ["2 out for 20 s: consecutive_local_origin_failure"]);
}

#[test]
fn whose_answers_fail_far_more_often_than_others_is_left_out() {
    let mut world = World::new(Some(&shares()), 7);
    for number in 0..7 {
        // Three of seven fail: the mean of all, less 1.9 of its deviations, would let them in.
        world.asked(number, 1_000, if number < 3 { 300 - 50 * number as u32 } else { 20 });
    }
    let out = |number| format!("{number} out for 20 s: success_rate");
    assert_eq!(world.changes(11), [out(0), out(1), out(2)]);
    // Too few requests, or too few endpoints with enough of them, say nothing.
    let mut world = World::new(Some(&shares()), 7);
    (0..7).for_each(|number| world.asked(number, 99, if number == 0 { 99 } else { 0 }));
    assert!(world.changes(11).is_empty());
    (0..4).for_each(|number| world.asked(number, 100, if number == 0 { 100 } else { 0 }));
    assert!(world.changes(22).is_empty());
}

#[test]
fn chance_leaves_nobody_out() {
    for seed in 0..50 {
        let (mut world, mut dice) = (World::new(Some(&shares()), 10), Mix64::new(seed));
        for number in (0..10).cycle().take(1_500) {
            world.asked(number, 1, u32::from(dice.below(100) < 10));
        }
        assert!(world.changes(11).is_empty(), "seed {seed}");
    }
}

#[test]
fn a_share_of_failures_may_leave_out_whatever_others_do() {
    let check = PassiveHealthCheck {
        failure_percentage_threshold: Some(85),
        max_ejection_percent: Some(100),
        ..shares()
    };
    let mut world = World::new(Some(&check), 6);
    (0..6).for_each(|number| world.asked(number, 50, if number < 4 { 45 } else { 42 }));
    let changes = world.changes(11);
    assert_eq!(changes.len(), 4, "{changes:?}");
    assert!(changes.iter().all(|change| change.ends_with("failure_percentage")), "{changes:?}");
}

#[test]
fn whose_answers_take_far_longer_is_left_out_where_that_is_asked_for() {
    let slow = |world: &mut World| {
        for number in 0..6 {
            let us = if number == 4 { 90_000 } else { 20_000 + 1_000 * number as u64 };
            world.windows[number] =
                Window { requests: 200, failures: 0, timed: 200, timed_us: 200 * us };
        }
        world.changes(11)
    };
    assert!(slow(&mut World::new(Some(&shares()), 6)).is_empty());
    let check = |factor| PassiveHealthCheck { latency_factor: Some(factor), ..shares() };
    let mut world = World::new(Some(&check(3_000)), 6);
    assert_eq!(slow(&mut world), ["4 out for 20 s: latency"]);
    assert!(slow(&mut World::new(Some(&check(5_000)), 6)).is_empty());
    let gap = PassiveHealthCheck { latency_minimum_gap: Some(Span(S)), ..check(3_000) };
    assert!(slow(&mut World::new(Some(&gap), 6)).is_empty());
}

#[test]
fn what_is_known_of_endpoints_that_stay_is_kept() {
    let mut world = World::new(Some(&check()), 3);
    world.fails(0, (1, Failure::NoAnswer), 3);
    world.fails(0, (2, Failure::NoAnswer), 2);
    let stay = [2, 1].map(|number| world.outliers.standing(number));
    world.outliers = Outliers::new(OutlierRules::new(Some(&check())), stay.into());
    world.outliers.hosts.push(Standing::default());
    assert!(world.outliers.is_out(1) && world.outliers.is_failing(0));
    assert_eq!(world.changes(20), ["1 in"]);
}
