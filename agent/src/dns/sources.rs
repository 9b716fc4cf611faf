//! How much is sent to one place: whoever writes another's address into queries over UDP has the
//! answers sent there. Beyond a rate, some are told to come over TCP and the rest get nothing.
//!
//! A caller that really is there loses nothing but time; one that is not is sent less than was
//! asked in its name.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use parking_lot::Mutex;
use weft_core::limits;

/// Of the queries beyond the rate, one in so many is answered with a request to use TCP.
const TRUNCATED_OF: u32 = 2;

/// What becomes of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Answer,
    Drop,
    Truncate,
}

/// Counts answers by where they go.
pub(super) struct Sources {
    /// Answers a second to one place; `None` for no limit.
    rate: Option<u32>,
    hasher: RandomState,
    /// Places share a counter when their hashes meet, which the random hash leaves to chance.
    counters: Vec<Mutex<Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: u32,
    over: u32,
    since: Instant,
}

impl Sources {
    /// Makes counters with full rates; a rate of 0 is no limit.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        let bucket = Bucket { left: rate, over: 0, since: now };
        let counters = if rate == 0 { 0 } else { limits::DNS_SOURCES_MAX };
        Self {
            rate: (rate > 0).then_some(rate),
            hasher: RandomState::new(),
            counters: std::iter::repeat_with(|| Mutex::new(bucket)).take(counters).collect(),
        }
    }

    /// Judges a query over UDP by where its answer would go. This host may have all.
    pub(super) fn judge(&self, to: IpAddr, now: Instant) -> Verdict {
        let Some(rate) = self.rate else { return Verdict::Answer };
        let network = match to {
            IpAddr::V4(v4) if v4.is_loopback() => return Verdict::Answer,
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) if v6.is_loopback() => return Verdict::Answer,
            // What one host is given.
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        };
        let at = self.hasher.hash_one(network) as usize % self.counters.len();
        let mut bucket = self.counters[at].lock();
        let seconds = now.saturating_duration_since(bucket.since).as_secs_f64();
        let earned = (seconds * f64::from(rate)).min(f64::from(rate)) as u32;
        if earned > 0 {
            bucket.left = bucket.left.saturating_add(earned).min(rate);
            bucket.since = now;
        }
        if bucket.left > 0 {
            bucket.left -= 1;
            return Verdict::Answer;
        }
        bucket.over = bucket.over.wrapping_add(1);
        if bucket.over.is_multiple_of(TRUNCATED_OF) { Verdict::Truncate } else { Verdict::Drop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_place_gets_its_rate_and_this_host_gets_all() {
        let now = weft_runtime::clock::instant();
        let sources = Sources::new(10, now);
        let (far, here) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([127, 0, 0, 1]));
        let verdicts = |to, count, now| -> Vec<Verdict> {
            (0..count).map(|_| sources.judge(to, now)).collect()
        };
        let first = verdicts(far, 14, now);
        assert!(first[..10].iter().all(|verdict| *verdict == Verdict::Answer));
        let (truncated, dropped) = (Verdict::Truncate, Verdict::Drop);
        assert_eq!(first[10..], [dropped, truncated, dropped, truncated]);
        assert!(verdicts(here, 100, now).iter().all(|verdict| *verdict == Verdict::Answer));
        let later = verdicts(far, 6, now + Duration::from_millis(500));
        assert_eq!(later.iter().filter(|verdict| **verdict == Verdict::Answer).count(), 5);
        let much_later = verdicts(far, 11, now + Duration::from_secs(60));
        assert_eq!(much_later.iter().filter(|it| **it == Verdict::Answer).count(), 10);
        let unlimited = Sources::new(0, now);
        assert!((0..1_000).all(|_| unlimited.judge(far, now) == Verdict::Answer));
    }
}
