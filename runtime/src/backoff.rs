//! How long to wait before the next attempt. What is attempted is the caller's affair.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

/// Growing, jittered pauses: each is drawn evenly between `min` and a ceiling that doubles up
/// to `max`, so that many callers that failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
    rng: StdRng,
}

impl Backoff {
    /// Makes a backoff whose first pause is between `min` and twice `min`.
    pub fn new(min: Duration, max: Duration, rng: StdRng) -> Self {
        let max = max.max(min);
        Self { min, max, ceiling: (min * 2).min(max), rng }
    }

    /// Returns the pause before the next attempt, and doubles the ceiling for the one after.
    #[expect(clippy::should_implement_trait, reason = "an iterator that never ends is no help")]
    pub fn next(&mut self) -> Duration {
        let pause = self.rng.random_range(self.min..=self.ceiling);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        pause
    }

    /// Starts over; to be called after a success.
    pub fn reset(&mut self) {
        self.ceiling = (self.min * 2).min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn pauses_grow_up_to_the_maximum_and_start_over_after_a_success() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut backoff = Backoff::new(min, max, StdRng::seed_from_u64(1));
        let mut longest = Duration::ZERO;
        for attempt in 0..1000u32 {
            let pause = backoff.next();
            let ceiling = min.saturating_mul(2u32.saturating_pow(attempt + 1)).min(max);
            assert!(pause >= min && pause <= ceiling, "attempt {attempt}: {pause:?}");
            longest = longest.max(pause);
        }
        assert!(longest > max / 2);
        backoff.reset();
        assert!(backoff.next() <= min * 2);
    }
}
