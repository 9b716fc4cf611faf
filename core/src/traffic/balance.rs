//! One endpoint among several: the less loaded of two picked at random.

use super::Mix64;

/// How loaded an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Requests or connections on their way to it.
    pub in_flight: u32,
    /// Its share among the others, at least 1; 0 takes it out.
    pub weight: u16,
}

impl Candidate {
    /// Whether this endpoint would be less loaded than the other with one more request.
    fn is_better_than(self, other: Self) -> bool {
        // (a + 1) / weight_a < (b + 1) / weight_b without division; fits: 2^33 * 2^16.
        let cost = |load: Self, weight: u16| (u64::from(load.in_flight) + 1) * u64::from(weight);
        cost(self, other.weight) < cost(other, self.weight)
    }
}

/// Picks two of `count` endpoints at random and returns the less loaded one.
///
/// `candidate` tells the load of the endpoint with a number below `count`. Endpoints of weight
/// 0 (also those that the caller has tried already) are passed over; `None` means that there is
/// none other.
///
/// **Source**: Mitzenmacher: The Power of Two Choices, 2001.
pub fn pick_two(
    count: usize,
    candidate: impl Fn(usize) -> Candidate,
    random: &mut Mix64,
) -> Option<usize> {
    let usable = |at: usize| candidate(at).weight > 0;
    match count {
        0 => return None,
        1 => return usable(0).then_some(0),
        _ => {}
    }
    let bound = u32::try_from(count).unwrap_or(u32::MAX);
    let first = random.below(bound) as usize;
    // The second is one of the others, each with the same chance.
    let second = (first + 1 + random.below(bound - 1) as usize) % count;
    match (usable(first), usable(second)) {
        (true, true) if candidate(second).is_better_than(candidate(first)) => Some(second),
        (true, _) => Some(first),
        (false, true) => Some(second),
        (false, false) => (0..count).map(|off| (first + off) % count).find(|at| usable(*at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(loads: &[Candidate], rounds: u32) -> Vec<u32> {
        let mut random = Mix64::new(11);
        let mut hits = vec![0; loads.len()];
        for _ in 0..rounds {
            if let Some(at) = pick_two(loads.len(), |at| loads[at], &mut random) {
                hits[at] += 1;
            }
        }
        hits
    }

    const fn load(in_flight: u32, weight: u16) -> Candidate {
        Candidate { in_flight, weight }
    }

    #[test]
    fn equal_endpoints_share_evenly() {
        let hits = shares(&[load(0, 1), load(0, 1), load(0, 1)], 30_000);
        assert!(hits.iter().all(|hits| (9_500..10_500).contains(hits)), "{hits:?}");
    }

    #[test]
    fn the_most_loaded_of_several_gets_nothing_new() {
        assert_eq!(shares(&[load(9, 1), load(1, 1), load(2, 1)], 1_000)[0], 0);
    }

    #[test]
    fn weight_counts_against_load() {
        assert_eq!(shares(&[load(3, 4), load(1, 1)], 100), [100, 0]);
    }

    #[test]
    fn endpoints_of_weight_zero_are_passed_over() {
        assert_eq!(shares(&[load(0, 0), load(5, 1), load(0, 0), load(0, 0)], 100), [0, 100, 0, 0]);
        assert_eq!(pick_two(2, |_| load(0, 0), &mut Mix64::new(1)), None);
        assert_eq!(pick_two(0, |_| load(0, 1), &mut Mix64::new(1)), None);
        assert_eq!(pick_two(1, |_| load(0, 1), &mut Mix64::new(1)), Some(0));
    }
}
