//! Watching live requests and connections: which of them somebody wants to see, what is shown of
//! each, and how many at most.

mod event;
mod filter;

use std::time::Instant;

pub use event::{TapEvent, TapKind, TapLatency};
pub use filter::{InvalidTap, TapFilter};

/// The most events a second that one may ask for: beyond it, watching is what the proxy does most.
pub const TAP_RATE_MAX: u32 = 2_000;

/// What a rate allows: so many in a second, and not more than those of a second at once.
#[derive(Debug, Clone)]
pub struct TapRate {
    per_second: u32,
    /// In billionths of one.
    left: u64,
    seen: Instant,
}

const WHOLE: u64 = 1_000_000_000;

impl TapRate {
    /// Allows a second's worth at once.
    pub fn new(per_second: u32, now: Instant) -> Self {
        let left = u64::from(per_second) * WHOLE;
        Self { per_second, left, seen: now }
    }

    /// Returns the rate.
    pub fn per_second(&self) -> u32 {
        self.per_second
    }

    /// Takes as many as are wanted, or what is left.
    pub fn take(&mut self, wanted: u32, now: Instant) -> u32 {
        let passed = u64::try_from(now.saturating_duration_since(self.seen).as_nanos());
        let full = u64::from(self.per_second) * WHOLE;
        let more = passed.unwrap_or(u64::MAX).saturating_mul(u64::from(self.per_second));
        self.left = self.left.saturating_add(more).min(full);
        self.seen = self.seen.max(now);
        let taken = u32::try_from(self.left / WHOLE).unwrap_or(u32::MAX).min(wanted);
        self.left -= u64::from(taken) * WHOLE;
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    fn a_rate_allows_a_second_at_once_and_then_so_many_a_second() {
        let start = Instant::now();
        let mut rate = TapRate::new(10, start);
        for (ms, wanted, taken) in [
            (0, 4, 4),
            (0, 40, 6),
            (0, 1, 0),
            (99, 1, 0),
            (100, 5, 1),
            (100, 5, 0),
            // A clock that is read on another thread may be a little behind.
            (50, 5, 0),
            (350, 5, 2),
            (400, 5, 1),
            (60_000, 100, 10),
        ] {
            let now = start + Duration::from_millis(ms);
            assert_eq!(rate.take(wanted, now), taken, "{ms} ms, {wanted} wanted");
        }
        assert_eq!(TapRate::new(0, start).take(1, start + Duration::from_secs(9)), 0);
    }
}
