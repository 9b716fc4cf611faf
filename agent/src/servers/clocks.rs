//! How far this host's clock is from that of the servers: certificates and tokens are good for a time, and
//! two ends that do not agree on the time do not agree on them.

use std::sync::atomic::{AtomicI64, Ordering};

use tracing::warn;
use weft_core::time::Timestamp;

/// A difference that a person should know of, in milliseconds: half of what checkers of tokens forgive.
const TOLD_MS: i64 = 30_000;
/// Stands for a difference that is not known.
const UNKNOWN: i64 = i64::MIN;

/// The difference as it was last seen.
#[derive(Debug)]
pub(super) struct ClockOffset {
    ahead_ms: AtomicI64,
}

impl Default for ClockOffset {
    fn default() -> Self {
        Self { ahead_ms: AtomicI64::new(UNKNOWN) }
    }
}

impl ClockOffset {
    /// Notes what a server's clock said just now, in milliseconds since the Unix epoch; 0 says nothing.
    pub(super) fn note(&self, here: Timestamp, there_ms: u64) {
        if there_ms == 0 {
            return;
        }
        let ahead = i64::try_from(i128::from(here.0) - i128::from(there_ms)).unwrap_or(i64::MAX);
        let before = self.ahead_ms.swap(ahead, Ordering::Relaxed);
        let is_far =
            |ahead: i64| ahead != UNKNOWN && ahead.unsigned_abs() >= TOLD_MS.unsigned_abs();
        if is_far(ahead) && !is_far(before) {
            warn!(
                ahead_ms = ahead,
                "the clock of this host is not that of the servers: certificates and tokens will not be taken \
                 for good when it is off by more than they last; set it, by NTP for one"
            );
        }
    }

    /// Returns by how many milliseconds this host is ahead; negative when it is behind, `None` when
    /// that is not known.
    pub(super) fn ahead_ms(&self) -> Option<i64> {
        Some(self.ahead_ms.load(Ordering::Relaxed)).filter(|ahead| *ahead != UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_clock_that_was_told_counts() {
        let offset = ClockOffset::default();
        assert_eq!(offset.ahead_ms(), None);
        offset.note(Timestamp(5_000), 0);
        assert_eq!(offset.ahead_ms(), None);
        offset.note(Timestamp(5_000), 7_000);
        assert_eq!(offset.ahead_ms(), Some(-2_000));
        offset.note(Timestamp(90_000), 7_000);
        assert_eq!(offset.ahead_ms(), Some(83_000));
    }
}
