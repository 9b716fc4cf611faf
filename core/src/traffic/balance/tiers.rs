//! Near endpoints first: from which tier one is chosen, by how many are usable in each.

use super::{Balance, Endpoints, Moment};
use crate::traffic::Mix64;

/// How much more than its share one endpoint bears: a tier is spared nothing until fewer than five of seven are
/// usable, and then as much as they cannot bear.
///
/// **Source**: Envoy: priority levels, `overprovisioning_factor` of 140.
const BEARS: f64 = 1.4;

/// The endpoints of one tier, and how they are chosen among.
#[derive(Debug)]
pub(super) struct Tier {
    /// Their numbers among all.
    pub(super) numbers: Box<[usize]>,
    pub(super) balance: Balance,
}

/// All endpoints as one tier sees its own.
struct Within<'a, E>(&'a E, &'a [usize]);

impl<E: Endpoints> Endpoints for Within<'_, E> {
    fn is_usable(&self, number: usize) -> bool {
        self.0.is_usable(self.1[number])
    }

    fn in_flight(&self, number: usize) -> u32 {
        self.0.in_flight(self.1[number])
    }

    fn expected_ns(&self, number: usize) -> f64 {
        self.0.expected_ns(self.1[number])
    }

    fn part(&self, number: usize) -> f64 {
        self.0.part(self.1[number])
    }
}

/// Chooses a tier, and an endpoint within it.
pub(super) fn choose(
    tiers: &[Tier],
    endpoints: &impl Endpoints,
    moment: Moment<'_>,
) -> Option<usize> {
    let Moment { key, turn, random } = moment;
    let at = draw(tiers, endpoints, random)?;
    let tier = &tiers[at];
    let turn = turn.of_tier(at);
    let within = Within(endpoints, &tier.numbers);
    let number = tier.balance.choose_of_all(&within, Moment { key, turn, random })?;
    Some(tier.numbers[number])
}

/// Draws a tier that has usable endpoints: the nearest, unless it cannot bear all.
fn draw(tiers: &[Tier], endpoints: &impl Endpoints, random: &mut Mix64) -> Option<usize> {
    let bears: Vec<f64> = tiers
        .iter()
        .map(|tier| {
            let usable = tier.numbers.iter().filter(|number| endpoints.is_usable(**number)).count();
            (BEARS * usable as f64 / tier.numbers.len() as f64).min(1.0)
        })
        .collect();
    let all: f64 = bears.iter().sum();
    if bears.first().is_some_and(|first| *first >= 1.0) {
        return Some(0);
    }
    // Where all together do not bear it, each gets as much more.
    let mut left = f64::from(random.below(1 << 20)) / f64::from(1 << 20) * all.min(1.0);
    let fits = |bears: &f64| {
        left -= bears;
        *bears > 0.0 && left < 0.0
    };
    bears.iter().position(fits).or_else(|| bears.iter().rposition(|bears| *bears > 0.0))
}
