//! A small seeded generator for choices where quality beyond evenness buys nothing.

/// SplitMix64: one addition and three mixing steps a number.
///
/// The seed is passed in, so that the same seed gives the same choices.
/// **Source**: Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014.
#[derive(Debug, Clone)]
pub struct Mix64(u64);

impl Mix64 {
    /// Makes a generator.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, 0 when `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        // Multiply-shift; the bias of at most bound / 2^32 does not show in choices.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_below_the_bound() {
        let (mut a, mut b) = (Mix64::new(7), Mix64::new(7));
        for bound in 0..1_000 {
            let number = a.below(bound);
            assert_eq!(number, b.below(bound));
            assert!(number < bound.max(1));
        }
    }
}
