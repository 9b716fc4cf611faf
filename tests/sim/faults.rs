//! Breaks things: one episode after another, drawn from the seed.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::network::Quality;
use crate::sim::Sim;

/// A kind of episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A wall clock jumps by up to an hour.
    ClockJump,
    /// One server hears nobody, or nobody hears it.
    CutOneWay,
    /// Two parts, one of which may have a majority.
    CutParts,
    /// Each server reaches only its neighbours.
    CutRing,
    /// `kill -9` of one server.
    Kill,
    /// Long ways, lost segments: connections overtake each other.
    Loss,
    /// The power of one server goes.
    PowerCut,
    /// The power of all servers goes at once.
    PowerCutOfAll,
    /// The connections of one server to the others break, again and again.
    Resets,
    /// A disk takes up to a third of a second for a write.
    SlowDisk,
    /// Cuts come one after the other and heal in another order.
    Swizzle,
}

pub(crate) const ALL: [Fault; 11] = [
    Fault::ClockJump,
    Fault::CutOneWay,
    Fault::CutParts,
    Fault::CutRing,
    Fault::Kill,
    Fault::Loss,
    Fault::PowerCut,
    Fault::PowerCutOfAll,
    Fault::Resets,
    Fault::SlowDisk,
    Fault::Swizzle,
];

impl Fault {
    /// Returns the kind with a name such as `power-cut-of-all`.
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// Returns its name.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

/// How often connections break in one episode: seldom is a write between its application and its
/// answer just then.
const RESETS: usize = 12;

/// How often each kind came.
pub(crate) type Counts = BTreeMap<Fault, u64>;

/// Runs one episode of one of the kinds on the first `servers` hosts. What it broke may stay so.
pub(crate) fn episode(sim: &mut Sim, servers: usize, kinds: &[Fault], counts: &mut Counts) {
    let fault = *kinds.choose(&mut sim.rng).expect("there are kinds");
    *counts.entry(fault).or_default() += 1;
    let one = sim.rng.random_range(0..servers);
    tracing::info!(?fault, one, now = ?sim.now, "fault");
    strike(sim, servers, one, fault);
    let time = sim.rng.random_range(200..3_000);
    sim.run_for(Duration::from_millis(time));
    for at in 0..servers {
        if !sim.hosts[at].is_up() && sim.rng.random_ratio(2, 3) {
            start(sim, at);
        }
    }
    if sim.rng.random_ratio(2, 3) {
        sim.network.lock().heal();
    }
    if sim.rng.random_ratio(1, 2) {
        sim.hosts[one].set_disk(0, 2);
    }
}

fn strike(sim: &mut Sim, servers: usize, one: usize, fault: Fault) {
    match fault {
        Fault::ClockJump => {
            let skew = sim.rng.random_range(-3_600_000..=3_600_000);
            sim.hosts[one].set_skew(skew);
        }
        Fault::CutOneWay => {
            let hears = sim.rng.random();
            for other in (0..servers).filter(|other| *other != one) {
                let (from, to) = if hears { (one, other) } else { (other, one) };
                sim.network.lock().cut(Sim::ip(from), Sim::ip(to));
            }
        }
        Fault::CutParts => {
            let mut order: Vec<usize> = (0..servers).collect();
            order.shuffle(&mut sim.rng);
            let (left, right) = order.split_at(sim.rng.random_range(1..servers));
            for a in left {
                for b in right {
                    cut_both(sim, *a, *b);
                }
            }
        }
        Fault::CutRing => cut_ring(sim, servers, one),
        Fault::Kill => sim.hosts[one].kill(),
        Fault::Loss => {
            let longest = sim.rng.random_range(5..150);
            let loss_permille = sim.rng.random_range(10..200);
            let quality = Quality { delay_ms: (1, longest), loss_permille };
            sim.network.lock().set_quality(quality);
        }
        Fault::PowerCut => sim.hosts[one].cut_power(),
        Fault::PowerCutOfAll => {
            for host in &mut sim.hosts[..servers] {
                host.cut_power();
            }
        }
        Fault::Resets => {
            for _ in 0..RESETS {
                for other in 0..servers {
                    sim.network.lock().reset(Sim::ip(one), Sim::ip(other));
                }
                let pause = sim.rng.random_range(20..150);
                sim.run_for(Duration::from_millis(pause));
            }
        }
        Fault::SlowDisk => sim.hosts[one].set_disk(5, 300),
        Fault::Swizzle => swizzle(sim, servers),
    }
}

/// Starts a host that is down.
pub(crate) fn start(sim: &mut Sim, at: usize) {
    let now = sim.now;
    sim.hosts[at].start(now);
}

/// Makes everything good again.
pub(crate) fn end(sim: &mut Sim, servers: usize) {
    sim.network.lock().heal();
    for at in 0..servers {
        sim.hosts[at].set_disk(0, 2);
        sim.hosts[at].set_skew(0);
        if !sim.hosts[at].is_up() {
            start(sim, at);
        }
    }
}

/// Each server keeps its two neighbours; of three, where all are neighbours, two are parted.
fn cut_ring(sim: &mut Sim, servers: usize, one: usize) {
    if servers == 3 {
        return cut_both(sim, one, (one + 1) % servers);
    }
    for a in 0..servers {
        for b in 0..servers {
            let apart = (a + servers - b) % servers;
            if apart > 1 && apart + 1 < servers {
                cut_both(sim, a, b);
            }
        }
    }
}

fn swizzle(sim: &mut Sim, servers: usize) {
    let mut order: Vec<usize> = (0..servers).collect();
    order.shuffle(&mut sim.rng);
    for at in &order {
        for other in (0..servers).filter(|other| other != at) {
            cut_both(sim, *at, other);
        }
        let pause = sim.rng.random_range(20..400);
        sim.run_for(Duration::from_millis(pause));
    }
    sim.network.lock().heal();
}

fn cut_both(sim: &mut Sim, a: usize, b: usize) {
    let mut network = sim.network.lock();
    network.cut(Sim::ip(a), Sim::ip(b));
    network.cut(Sim::ip(b), Sim::ip(a));
}
