//! Shares of requests, exact over the long run and even in every window.

use super::Mix64;

/// Chooses a place in a cycle of `total` so that every place comes once per cycle and
/// neighbours in time lie far apart.
///
/// The step is the number closest to the golden section of the cycle that shares no factor
/// with it: each full cycle visits each place exactly once (shares are exact to one place),
/// and any shorter run is spread evenly (Weyl sequence).
#[derive(Debug, Clone)]
pub struct SplitCounter {
    place: u32,
    step: u32,
    total: u32,
}

impl SplitCounter {
    /// Starts a cycle of `total` places (at least 1) somewhere that the generator says, so that
    /// several workers do not move in step.
    pub fn new(total: u32, start: &mut Mix64) -> Self {
        let total = total.max(1);
        let golden = (f64::from(total) * 0.618_033_988_749_895) as u32;
        let step = (0..total)
            .flat_map(|off| [golden.saturating_add(off), golden.saturating_sub(off)])
            .find(|step| (1..total.max(2)).contains(step) && coprime(*step, total))
            .unwrap_or(1);
        Self { place: start.below(total), step, total }
    }

    /// Returns the next place, below `total`.
    pub fn advance(&mut self) -> u32 {
        self.place =
            ((u64::from(self.place) + u64::from(self.step)) % u64::from(self.total)) as u32;
        self.place
    }
}

fn coprime(mut a: u32, mut b: u32) -> bool {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_full_cycle_uses_the_golden_step() {
        let counter = SplitCounter::new(10_000, &mut Mix64::new(1));
        assert!(counter.step.abs_diff(6_180) <= 3, "{counter:?}");
    }

    proptest! {
        #[test]
        fn each_cycle_visits_each_place_once(total in 1u32..3_000, seed: u64) {
            let mut counter = SplitCounter::new(total, &mut Mix64::new(seed));
            let mut seen = vec![false; total as usize];
            for _ in 0..total {
                let place = counter.advance() as usize;
                prop_assert!(!seen[place]);
                seen[place] = true;
            }
        }

        #[test]
        fn any_window_is_close_to_the_share(
            share in 1u32..10_000, window in 1u32..5_000, seed: u64,
        ) {
            let mut counter = SplitCounter::new(10_000, &mut Mix64::new(seed));
            let hits = (0..window).filter(|_| counter.advance() < share).count() as f64;
            let want = f64::from(window) * f64::from(share) / 10_000.0;
            // The discrepancy of the golden sequence grows with the logarithm of the window.
            prop_assert!((hits - want).abs() <= 6.0, "{hits} of {window}, wanted {want}");
        }

        #[test]
        fn traffic_with_a_period_gets_the_share_too(period in 2u32..9, seed: u64) {
            let mut counter = SplitCounter::new(10_000, &mut Mix64::new(seed));
            let hits = (0..10_000 * period)
                .filter(|n| { let place = counter.advance(); n % period == 0 && place < 1_000 })
                .count();
            prop_assert!((950..=1_050).contains(&hits), "{hits}");
        }
    }
}
