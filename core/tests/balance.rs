//! Policies beside each other in a simulated world: replicas that turn slow, have noisy neighbours, begin
//! cold, or fail fast. The policy that is used where none is asked for must win where it matters.
//!
//! Time is virtual and chance is seeded: the figures are the same in each run. `-- --nocapture` shows them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use weft_core::chain::Endpoint;
use weft_core::config_entry::{BalancePolicy, LoadBalancer, PassiveHealthCheck, SlowStart};
use weft_core::name::InstanceId;
use weft_core::time::Span;
use weft_core::traffic::outlier::{Failure, OutlierRules, Outliers, Standing, Window};
use weft_core::traffic::{Balance, Endpoints, Latency, Mix64, Moment, Turn};

const REPLICAS: usize = 11;
/// The one to which things happen.
const SICK: usize = 3;
/// Requests that a replica works on at once.
const CORES: usize = 4;
/// What a request takes on average.
const WORK_US: f64 = 10_000.0;
const LENGTH_US: u64 = 30_000_000;
/// When things begin to happen.
const ONSET_US: u64 = 10_000_000;
/// What callers wait for at most.
const PATIENCE_US: u64 = 1_000_000;
const SEEDS: [u64; 2] = [5, 82];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum World {
    /// Noisy neighbours: each half second others are four times as slow.
    Antagonists,
    /// One is restarted and needs seconds to become as fast as the others.
    ColdStart,
    /// One answers at once that it failed.
    FailsFast,
    /// One takes 200 times as long.
    OneSlow,
}

/// How a caller chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// With instances left out that fail, by [`outlier`].
    Ejecting(BalancePolicy),
    Ours(BalancePolicy),
    /// With instances that have come led up to their share.
    Slowly(BalancePolicy),
    /// Of two, by the product of peak EWMA and requests under way, as Finagle has it.
    PlainPeakEwma,
}

/// One caller: what it knows, and its places.
struct Caller {
    latency: Vec<Latency>,
    plain: Vec<(f64, u64)>,
    in_flight: Vec<u32>,
    turn: Turn,
    /// `None` where nobody is left out.
    outliers: Option<Outliers>,
}

/// What a caller knows, when, and since when the sick one is there.
struct Seen<'a>(&'a Caller, Instant, (&'a Balance, Duration));

impl Endpoints for Seen<'_> {
    fn is_usable(&self, number: usize) -> bool {
        self.0.outliers.as_ref().is_none_or(|outliers| !outliers.is_out(number))
    }
    fn part(&self, number: usize) -> f64 {
        let (balance, age) = self.2;
        if number == SICK { balance.part(age) } else { 1.0 }
    }
    fn in_flight(&self, number: usize) -> u32 {
        self.0.in_flight[number]
    }
    fn expected_ns(&self, number: usize) -> f64 {
        self.0.latency[number].expected_ns(self.in_flight(number), self.1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    Done { replica: usize, caller: usize, sent_us: u64, failed: bool },
    Neighbours,
}

struct Sim {
    world: World,
    way: Way,
    balance: Balance,
    callers: Vec<Caller>,
    random: Mix64,
    start: Instant,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
    queues: Vec<VecDeque<(usize, u64)>>,
    busy: Vec<usize>,
    slowed: Vec<bool>,
    took_us: Vec<u64>,
    failed: u64,
}

/// What came of a run.
#[derive(Debug, Default, Clone, Copy)]
struct Figures {
    success: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
}

#[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
fn start() -> Instant {
    Instant::now()
}

/// A number in 0..1.
fn unit(random: &mut Mix64) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A time between events that come by chance, of mean 1.
fn gap(random: &mut Mix64) -> f64 {
    -(1.0 - unit(random)).ln()
}

impl Sim {
    fn new(world: World, way: Way, callers: usize, seed: u64) -> Self {
        let endpoint = |number: usize| Endpoint {
            address: format!("10.0.0.{number}:21000").parse().expect("an address"),
            weight: 1,
            tier: 0,
            instance: InstanceId::parse("web-1").expect("an id"),
        };
        let endpoints: Vec<Endpoint> = (1..=REPLICAS).map(endpoint).collect();
        let policy = match way {
            Way::Ejecting(policy) | Way::Ours(policy) | Way::Slowly(policy) => policy,
            Way::PlainPeakEwma => BalancePolicy::Unset,
        };
        let slow = SlowStart { window: Span(Duration::from_secs(10)), ..SlowStart::default() };
        let slow_start = matches!(way, Way::Slowly(_)).then_some(slow);
        let settings = LoadBalancer { policy, slow_start, ..LoadBalancer::default() };
        let balance = Balance::new(Some(&settings), &endpoints);
        let outliers = || {
            let rules = OutlierRules::new(Some(&PassiveHealthCheck::default()));
            Outliers::new(rules, vec![Standing::default(); REPLICAS])
        };
        let mut random = Mix64::new(seed);
        let caller = |random: &mut Mix64| Caller {
            latency: vec![Latency::default(); REPLICAS],
            plain: vec![(0.0, 0); REPLICAS],
            in_flight: vec![0; REPLICAS],
            turn: balance.turn(random),
            outliers: matches!(way, Way::Ejecting(_)).then(outliers),
        };
        let callers = (0..callers).map(|_| caller(&mut random)).collect();
        let events =
            BinaryHeap::from([Reverse((0, 0, Event::Arrives)), Reverse((0, 1, Event::Neighbours))]);
        Self {
            world,
            way,
            balance,
            callers,
            random,
            start: start(),
            events,
            count: 2,
            queues: vec![VecDeque::new(); REPLICAS],
            busy: vec![0; REPLICAS],
            slowed: vec![false; REPLICAS],
            took_us: Vec::new(),
            failed: 0,
        }
    }

    fn at(&mut self, us: f64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((us as u64, self.count, event)));
    }

    /// Lets requests come until the end, as many as keep this part of all cores busy.
    fn run(mut self, load: f64) -> Figures {
        let gap_us = WORK_US / (load * (REPLICAS * CORES) as f64);
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            match event {
                Event::Arrives if now < LENGTH_US => {
                    let next = now as f64 + gap(&mut self.random) * gap_us;
                    self.at(next, Event::Arrives);
                    self.arrives(now);
                }
                Event::Neighbours if now < LENGTH_US => {
                    let random = &mut self.random;
                    self.slowed.iter_mut().for_each(|slowed| *slowed = unit(random) < 0.15);
                    self.at(now as f64 + 500_000.0, Event::Neighbours);
                }
                Event::Arrives | Event::Neighbours => {}
                Event::Done { replica, caller, sent_us, failed } => {
                    self.done((replica, caller), (sent_us, now), failed);
                }
            }
        }
        self.figures()
    }

    fn arrives(&mut self, now: u64) {
        let caller = self.random.below(self.callers.len() as u32) as usize;
        let replica = self.choose(caller, now);
        let at = self.start + Duration::from_micros(now);
        let of = &mut self.callers[caller];
        of.latency[replica].sent(of.in_flight[replica], at);
        of.in_flight[replica] += 1;
        if self.world == World::FailsFast && replica == SICK && now > ONSET_US {
            let done = Event::Done { replica, caller, sent_us: now, failed: true };
            return self.at(now as f64 + 300.0, done);
        }
        if self.busy[replica] < CORES {
            self.busy[replica] += 1;
            self.work((replica, caller), (now, now));
        } else {
            self.queues[replica].push_back((caller, now));
        }
    }

    fn choose(&mut self, number: usize, now: u64) -> usize {
        let random = &mut self.random;
        if self.way == Way::PlainPeakEwma {
            let of = &self.callers[number];
            let cost = |replica: usize| {
                let (peak, seen) = of.plain[replica];
                let age = (now - seen) as f64 / 10e6;
                peak * (-age).exp() * f64::from(of.in_flight[replica] + 1)
            };
            let first = random.below(REPLICAS as u32) as usize;
            let second = (first + 1 + random.below(REPLICAS as u32 - 1) as usize) % REPLICAS;
            return if cost(second) < cost(first) { second } else { first };
        }
        // The place is the caller's own, beside what it knows.
        let spare = self.balance.turn(&mut Mix64::new(0));
        let mut turn = std::mem::replace(&mut self.callers[number].turn, spare);
        let at = self.start + Duration::from_micros(now);
        if let Some(outliers) = &mut self.callers[number].outliers {
            outliers.handle_timeout(|| vec![Window::default(); REPLICAS], (at, &mut *random));
        }
        // Before the onset it has been there for as long as the others.
        let age = now.checked_sub(ONSET_US).map_or(Duration::MAX, Duration::from_micros);
        let seen = Seen(&self.callers[number], at, (&self.balance, age));
        let found = self.balance.choose(&seen, Moment { key: None, turn: &mut turn, random });
        self.callers[number].turn = turn;
        found.expect("all can be used")
    }

    fn work(&mut self, (replica, caller): (usize, usize), (sent_us, now): (u64, u64)) {
        let is_on = replica == SICK && now > ONSET_US;
        let slower = match self.world {
            World::Antagonists if self.slowed[replica] => 4.0,
            World::ColdStart if is_on => 1.0 + 30.0 * (-((now - ONSET_US) as f64) / 5e6).exp(),
            World::OneSlow if is_on && now < 2 * ONSET_US => 200.0,
            World::Antagonists | World::ColdStart | World::FailsFast | World::OneSlow => 1.0,
        };
        let takes = WORK_US * slower * (0.5 + 0.5 * gap(&mut self.random));
        self.at(now as f64 + takes, Event::Done { replica, caller, sent_us, failed: false });
    }

    fn done(&mut self, (replica, caller): (usize, usize), (sent, now): (u64, u64), failed: bool) {
        let (took, at) =
            (Duration::from_micros(now - sent), self.start + Duration::from_micros(now));
        let of = &mut self.callers[caller];
        of.in_flight[replica] -= 1;
        let (peak, seen) = of.plain[replica];
        let (sample, kept) = ((now - sent) as f64, (-((now - seen) as f64) / 10e6).exp());
        let next = if sample > peak { sample } else { peak * kept + sample * (1.0 - kept) };
        of.plain[replica] = (next, now);
        if let Some(outliers) = &mut of.outliers {
            match failed {
                true => outliers.handle_failure(replica, Failure::Server, (at, &mut self.random)),
                false => outliers.handle_success(replica),
            }
        }
        if failed {
            of.latency[replica].failed(took, at);
            self.failed += 1;
            return;
        }
        of.latency[replica].answered(took, at);
        self.took_us.push(now - sent);
        match self.queues[replica].pop_front() {
            Some((caller, sent)) => self.work((replica, caller), (sent, now)),
            None => self.busy[replica] -= 1,
        }
    }

    fn figures(mut self) -> Figures {
        self.took_us.sort_unstable();
        let count = self.took_us.len();
        let at = |share: f64| self.took_us[((count as f64 * share) as usize).min(count - 1)];
        let good = self.took_us.partition_point(|us| *us < PATIENCE_US) as f64;
        Figures {
            success: 100.0 * good / (count as f64 + self.failed as f64),
            p50_ms: at(0.5) as f64 / 1e3,
            p99_ms: at(0.99) as f64 / 1e3,
            p999_ms: at(0.999) as f64 / 1e3,
        }
    }
}

/// Returns the mean over the seeds.
fn mean(world: World, way: Way, (callers, load): (usize, f64)) -> Figures {
    let mut all = Figures::default();
    for seed in SEEDS {
        let one = Sim::new(world, way, callers, seed).run(load);
        let share = 1.0 / SEEDS.len() as f64;
        all.success += one.success * share;
        all.p50_ms += one.p50_ms * share;
        all.p99_ms += one.p99_ms * share;
        all.p999_ms += one.p999_ms * share;
    }
    all
}

const OURS: Way = Way::Ours(BalancePolicy::Unset);
const OTHERS: [(&str, Way); 4] = [
    ("least request", Way::Ours(BalancePolicy::LeastRequest)),
    ("plain peak EWMA", Way::PlainPeakEwma),
    ("random", Way::Ours(BalancePolicy::Random)),
    ("round robin", Way::Ours(BalancePolicy::RoundRobin)),
];

fn table(world: World, how: (usize, f64)) -> (Figures, BTreeMap<&'static str, Figures>) {
    let show = |name: &str, it: &Figures| {
        let Figures { success, p50_ms, p99_ms, p999_ms } = it;
        println!(
            "{world:?} {name:16} ok {success:7.3} % p50 {p50_ms:6.1} p99 {p99_ms:8.1} p99.9 {p999_ms:8.1} ms"
        );
    };
    let ours = mean(world, OURS, how);
    show("ours", &ours);
    let others: BTreeMap<_, _> =
        OTHERS.into_iter().map(|(name, way)| (name, mean(world, way, how))).collect();
    others.iter().for_each(|(name, it)| show(name, it));
    (ours, others)
}

#[test]
fn ours_has_the_shortest_tail_when_replicas_are_slow() {
    for world in [World::OneSlow, World::Antagonists, World::ColdStart] {
        let (ours, others) = table(world, (12, 0.6));
        for (name, other) in others {
            assert!(ours.p99_ms < other.p99_ms, "{world:?} {name}: {ours:?} {other:?}");
            assert!(ours.success >= other.success - 0.005, "{world:?} {name}: {ours:?} {other:?}");
        }
    }
}

#[test]
fn a_replica_that_fails_fast_does_not_draw_requests() {
    let (ours, others) = table(World::FailsFast, (12, 0.6));
    for (name, other) in others {
        assert!(ours.success > other.success, "{name}: {ours:?} {other:?}");
    }
}

#[test]
fn a_replica_that_fails_is_left_out_after_a_few_requests_of_each_caller() {
    let how = (12, 0.6);
    for policy in [BalancePolicy::RoundRobin, BalancePolicy::LeastRequest, BalancePolicy::Unset] {
        let (plain, ejecting) = (
            mean(World::FailsFast, Way::Ours(policy), how),
            mean(World::FailsFast, Way::Ejecting(policy), how),
        );
        println!("{policy:?}: ok {:.3} %, ejecting {:.3} %", plain.success, ejecting.success);
        // In 20 s each caller fails 5 times at first, and 5 times when it is let in again; and those under way.
        assert!(ejecting.success > 99.6 && ejecting.success >= plain.success, "{policy:?}");
    }
}

#[test]
fn a_cold_replica_that_is_led_up_to_its_share_makes_fewer_wait() {
    let how = (12, 0.6);
    for policy in [BalancePolicy::RoundRobin, BalancePolicy::LeastRequest, BalancePolicy::Random] {
        let (plain, slowly) = (
            mean(World::ColdStart, Way::Ours(policy), how),
            mean(World::ColdStart, Way::Slowly(policy), how),
        );
        println!(
            "{policy:?}: p99 {:.1} ms, p99.9 {:.1} ms; slowly {:.1} ms, {:.1} ms",
            plain.p99_ms, plain.p999_ms, slowly.p99_ms, slowly.p999_ms
        );
        assert!(slowly.p99_ms < plain.p99_ms && slowly.p999_ms < plain.p999_ms, "{policy:?}");
    }
}
