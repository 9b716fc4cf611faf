//! A ring of hashes: an endpoint has the keys between the point before and each of its own.

use super::hash;
use super::shares::Shares;

/// Points of a ring, at least and at most, where nothing is said.
///
/// **Source**: Envoy: `RingHashLbConfig`.
const POINTS_MIN: u64 = 1_024;

/// A ring of hashes.
///
/// **Source**: Karger et al.: Consistent Hashing and Random Trees, 1997. Differs from
/// Envoy's: an endpoint's points do not depend on how many others there are.
#[derive(Debug)]
pub(super) struct Ring(Box<[(u64, u32)]>);

impl Ring {
    /// Makes a ring with about so many points at least and at most, one for each endpoint in any case; 0
    /// for what is usual.
    pub(super) fn new(names: &[String], shares: &Shares, (min, max): (u64, u64)) -> Self {
        let points_max = crate::limits::RING_POINTS_MAX;
        let max = if max == 0 { points_max } else { max.min(points_max) };
        let min = if min == 0 { POINTS_MIN } else { min }.min(max);
        let each = points_of_lightest(shares, min, max);
        let lightest = lightest(shares);
        let mut ring = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let points = (each * shares.share(number) / lightest).round().max(1.0) as u64;
            ring.extend((1..=points).map(|nth| (hash::of(name.as_bytes(), nth), number as u32)));
        }
        ring.sort_unstable();
        Self(ring.into())
    }

    /// Returns the first endpoint from a key on that is taken.
    pub(super) fn find(&self, key: u64, takes: impl Fn(usize) -> bool) -> Option<usize> {
        let at = self.0.partition_point(|(point, _)| *point < key);
        let mut last = usize::MAX;
        self.0[at..].iter().chain(&self.0[..at]).find_map(|(_, number)| {
            let number = *number as usize;
            // The same one often follows itself.
            (std::mem::replace(&mut last, number) != number && takes(number)).then_some(number)
        })
    }
}

/// Returns how many points the lightest endpoint gets: a power of two, so that the others keep theirs, and
/// their keys, when one comes or goes.
fn points_of_lightest(shares: &Shares, min: u64, max: u64) -> f64 {
    let lightest = lightest(shares);
    let wanted = (lightest * min as f64).ceil() as u64;
    let mut points = wanted.next_power_of_two() as f64;
    while points > 1.0 && points / lightest > max as f64 {
        points /= 2.0;
    }
    points.min(lightest * max as f64)
}

fn lightest(shares: &Shares) -> f64 {
    (0..shares.len()).map(|number| shares.share(number)).fold(1.0, f64::min)
}
