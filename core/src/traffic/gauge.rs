//! How many of something there may be at once, counted by all workers of a proxy.

use std::sync::atomic::{AtomicU32, Ordering};

/// A count with an upper bound. It is exact: one step that fails or is done as a whole lets in, so no two
/// workers take the last place, and nobody is refused while there is one.
#[derive(Debug)]
pub struct Gauge {
    most: Option<u32>,
    count: AtomicU32,
}

impl Gauge {
    /// Makes one of nothing; without an upper bound nothing is counted.
    pub fn new(most: Option<u32>) -> Self {
        Self { most, count: AtomicU32::new(0) }
    }

    /// Counts one more if there may be; who was let in leaves once.
    pub fn enter(&self) -> bool {
        let Some(most) = self.most else { return true };
        let one_more = |count| if count < most { Some(count + 1) } else { None };
        // Nothing else is read by whoever finds it changed.
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// Counts one less.
    pub fn leave(&self) {
        if self.most.is_some() {
            let before = self.count.fetch_sub(1, Ordering::Relaxed);
            debug_assert!(before > 0, "who leaves has entered");
        }
    }

    /// Returns how many there are, and how many there may be; `None` where nothing is counted.
    pub fn standing(&self) -> Option<(u32, u32)> {
        Some((self.count.load(Ordering::Relaxed), self.most?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_in_than_there_may_be() {
        let gauge = Gauge::new(Some(2));
        assert!(gauge.enter() && gauge.enter() && !gauge.enter());
        assert_eq!(gauge.standing(), Some((2, 2)));
        gauge.leave();
        assert!(gauge.enter() && !gauge.enter());
        assert!(!Gauge::new(Some(0)).enter());
        let any = Gauge::new(None);
        assert!((0..1_000).all(|_| any.enter()));
        assert_eq!(any.standing(), None);
    }

    #[test]
    fn workers_never_take_more_than_there_are() {
        let gauge = Gauge::new(Some(3));
        let peak = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if gauge.enter() {
                            let (count, _) = gauge.standing().expect("a bound");
                            peak.fetch_max(count, Ordering::Relaxed);
                            gauge.leave();
                        }
                    }
                });
            }
        });
        assert!(peak.into_inner() <= 3);
        assert_eq!(gauge.standing(), Some((0, 3)));
    }
}
