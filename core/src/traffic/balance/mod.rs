//! Which endpoint of a target gets a request: the policies of a resolver's `LoadBalancer`.
//!
//! [`Balance`] is made when endpoints or policy change, and shared by all workers; what changes with
//! each request is the worker's own: [`Latency`] of each endpoint, and the [`Turn`].

mod choose;
mod hash;
mod key;
mod latency;
mod maglev;
mod ring_hash;
mod shares;
#[cfg(test)]
mod tests;
mod tiers;
mod warming;

use std::collections::BTreeSet;
use std::time::Duration;

pub use choose::Turn;
pub(crate) use hash::of as hash_of;
pub use latency::{Latency, says_failed};

use super::Mix64;
use crate::chain::Endpoint;
use crate::config_entry::{BalancePolicy, LoadBalancer};
use key::KeyPolicy;
use maglev::Maglev;
use ring_hash::Ring;
use shares::Shares;
use tiers::Tier;
use warming::Warming;

/// Endpoints that `least_request` looks at where nothing is said (Envoy: 2).
const CHOICES_DEFAULT: u32 = 2;

/// What one worker knows of the endpoints of a target, by their number.
pub trait Endpoints {
    /// Whether it may be chosen.
    fn is_usable(&self, number: usize) -> bool;
    /// Returns the requests and connections under way to it.
    fn in_flight(&self, number: usize) -> u32;
    /// Returns how long its next answer is expected to take; see [`Latency::expected_ns`].
    fn expected_ns(&self, number: usize) -> f64;
    /// Returns what part of its share it gets, above 0 and at most 1; see [`Balance::part`].
    fn part(&self, _number: usize) -> f64 {
        1.0
    }
}

/// How the endpoints of one target are chosen among.
#[derive(Debug)]
pub struct Balance {
    settings: Option<LoadBalancer>,
    shares: Shares,
    rule: Rule,
    keys: Box<[KeyPolicy]>,
    /// `None` where endpoints that have come get their share at once.
    warming: Option<Warming>,
    /// From the nearest to the farthest; empty where all are as near.
    tiers: Box<[Tier]>,
}

#[derive(Debug)]
enum Rule {
    AtRandom,
    InTurn,
    LeastRequests(u32),
    Maglev(Maglev),
    Ring(Ring),
    ShortestWait,
}

/// What a choice depends on beside the endpoints.
#[derive(Debug)]
pub struct Moment<'a> {
    /// The hash of what the request has of what is hashed.
    pub key: Option<u64>,
    /// The worker's place.
    pub turn: &'a mut Turn,
    /// The worker's generator.
    pub random: &'a mut Mix64,
}

impl Balance {
    /// Makes what a policy needs to choose among endpoints; without settings the policy is ours.
    pub fn new(settings: Option<&LoadBalancer>, endpoints: &[Endpoint]) -> Self {
        let shares = Shares::new(endpoints.iter().map(|endpoint| endpoint.weight));
        // Every proxy has to come to the same table.
        let names = || -> Vec<String> {
            endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
        };
        let rule = match settings.map(|settings| settings.policy).unwrap_or_default() {
            BalancePolicy::LeastRequest => {
                let config = settings.and_then(|settings| settings.least_request_config.as_ref());
                let choices = config.map_or(0, |config| config.choice_count);
                let most = u32::try_from(shares.len()).unwrap_or(u32::MAX);
                let choices = if choices == 0 { CHOICES_DEFAULT } else { choices };
                Rule::LeastRequests(choices.min(most.saturating_mul(2)))
            }
            BalancePolicy::Maglev => Rule::Maglev(Maglev::new(&names(), &shares)),
            BalancePolicy::Random => Rule::AtRandom,
            BalancePolicy::RingHash => {
                let config = settings.and_then(|settings| settings.ring_hash_config.as_ref());
                let sizes = config.map(|it| (it.minimum_ring_size, it.maximum_ring_size));
                Rule::Ring(Ring::new(&names(), &shares, sizes.unwrap_or_default()))
            }
            BalancePolicy::RoundRobin => Rule::InTurn,
            BalancePolicy::Unset => Rule::ShortestWait,
        };
        let policies = settings.iter().flat_map(|settings| &settings.hash_policies);
        let keys = policies.map(KeyPolicy::new).collect();
        let slow_start = settings.and_then(|settings| settings.slow_start.as_ref());
        let warming = slow_start.map(Warming::new);
        let tiers = tiers_of(settings, endpoints);
        Self { settings: settings.cloned(), shares, rule, keys, warming, tiers }
    }

    /// Whether it was made of these settings.
    pub fn is_of(&self, settings: Option<&LoadBalancer>) -> bool {
        self.settings.as_ref() == settings
    }

    /// Whether choices depend on how long answers take, so that somebody is to measure it.
    pub fn wants_latency(&self) -> bool {
        self.shares.len() > 1
            && match self.rule {
                Rule::ShortestWait => true,
                Rule::AtRandom
                | Rule::InTurn
                | Rule::LeastRequests(_)
                | Rule::Maglev(_)
                | Rule::Ring(_) => false,
            }
    }

    /// Whether choices depend on how long endpoints have been there.
    pub fn wants_age(&self) -> bool {
        self.warming.is_some() && self.shares.len() > 1
    }

    /// Returns what part of its share an endpoint gets that has been there for so long.
    pub fn part(&self, age: Duration) -> f64 {
        self.warming.as_ref().map_or(1.0, |warming| warming.part(age))
    }

    /// Makes one worker's place.
    pub fn turn(&self, random: &mut Mix64) -> Turn {
        let tiers = self.tiers.iter().map(|tier| tier.balance.turn(random)).collect();
        Turn::new(&self.shares, tiers, random)
    }

    /// Chooses one of the endpoints that are usable; `None` when there is none.
    pub fn choose(&self, endpoints: &impl Endpoints, moment: Moment<'_>) -> Option<usize> {
        match self.tiers.is_empty() {
            true => self.choose_of_all(endpoints, moment),
            false => tiers::choose(&self.tiers, endpoints, moment),
        }
    }

    /// Chooses whatever the tiers are.
    fn choose_of_all(&self, endpoints: &impl Endpoints, moment: Moment<'_>) -> Option<usize> {
        let Moment { key, turn, random } = moment;
        let shares = &self.shares;
        match shares.len() {
            0 => return None,
            1 => return endpoints.is_usable(0).then_some(0),
            _ => {}
        }
        match &self.rule {
            Rule::AtRandom => choose::at_random(shares, endpoints, random),
            Rule::InTurn => choose::in_turn(shares, endpoints, (turn, random)),
            Rule::LeastRequests(looks) => {
                choose::least_requests(shares, endpoints, (*looks, random))
            }
            // A request without a key may go anywhere.
            Rule::Maglev(_) | Rule::Ring(_) => {
                let key = key.unwrap_or_else(|| random.next_u64());
                self.look_up(key, self.takes(endpoints))
                    // Those left have their share already, as others cannot be reached.
                    .or_else(|| self.look_up(key, |number| endpoints.is_usable(number)))
            }
            Rule::ShortestWait => choose::shortest_wait(shares, endpoints, random),
        }
    }

    fn look_up(&self, key: u64, takes: impl Fn(usize) -> bool) -> Option<usize> {
        match &self.rule {
            Rule::Maglev(table) => table.find(key, takes),
            Rule::Ring(ring) => ring.find(key, takes),
            Rule::AtRandom | Rule::InTurn | Rule::LeastRequests(_) | Rule::ShortestWait => None,
        }
    }

    /// Says which endpoints take another request of some key: those that are usable and, where loads
    /// are bounded, do not have more than their share times the factor.
    ///
    /// **Source**: Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads, 2016.
    fn takes<'a>(&'a self, endpoints: &'a impl Endpoints) -> impl Fn(usize) -> bool {
        let percent = self.settings.as_ref().map_or(0, |settings| settings.hash_balance_factor);
        let all: u32 = match percent {
            0 => 0,
            _ => (0..self.shares.len()).map(|number| endpoints.in_flight(number)).sum(),
        };
        let bound = f64::from(percent) / 100.0 * (f64::from(all) + 1.0);
        move |number| {
            let fits = || {
                let most = (bound * self.shares.share(number)).ceil();
                f64::from(endpoints.in_flight(number)) < most
            };
            endpoints.is_usable(number) && (percent == 0 || fits())
        }
    }
}

/// Puts endpoints together that are as near; none where all are.
fn tiers_of(settings: Option<&LoadBalancer>, endpoints: &[Endpoint]) -> Box<[Tier]> {
    let known: BTreeSet<u8> = endpoints.iter().map(|endpoint| endpoint.tier).collect();
    if known.len() < 2 {
        return Box::default();
    }
    let tier = |tier: u8| {
        let of = || endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.tier == tier);
        let own: Vec<Endpoint> = of().map(|(_, endpoint)| endpoint.clone()).collect();
        let numbers = of().map(|(number, _)| number).collect();
        Tier { numbers, balance: Balance::new(settings, &own) }
    };
    known.into_iter().map(tier).collect()
}
