//! How long an endpoint takes to answer, as one worker has seen it.

use std::time::{Duration, Instant};

/// How fast what was seen is forgotten: after this time it counts half. So one that took a second
/// once gets requests again after three quarters of a minute.
///
/// **Source**: Finagle and Linkerd: peak EWMA, whose `decay` of 10 s is a half-life of 6.9 s.
const HALF_LIFE: Duration = Duration::from_secs(7);
/// Halvings after which nothing is left that counts.
const HALVINGS_MAX: f64 = 64.0;
/// Answers that come faster than this are equally fast: below it, differences are noise of the host.
const FLOOR_NS: f64 = 1e6;
/// What the first failure counts as: much for most services, and soon forgotten.
const FAILURE_NS: f64 = 10e6;
/// What failures count as at most.
const FAILURE_NS_MAX: f64 = 1e9;

/// How long an endpoint takes to answer: rises at once to the longest time seen, and sinks slowly.
///
/// **Source**: Finagle: `PeakEwma`. Differs: an endpoint that has owed an answer for longer is
/// expected to take at least as long, and answers that say that it failed never make it look faster.
#[derive(Debug, Default, Clone, Copy)]
pub struct Latency {
    peak_ns: f64,
    seen: Option<Instant>,
    /// Since when it has owed an answer without giving one.
    owes_since: Option<Instant>,
}

impl Latency {
    /// Takes note of a request that is sent while so many others are under way.
    pub fn sent(&mut self, in_flight: u32, now: Instant) {
        if in_flight == 0 || self.owes_since.is_none() {
            self.owes_since = Some(now);
        }
    }

    /// Takes note of an answer that took so long.
    pub fn answered(&mut self, took: Duration, now: Instant) {
        self.note(took.as_nanos() as f64, now);
        self.owes_since = Some(now);
    }

    /// Takes note of an answer that says that it failed, or of none.
    ///
    /// Who fails fast would else look like the best one and draw all requests.
    pub fn failed(&mut self, took: Duration, now: Instant) {
        let doubled = (self.peak_ns * 2.0).clamp(FAILURE_NS, FAILURE_NS_MAX);
        self.note(doubled.max(took.as_nanos() as f64), now);
        self.owes_since = Some(now);
    }

    /// Returns how long the next answer is expected to take while so many requests are under way.
    ///
    /// **Units**: nanoseconds, at least a millisecond.
    pub fn expected_ns(&self, in_flight: u32, now: Instant) -> f64 {
        let known = self.seen.map_or(0.0, |seen| self.peak_ns * kept(now, seen));
        let owed = match self.owes_since {
            Some(since) if in_flight > 0 => nanoseconds(now, since),
            Some(_) | None => 0.0,
        };
        known.max(owed).max(FLOOR_NS)
    }

    fn note(&mut self, sample_ns: f64, now: Instant) {
        self.peak_ns = match self.seen {
            Some(seen) if sample_ns < self.peak_ns => {
                let kept = kept(now, seen);
                self.peak_ns * kept + sample_ns * (1.0 - kept)
            }
            Some(_) | None => sample_ns,
        };
        self.seen = Some(now);
    }
}

/// Returns how much of what was seen then counts now: halves, and straight lines between them, which
/// are the same on every machine, and cheap.
fn kept(now: Instant, seen: Instant) -> f64 {
    let halvings = (nanoseconds(now, seen) / HALF_LIFE.as_nanos() as f64).min(HALVINGS_MAX);
    0.5f64.powi(halvings as i32) * (1.0 - halvings.fract() / 2.0)
}

fn nanoseconds(now: Instant, before: Instant) -> f64 {
    now.saturating_duration_since(before).as_nanos() as f64
}

/// Whether an answer says that whoever gave it could not do better: errors of servers, and those of
/// gRPC that say so.
pub fn says_failed(status: u16, grpc_status: Option<u8>) -> bool {
    // Spec: gRPC status codes: deadline exceeded, resource exhausted, internal, unavailable, data loss.
    status >= 500 || matches!(grpc_status, Some(4 | 8 | 13 | 14 | 15))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn it_rises_at_once_and_sinks_slowly() {
        let (start, mut latency) = (start(), Latency::default());
        latency.answered(20 * MS, start);
        latency.answered(200 * MS, start + MS);
        assert!(latency.expected_ns(0, start + MS) > 199e6);
        latency.answered(20 * MS, start + 2 * MS);
        assert!(latency.expected_ns(0, start + 2 * MS) > 190e6);
        let later = latency.expected_ns(0, start + Duration::from_secs(14));
        assert!((45e6..52e6).contains(&later), "{later}");
    }

    #[test]
    fn an_answer_that_is_owed_for_long_counts_before_it_has_come() {
        let (start, mut latency) = (start(), Latency::default());
        latency.answered(5 * MS, start);
        latency.sent(0, start + MS);
        assert!(latency.expected_ns(1, start + 401 * MS) >= 400e6);
        assert!(latency.expected_ns(0, start + 401 * MS) < 6e6, "nothing is owed");
    }

    #[test]
    fn who_was_slow_once_is_tried_again_within_a_minute() {
        let (start, mut latency) = (start(), Latency::default());
        latency.answered(1_000 * MS, start);
        assert!(latency.expected_ns(0, start + Duration::from_secs(20)) > 100e6);
        assert!(latency.expected_ns(0, start + Duration::from_secs(50)) < 10e6);
        assert!(latency.expected_ns(0, start + Duration::from_secs(86_400)) <= FLOOR_NS);
    }

    #[test]
    fn failures_never_make_it_look_faster() {
        let (start, mut latency) = (start(), Latency::default());
        latency.answered(40 * MS, start);
        let mut before = latency.expected_ns(0, start);
        for at in 1..10 {
            latency.failed(MS, start + at * MS);
            let now = latency.expected_ns(0, start + at * MS);
            assert!(now >= before && now <= FAILURE_NS_MAX, "{before} {now}");
            before = now;
        }
    }
}
