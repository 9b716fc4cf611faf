//! Reading the clocks; the only place that does.
//!
//! Local waiting uses [`instant`], which stands still while a test pauses time. Certificate
//! dates and replicated times are [`Timestamp`]s of [`wall`]; they are converted only here.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weft_core::time::Timestamp;

/// Returns the wall time. It may step backwards when the host's clock is set.
pub fn wall() -> Timestamp {
    #[cfg(feature = "sim")]
    if let Some(world) = crate::world::current() {
        return world.wall();
    }
    // A clock before 1970 is not set at all; the epoch then makes every certificate "not yet
    // valid", which is the honest fault.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Returns the wall time in nanoseconds since 1970, for what is laid beside the times of other
/// programs. It may step backwards as [`wall`] does.
pub fn unix_nanos() -> u64 {
    #[cfg(feature = "sim")]
    if let Some(world) = crate::world::current() {
        return world.wall().0.saturating_mul(1_000_000);
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the monotonic time, for measuring and waiting.
pub fn instant() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns how long it is until a moment of wall time, zero when it has passed.
pub fn until(moment: Timestamp) -> Duration {
    moment.since(wall())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_in_milliseconds_of_this_century() {
        let now = wall();
        assert!(now > Timestamp(1_700_000_000_000) && now < Timestamp(4_200_000_000_000));
        assert_eq!(until(now), Duration::ZERO);
        assert!(unix_nanos() / 1_000_000 - now.0 < 60_000);
    }

    #[tokio::test(start_paused = true)]
    async fn local_time_follows_a_paused_clock() {
        let before = instant();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(instant() - before, Duration::from_secs(60));
    }
}
