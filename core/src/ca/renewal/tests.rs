//! A certificate's life on a virtual clock.

use super::*;

/// A generator that always draws the same.
struct Fixed(u64);

impl RngCore for Fixed {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }
    fn next_u64(&mut self) -> u64 {
        self.0
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.fill(self.0 as u8);
    }
}

const EARLIEST: u64 = 0;
const LATEST: u64 = u64::MAX;
const MIDDLE: u64 = u64::MAX / 2 + 1;

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1000)
}

/// A renewal whose first request went out at 0 and was answered with a lifetime of `seconds`.
fn certified(draw: u64, seconds: u64) -> Renewal {
    let mut renewal = Renewal::new(Box::new(Fixed(draw)));
    assert_eq!(drain(&mut renewal), [Output::Request]);
    renewal.handle_certificate(at(0), at(seconds), at(0));
    assert_eq!(drain(&mut renewal), []);
    renewal
}

fn drain(renewal: &mut Renewal) -> Vec<Output> {
    std::iter::from_fn(|| renewal.poll_output()).collect()
}

/// Runs the clock to `until`, letting each request fail; returns what happened when, in seconds.
fn fail_until(renewal: &mut Renewal, until: u64) -> Vec<(u64, Output)> {
    let mut seen = Vec::new();
    while let Some(now) = renewal.poll_timeout().filter(|now| *now <= at(until)) {
        renewal.handle_timeout(now);
        while let Some(output) = renewal.poll_output() {
            seen.push((now.unix_seconds(), output));
            if output == Output::Request {
                renewal.handle_failure(now);
            }
        }
    }
    seen
}

#[test]
fn renewal_is_due_between_60_and_90_percent() {
    for (draw, due) in [(EARLIEST, 600), (MIDDLE, 750), (LATEST, 899)] {
        let mut renewal = certified(draw, 1000);
        assert_eq!(renewal.poll_timeout().map(Timestamp::unix_seconds), Some(due), "{draw}");
        renewal.handle_timeout(at(due - 1));
        assert_eq!(drain(&mut renewal), []);
        renewal.handle_timeout(at(due + 1));
        assert_eq!(drain(&mut renewal), [Output::Request]);
        assert_eq!(renewal.poll_timeout(), Some(at(1000)), "the end is still watched");
    }
}

#[test]
fn a_certificate_past_90_percent_is_renewed_at_once() {
    let mut renewal = Renewal::new(Box::new(Fixed(LATEST)));
    drain(&mut renewal);
    renewal.handle_certificate(at(0), at(1000), at(950));
    // "At once" leaves a second, in case every certificate arrives that old.
    assert_eq!(renewal.poll_timeout(), Some(at(951)));
}

#[test]
fn renewal_goes_on_after_each_certificate() {
    let mut renewal = certified(EARLIEST, 1000);
    for start in [600, 1200, 1800] {
        renewal.handle_timeout(at(start));
        assert_eq!(drain(&mut renewal), [Output::Request]);
        renewal.handle_certificate(at(start), at(start + 1000), at(start));
    }
    assert_eq!(renewal.poll_timeout(), Some(at(2400)));
}

#[test]
fn failures_back_off_alarm_and_end_with_the_certificate() {
    let mut renewal = certified(MIDDLE, 1000);
    let seen = fail_until(&mut renewal, 1200);
    let requests: Vec<u64> = seen
        .iter()
        .filter(|(_, output)| *output == Output::Request)
        .map(|(second, _)| *second)
        .collect();
    assert_eq!(requests[0], 750);
    let pauses: Vec<u64> = requests.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| (1..=50).contains(pause)), "{pauses:?}");
    assert!(pauses[..4].is_sorted(), "pauses grow at first: {pauses:?}");
    assert!(*requests.last().expect("some") > 1100, "it never gives up");
    let others: Vec<&(u64, Output)> =
        seen.iter().filter(|(_, output)| *output != Output::Request).collect();
    assert!(matches!(others[0], (900..=902, Output::Alarm { failures: 4.., .. })), "{others:?}");
    assert_eq!(others[1], &(1000, Output::Expired));
    assert_eq!(others.len(), 2);
}

#[test]
fn a_success_after_failures_starts_over() {
    let mut renewal = certified(MIDDLE, 1000);
    fail_until(&mut renewal, 950);
    renewal.handle_certificate(at(950), at(1950), at(950));
    assert_eq!(drain(&mut renewal), []);
    assert_eq!(renewal.poll_timeout(), Some(at(950 + 750)));
    let seen = fail_until(&mut renewal, 950 + 950);
    assert!(seen.iter().any(|(_, output)| matches!(output, Output::Alarm { .. })));
}

#[test]
fn the_first_certificate_is_asked_for_until_it_comes() {
    let mut renewal = Renewal::new(Box::new(Fixed(LATEST)));
    drain(&mut renewal);
    renewal.handle_failure(at(0));
    let requests = fail_until(&mut renewal, 600).len();
    assert!((19..60).contains(&requests), "{requests}");
    renewal.handle_certificate(at(600), at(1600), at(600));
    assert!(renewal.poll_timeout() >= Some(at(1200)));
}

#[test]
fn a_change_of_roots_spreads_renewals_over_a_window() {
    for (draw, lifetime, due) in [
        (EARLIEST, 86_400, 100),
        (MIDDLE, 86_400, 115),
        (LATEST, 86_400, 129),
        // A tenth of a short life.
        (LATEST, 200, 119),
    ] {
        let mut renewal = certified(draw, lifetime);
        renewal.handle_roots_changed(at(100));
        assert_eq!(renewal.poll_timeout().map(Timestamp::unix_seconds), Some(due));
        // A second change does not put it off.
        renewal.handle_roots_changed(at(101));
        assert!(renewal.poll_timeout().map(Timestamp::unix_seconds) <= Some(due));
    }
}

#[test]
fn a_change_of_roots_during_a_request_asks_again() {
    let mut renewal = certified(MIDDLE, 86_400);
    renewal.handle_timeout(at(80_000));
    assert_eq!(drain(&mut renewal), [Output::Request]);
    renewal.handle_roots_changed(at(80_001));
    renewal.handle_certificate(at(80_001), at(166_401), at(80_001));
    assert_eq!(renewal.poll_timeout(), Some(at(80_016)));
}

#[test]
fn spurious_timeouts_change_nothing() {
    let mut renewal = certified(MIDDLE, 1000);
    for second in 0..750 {
        renewal.handle_timeout(at(second));
        assert_eq!(drain(&mut renewal), []);
    }
    let mut asked = Renewal::new(Box::new(Fixed(MIDDLE)));
    drain(&mut asked);
    asked.handle_timeout(at(10_000));
    assert_eq!(drain(&mut asked), []);
}

#[test]
fn an_expired_certificate_is_given_up_even_while_a_request_hangs() {
    let mut renewal = certified(MIDDLE, 1000);
    renewal.handle_timeout(at(750));
    assert_eq!(drain(&mut renewal), [Output::Request]);
    renewal.handle_timeout(renewal.poll_timeout().expect("the end"));
    assert_eq!(drain(&mut renewal), [Output::Expired]);
    assert_eq!(renewal.poll_timeout(), None);
}

#[test]
fn busy_servers_are_asked_again_in_windows_that_grow() {
    let mut renewal = certified(LATEST, 86_400);
    renewal.handle_timeout(at(80_000));
    let mut now = 80_000;
    let mut pauses = Vec::new();
    for _ in 0..7 {
        assert_eq!(drain(&mut renewal), [Output::Request]);
        renewal.handle_busy(at(now));
        let due = renewal.poll_timeout().expect("a moment").unix_seconds();
        pauses.push(due - now);
        now = due + 1;
        renewal.handle_timeout(at(now));
        while let Some(Output::Alarm { .. }) = renewal.outputs.front() {
            renewal.poll_output();
        }
    }
    assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
    // A success forgets them.
    drain(&mut renewal);
    renewal.handle_certificate(at(now), at(now + 86_400), at(now));
    renewal.handle_roots_changed(at(now));
    renewal.handle_timeout(at(now + 31));
    renewal.handle_busy(at(now + 31));
    assert_eq!(renewal.poll_timeout().map(Timestamp::unix_seconds), Some(now + 61));
}

#[test]
fn the_first_certificate_is_not_put_off_for_long_by_busy_servers() {
    let mut renewal = Renewal::new(Box::new(Fixed(LATEST)));
    drain(&mut renewal);
    renewal.handle_busy(at(0));
    assert!(renewal.poll_timeout() <= Some(at(2)));
    for _ in 0..20 {
        renewal.handle_busy(at(100));
    }
    assert!(renewal.poll_timeout() <= Some(at(131)));
}

#[test]
fn a_revoked_certificate_is_replaced_at_once_and_refusals_are_not_hammered() {
    let mut renewal = certified(MIDDLE, 86_400);
    renewal.handle_revoked(at(100));
    assert_eq!(drain(&mut renewal), [Output::Request]);
    renewal.handle_failure(at(100));
    let due = renewal.poll_timeout();
    assert!(due > Some(at(100)));
    renewal.handle_revoked(at(100));
    assert_eq!((renewal.poll_timeout(), drain(&mut renewal)), (due, vec![]));
}

#[test]
fn pauses_lie_between_the_shortest_and_a_ceiling_that_doubles() {
    let mut renewal = certified(MIDDLE, 1000);
    renewal.handle_timeout(at(750));
    assert_eq!(drain(&mut renewal), [Output::Request]);
    // The ceiling is 2 s after the first failure and 4 s after the second.
    renewal.handle_failure(at(750));
    assert_eq!(renewal.poll_timeout(), Some(Timestamp(751_500)));
    renewal.handle_timeout(Timestamp(751_500));
    renewal.handle_failure(Timestamp(751_500));
    assert_eq!(renewal.poll_timeout(), Some(Timestamp(754_000)));
}

#[test]
fn busy_servers_put_a_short_lived_certificate_off_by_a_tenth_of_its_life_at_most() {
    let mut renewal = certified(MIDDLE, 100);
    renewal.handle_timeout(at(75));
    assert_eq!(drain(&mut renewal), [Output::Request]);
    renewal.handle_busy(at(75));
    assert_eq!(renewal.poll_timeout(), Some(at(81)), "a second, and half of ten");
}
