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
pub struct Turn(SplitCounter, u32);

impl Turn {
    pub(super) fn new(shares: &Shares, random: &mut Mix64) -> Self {
        Self(SplitCounter::new(shares.places(), random), random.below(shares.places()))
    }
}

/// At random, in proportion to weights.
pub(super) fn at_random(
    shares: &Shares,
    endpoints: &impl Endpoints,
    random: &mut Mix64,
) -> Option<usize> {
    let drawn = (0..DRAWS_MAX).map(|_| shares.draw(random));
    drawn.into_iter().find(|number| endpoints.is_usable(*number)).or_else(|| {
        let first = shares.draw(random);
        (0..shares.len())
            .map(|off| (first + off) % shares.len())
            .find(|at| endpoints.is_usable(*at))
    })
}

/// In turn: one after the other where all weigh the same; else each as often in a cycle as it weighs,
/// evenly spread.
pub(super) fn in_turn(
    shares: &Shares,
    endpoints: &impl Endpoints,
    turn: &mut Turn,
) -> Option<usize> {
    let is_even = shares.places() as usize == shares.len();
    (0..shares.places()).find_map(|_| {
        let place = match is_even {
            true => {
                turn.1 = (turn.1 + 1) % shares.places();
                turn.1
            }
            false => turn.0.advance(),
        };
        Some(shares.at(place)).filter(|number| endpoints.is_usable(*number))
    })
}

/// Of several at random, the one with the fewest requests under way for its weight.
///
/// **Source**: Mitzenmacher: The Power of Two Choices, 2001.
pub(super) fn least_requests(
    shares: &Shares,
    endpoints: &impl Endpoints,
    (looks, random): (u32, &mut Mix64),
) -> Option<usize> {
    let load = |number| f64::from(endpoints.in_flight(number)) / shares.relative(number);
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
        endpoints.expected_ns(number) * (queue + 1.0)
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
