//! The order of answers: near ones first, and among those that are as near at random, by weight.

use std::ops::Range;

use rand_core::RngCore;

/// Draws orders; keeps its room, so that an answer from a prepared form allocates nothing.
#[derive(Debug, Default)]
pub struct Shuffler {
    order: Vec<u32>,
    /// Sums of weights over ranges (a Fenwick tree), from place 1 on.
    sums: Vec<u64>,
}

impl Shuffler {
    /// Returns `count` of the places of `weights`. They come by `ranges`, which together are all
    /// places in their order: of each range all before any of the next, each drawn among those of
    /// its range that are left with a chance by its weight; those of weight 0 come last in it.
    ///
    /// **Shape**: distinct places; all of them when `count` is not below their number.
    /// **Source**: RFC 2782, "Weight": a target's share is its weight's.
    pub fn draw(
        &mut self,
        weights: &[u32],
        ranges: &[Range<usize>],
        count: usize,
        rng: &mut (impl RngCore + ?Sized),
    ) -> &[u32] {
        self.order.clear();
        let count = count.min(weights.len());
        for range in ranges {
            let (from, left) = (self.order.len(), count - self.order.len());
            if left == 0 {
                break;
            }
            let (weights, wanted) = (&weights[range.clone()], left.min(range.len()));
            match weights.split_first() {
                Some((first, rest)) if rest.iter().any(|weight| weight != first) => {
                    self.draw_weighted(weights, (range.start, wanted), rng);
                }
                Some(_) | None => self.draw_even(range, wanted, rng),
            }
            self.order.truncate(from + wanted);
        }
        &self.order
    }

    /// Fisher–Yates, from the front.
    fn draw_even(&mut self, range: &Range<usize>, count: usize, rng: &mut (impl RngCore + ?Sized)) {
        let from = self.order.len();
        self.order.extend(range.clone().map(|at| at as u32));
        for at in from..from + count {
            let left = self.order.len() - at;
            let drawn = left as u64 - 1 - below(left as u64, rng);
            self.order.swap(at, at + drawn as usize);
        }
    }

    /// Draws so many of places that begin at `first`.
    fn draw_weighted(
        &mut self,
        weights: &[u32],
        (first, count): (usize, usize),
        rng: &mut (impl RngCore + ?Sized),
    ) {
        let (all, until) = (weights.len(), self.order.len() + count);
        self.sums.clear();
        self.sums.resize(all + 1, 0);
        let mut total = 0;
        for (at, weight) in weights.iter().enumerate() {
            self.add(at, i64::from(*weight));
            total += u64::from(*weight);
        }
        while total > 0 && self.order.len() < until {
            let drawn = self.place(total - 1 - below(total, rng));
            let weight = weights[drawn];
            self.add(drawn, -i64::from(weight));
            total -= u64::from(weight);
            self.order.push((first + drawn) as u32);
        }
        if self.order.len() < until {
            let chosen = self.order.len();
            let rest = (0..all).filter(|at| weights[*at] == 0);
            self.order.extend(rest.map(|at| (first + at) as u32));
            for at in chosen..self.order.len() {
                let left = (self.order.len() - at) as u64;
                let drawn = left - 1 - below(left, rng);
                self.order.swap(at, at + drawn as usize);
            }
        }
    }

    fn add(&mut self, at: usize, change: i64) {
        let mut node = at + 1;
        while let Some(sum) = self.sums.get_mut(node) {
            *sum = sum.wrapping_add_signed(change);
            node += node & node.wrapping_neg();
        }
    }

    /// Returns the place in whose share a number below the sum of all weights falls.
    fn place(&self, mut number: u64) -> usize {
        let mut node = 0;
        let mut step = self.sums.len().next_power_of_two();
        while step > 0 {
            if let Some(sum) = self.sums.get(node + step)
                && *sum <= number
            {
                number -= sum;
                node += step;
            }
            step /= 2;
        }
        node
    }
}

/// Returns a number below a bound that is not 0.
fn below(bound: u64, rng: &mut (impl RngCore + ?Sized)) -> u64 {
    // The high half of the product is even enough: the bias is below 2^-32 for any list that fits
    // a message.
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers by an additive sequence, spread evenly.
    struct Spread(u64);

    impl RngCore for Spread {
        fn next_u32(&mut self) -> u32 {
            (self.next_u64() >> 32) as u32
        }
        fn next_u64(&mut self) -> u64 {
            // SplitMix64 (Steele, Lea, Flood 2014).
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill_with(|| self.next_u32() as u8);
        }
    }

    #[test]
    fn every_place_is_drawn_once_whatever_the_weights() {
        let mut shuffler = Shuffler::default();
        for weights in [&[][..], &[5], &[1, 1, 1], &[0, 0], &[3, 0, 7, 0, 1], &[1; 100]] {
            for count in [0, 1, weights.len(), 1_000] {
                let whole = std::iter::once(0..weights.len()).collect::<Vec<_>>();
                let drawn = shuffler.draw(weights, &whole, count, &mut Spread(7)).to_vec();
                assert_eq!(drawn.len(), count.min(weights.len()));
                let mut sorted = drawn.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), drawn.len(), "{weights:?}: {drawn:?}");
                assert!(sorted.iter().all(|at| (*at as usize) < weights.len()));
            }
        }
    }

    #[test]
    fn the_first_place_falls_to_each_by_its_weight_and_nothing_precedes_a_weight() {
        let (mut shuffler, mut rng) = (Shuffler::default(), Spread(1));
        let whole = std::iter::once(0..4).collect::<Vec<_>>();
        for weights in [[1, 1, 1, 1], [1, 2, 3, 4], [10, 0, 10, 0]] {
            let total: u32 = weights.iter().sum();
            let mut firsts = [0_u32; 4];
            let rounds = 40_000;
            for _ in 0..rounds {
                let drawn = shuffler.draw(&weights, &whole, 4, &mut rng);
                firsts[drawn[0] as usize] += 1;
                let zeros = drawn.iter().skip_while(|at| weights[**at as usize] > 0);
                assert!(zeros.into_iter().all(|at| weights[*at as usize] == 0));
            }
            for (at, first) in firsts.iter().enumerate() {
                let share = f64::from(*first) / f64::from(rounds);
                let wanted = f64::from(weights[at]) / f64::from(total);
                assert!((share - wanted).abs() < 0.01, "{weights:?}[{at}]: {share}");
            }
        }
    }

    #[test]
    fn a_range_comes_before_the_next_and_each_is_drawn_by_itself() {
        let (mut shuffler, mut rng) = (Shuffler::default(), Spread(3));
        let weights = [1, 9, 0, 1, 1, 5, 1];
        let ranges = [0..3, 3..5, 5..5, 5..7];
        let mut firsts = [0_u32; 7];
        for _ in 0..10_000 {
            let drawn = shuffler.draw(&weights, &ranges, 7, &mut rng);
            assert_eq!(drawn[2], 2, "weight 0 is last in its range: {drawn:?}");
            for (range, places) in [(0..3, 0..3), (3..5, 3..5), (5..7, 5..7)] {
                assert!(drawn[places].iter().all(|at| range.contains(&(*at as usize))));
            }
            firsts[drawn[0] as usize] += 1;
            firsts[drawn[5] as usize] += 1;
        }
        let share = |at: usize| f64::from(firsts[at]) / 10_000.0;
        assert!((share(1) - 0.9).abs() < 0.02 && (share(5) - 5.0 / 6.0).abs() < 0.02, "{firsts:?}");
        for count in 0..=8 {
            assert_eq!(shuffler.draw(&weights, &ranges, count, &mut rng).len(), count.min(7));
        }
    }
}
