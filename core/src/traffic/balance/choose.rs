//! The policies that need no table: at random, in turn, by what is known of the moment.

use super::Endpoints;
use super::shares::Shares;
use crate::traffic::{Mix64, SplitCounter};

/// Endpoints that are looked at by the policy that is used where none is asked for. By the simulation
/// (`core/tests/balance.rs`) four find an idle one among many busy ones far more often than two;
/// more gain little.
const LOOKS: u32 = 4;
/// How much shorter the wait must be to take another one than the one drawn first: what differs less
/// differs by chance, and following it would leave hosts idle whose turn it was.
const BETTER: f64 = 1.25;
/// Draws for one look: enough not to meet the same few that were tried already.
const DRAWS_MAX: u32 = 4;

/// One worker's place among endpoints that are taken in turn.
#[derive(Debug)]
pub struct Turn(SplitCounter, u32, Box<[Turn]>);

impl Turn {
    pub(super) fn new(shares: &Shares, tiers: Box<[Self]>, random: &mut Mix64) -> Self {
        Self(SplitCounter::new(shares.places(), random), random.below(shares.places()), tiers)
    }

    /// Returns the place among those of a tier.
    pub(super) fn of_tier(&mut self, tier: usize) -> &mut Self {
        &mut self.2[tier]
    }
}

/// At random, in proportion to weights.
pub(super) fn at_random(
    shares: &Shares,
    endpoints: &impl Endpoints,
    random: &mut Mix64,
) -> Option<usize> {
    for _ in 0..DRAWS_MAX {
        let number = shares.draw(random);
        if endpoints.is_usable(number) && is_due(endpoints.part(number), random) {
            return Some(number);
        }
    }
    let first = shares.draw(random);
    (0..shares.len()).map(|off| (first + off) % shares.len()).find(|at| endpoints.is_usable(*at))
}

/// Whether it is the turn of one that gets this part of its share.
fn is_due(part: f64, random: &mut Mix64) -> bool {
    part >= 1.0 || f64::from(random.below(1 << 16)) < part * f64::from(1 << 16)
}

/// In turn: one after the other where all weigh the same; else each as often in a cycle as it weighs,
/// evenly spread.
pub(super) fn in_turn(
    shares: &Shares,
    endpoints: &impl Endpoints,
    (turn, random): (&mut Turn, &mut Mix64),
) -> Option<usize> {
    let is_even = shares.places() as usize == shares.len();
    // One that gets a part of its share gives some of its turns away; any turn is better than none.
    let mut spare = None;
    let found = (0..shares.places()).find_map(|_| {
        let place = match is_even {
            true => {
                turn.1 = (turn.1 + 1) % shares.places();
                turn.1
            }
            false => turn.0.advance(),
        };
        let number = Some(shares.at(place)).filter(|number| endpoints.is_usable(*number))?;
        spare = spare.or(Some(number));
        is_due(endpoints.part(number), random).then_some(number)
    });
    found.or(spare)
}

/// Of several at random, the one with the fewest requests under way for its weight.
///
/// **Source**: Mitzenmacher: The Power of Two Choices, 2001.
pub(super) fn least_requests(
    shares: &Shares,
    endpoints: &impl Endpoints,
    (looks, random): (u32, &mut Mix64),
) -> Option<usize> {
    let load = |number| {
        let load = f64::from(endpoints.in_flight(number)) / shares.relative(number);
        let part = endpoints.part(number);
        // As if the part of its share that is not its yet were under way.
        if part < 1.0 { (load + 1.0) / part - 1.0 } else { load }
    };
    best(shares, endpoints, (looks, random), |new, old| load(new) < load(old))
}

/// Of several at random, the one where the wait is expected to be shortest: the time of its answers, once
/// for each request under way and for the new one.
///
/// **Source**: Finagle's and Linkerd's peak EWMA, of two. Differs: [`super::Latency`], of four, and the
/// first one drawn is kept unless another one is clearly better.
pub(super) fn shortest_wait(
    shares: &Shares,
    endpoints: &impl Endpoints,
    random: &mut Mix64,
) -> Option<usize> {
    let wait = |number| {
        let queue = f64::from(endpoints.in_flight(number)) / shares.relative(number);
        endpoints.expected_ns(number) * (queue + 1.0) / endpoints.part(number)
    };
    best(shares, endpoints, (LOOKS, random), |new, old| wait(new) * BETTER < wait(old))
}

fn best(
    shares: &Shares,
    endpoints: &impl Endpoints,
    (looks, random): (u32, &mut Mix64),
    is_better: impl Fn(usize, usize) -> bool,
) -> Option<usize> {
    let mut found = at_random(shares, endpoints, random)?;
    for _ in 1..looks {
        let other = shares.draw_other(found, random);
        if other != found && endpoints.is_usable(other) && is_better(other, found) {
            found = other;
        }
    }
    Some(found)
}
