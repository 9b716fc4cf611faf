//! How fast an answer goes on whose route slows it down.

use std::time::{Duration, Instant};

/// Pieces of a second in which bytes go on: short enough to look steady, long enough to cost little.
///
/// **Source**: Envoy's fault filter has 63.
const PIECES_PER_SECOND: u32 = 50;
const PIECE: Duration = Duration::from_millis(1_000 / PIECES_PER_SECOND as u64);

/// Lets so many bytes go on in each piece of a second. What is not used of a piece is lost, so that nothing comes in
/// bursts.
#[derive(Debug, Clone)]
pub struct Throttle {
    bytes_per_second: u64,
    /// When the next piece begins; `None` before the first.
    next: Option<Instant>,
    /// Bytes that may still go on in this piece.
    left: u64,
    /// What pieces have not had as it is no whole byte, in parts of one by [`PIECES_PER_SECOND`].
    owed: u64,
}

/// What may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// So many bytes, at least one.
    Bytes(u64),
    /// Nothing until then.
    NotBefore(Instant),
}

impl Throttle {
    /// Makes one for so many bytes per second, at least one.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), next: None, left: 0, owed: 0 }
    }

    /// Says what may go on now; ask again when it has.
    pub fn handle_asked(&mut self, now: Instant) -> Pass {
        loop {
            let begins = match self.next {
                Some(at) if now < at && self.left == 0 => return Pass::NotBefore(at),
                Some(at) if now < at => return Pass::Bytes(self.left),
                Some(at) if now < at + PIECE => at,
                Some(_) | None => now,
            };
            self.next = Some(begins + PIECE);
            let pieces = u64::from(PIECES_PER_SECOND);
            self.owed = self.owed.saturating_add(self.bytes_per_second);
            (self.left, self.owed) = (self.owed / pieces, self.owed % pieces);
        }
    }

    /// Takes note that bytes have gone on, no more than were allowed.
    pub fn handle_passed(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all that may go on for so many seconds; returns how much that was, and the most at once.
    fn taken(bytes_per_second: u64, seconds: u64) -> (u64, u64) {
        #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
        let start = Instant::now();
        let (mut throttle, mut now) = (Throttle::new(bytes_per_second), start);
        let (mut all, mut most) = (0, 0);
        while now < start + Duration::from_secs(seconds) {
            match throttle.handle_asked(now) {
                Pass::Bytes(bytes) => {
                    assert!(bytes > 0);
                    throttle.handle_passed(bytes);
                    (all, most) = (all + bytes, most.max(bytes));
                }
                Pass::NotBefore(at) => {
                    assert!(at > now);
                    now = at;
                }
            }
        }
        (all, most)
    }

    #[test]
    fn as_much_goes_on_as_is_allowed_and_never_in_bursts() {
        for rate in [1, 7, 49, 50, 51, 1_000, 1 << 30] {
            let (all, most) = taken(rate, 10);
            assert!(all <= rate * 10 && all + most >= rate * 10, "{rate}: {all}");
            assert!(most <= rate / 50 + 1, "{rate}: {most}");
        }
    }

    #[test]
    fn a_pause_saves_nothing_up() {
        #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
        let start = Instant::now();
        let mut throttle = Throttle::new(5_000);
        assert_eq!(throttle.handle_asked(start), Pass::Bytes(100));
        throttle.handle_passed(40);
        assert_eq!(throttle.handle_asked(start), Pass::Bytes(60));
        let later = start + Duration::from_secs(60);
        assert_eq!(throttle.handle_asked(later), Pass::Bytes(100));
        throttle.handle_passed(100);
        assert_eq!(throttle.handle_asked(later), Pass::NotBefore(later + PIECE));
    }
}
