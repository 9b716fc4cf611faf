//! How many certificates a server signs in a second. What is beyond that waits for a moment, and
//! beyond that is asked to come back, so that a change of roots does not crowd out other work.

use std::time::{Duration, Instant};

use crate::limits;

/// Signatures that may be made at once after a pause.
const BURST: u32 = 100;
/// How long a request may wait for its turn.
///
/// **Source**: Consul: docs/connect/ca#csrmaxpersecond (500 ms).
const WAIT_MAX: Duration = Duration::from_millis(500);

/// States that a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this server signs {per_second} certificates a second, and more are asked for; ask again")]
pub struct TooMany {
    per_second: u32,
}

/// Hands out turns at an even rate.
#[derive(Debug)]
pub struct Turns {
    per_second: u32,
    /// When the turns handed out so far are over, if each took its whole share.
    booked_until: Option<Instant>,
}

impl Default for Turns {
    fn default() -> Self {
        Self::new(limits::LEAF_SIGNATURES_PER_SECOND)
    }
}

impl Turns {
    /// Starts with every turn free. **Units**: turns per second, at least one.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1), booked_until: None }
    }

    /// Hands turns out at another rate from now on. **Units**: turns per second, at least one.
    pub fn set_rate(&mut self, per_second: u32) {
        self.per_second = per_second.max(1);
    }

    /// Takes a turn; returns how long to wait for it, at most half a second.
    ///
    /// # Errors
    /// [`TooMany`] when it would take longer; then no turn is taken.
    pub fn take(&mut self, now: Instant) -> Result<Duration, TooMany> {
        let share = Duration::from_secs(1) / self.per_second;
        let end = self.booked_until.unwrap_or(now).max(now) + share;
        let wait = (end - now).saturating_sub(share * BURST);
        if wait > WAIT_MAX {
            return Err(TooMany { per_second: self.per_second });
        }
        self.booked_until = Some(end);
        Ok(wait)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
pub(super) fn beginning() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_some_wait_and_the_rest_are_sent_away() {
        let (mut turns, start) = (Turns::new(1000), beginning());
        let taken: Vec<_> = (0..1000).map(|_| turns.take(start)).collect();
        let at_once = taken.iter().filter(|turn| **turn == Ok(Duration::ZERO)).count();
        let waiting = taken.iter().filter(|turn| turn.is_ok()).count() - at_once;
        assert_eq!((at_once, waiting), (100, 500));
        assert_eq!(taken[599], Ok(Duration::from_millis(500)));
        assert_eq!(taken[600], Err(TooMany { per_second: 1000 }));
        // Who was sent away took nothing: after a second all is free again.
        let later = start + Duration::from_secs(1);
        assert_eq!(turns.take(later), Ok(Duration::ZERO));
    }

    #[test]
    fn another_rate_holds_from_then_on() {
        let (mut turns, start) = (Turns::new(1), beginning());
        turns.set_rate(1000);
        let served = (0..1000).filter(|_| turns.take(start).is_ok()).count();
        assert_eq!(served, 600, "a burst, and half a second of a thousand");
    }

    #[test]
    fn turns_are_handed_out_at_the_rate_for_ever() {
        let (mut turns, start) = (Turns::new(50), beginning());
        let mut served = 0;
        for ms in 0..60_000 {
            served += u32::from(turns.take(start + Duration::from_millis(ms)).is_ok());
        }
        // 60 s, what was free at first and what is booked half a second ahead.
        assert!((3000..=3000 + 100 + 26).contains(&served), "{served}");
    }
}
