//! 10,000 leaves on 200 hosts and three servers, on a virtual clock: when they are signed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Instant;

use super::*;

const HOSTS: usize = 200;
const LEAVES: usize = 10_000;
const SERVERS: usize = 3;
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// From asking to the answer.
const ROUND_TRIP: Duration = Duration::from_millis(5);

/// The same draws in every run (splitmix64).
struct Seeded(u64);

impl RngCore for Seeded {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.next_u64() as u8);
    }
}

/// What the fleet did in a span of time.
#[derive(Debug, Default)]
struct Seen {
    /// Certificates, by the second in which they were signed.
    signed: BTreeMap<u64, usize>,
    /// Requests, by the second in which they came to the servers.
    asked: BTreeMap<u64, usize>,
    renewed: Vec<bool>,
    expired: usize,
    alarms: usize,
}

struct Fleet {
    leaves: Vec<Renewal>,
    servers: Vec<Turns>,
    epoch: Instant,
    now: Timestamp,
}

impl Seen {
    fn peak(by_second: &BTreeMap<u64, usize>) -> usize {
        by_second.values().copied().max().unwrap_or_default()
    }

    /// From the first to the last second in which something was signed.
    fn seconds(&self) -> u64 {
        let first = self.signed.keys().next().copied().unwrap_or_default();
        self.signed.keys().last().map_or(0, |last| last - first + 1)
    }
}

impl Fleet {
    /// Starts with every leaf signed at the same moment: a cluster that was just brought up.
    fn certified(servers: usize, per_second: u32) -> Self {
        let now = Timestamp(1_000_000_000);
        let leaves = (0..LEAVES).map(|number| {
            let mut renewal = Renewal::new(Box::new(Seeded(number as u64)));
            renewal.poll_output();
            renewal.handle_certificate(now, now.saturating_add(LIFETIME), now);
            renewal
        });
        let leaves = leaves.collect();
        let servers = (0..servers).map(|_| Turns::new(per_second)).collect();
        Self { leaves, servers, epoch: super::turns::beginning(), now }
    }

    /// Runs the clock to `until`, or until every leaf was renewed.
    fn run(&mut self, until: Timestamp) -> Seen {
        let mut seen = Seen { renewed: vec![false; self.leaves.len()], ..Seen::default() };
        let mut events: BinaryHeap<Reverse<(Timestamp, usize, Option<Timestamp>)>> =
            BinaryHeap::new();
        let due = |leaf: &Renewal| leaf.poll_timeout().unwrap_or(Timestamp(u64::MAX));
        events
            .extend(self.leaves.iter().enumerate().map(|(n, leaf)| Reverse((due(leaf), n, None))));
        while let Some(Reverse((now, number, answer))) = events.pop() {
            if now > until || seen.renewed.iter().all(|renewed| *renewed) {
                break;
            }
            self.now = now;
            let leaf = &mut self.leaves[number];
            match answer {
                Some(made) => {
                    leaf.handle_certificate(made, made.saturating_add(LIFETIME), now);
                    seen.renewed[number] = true;
                }
                None => leaf.handle_timeout(now),
            }
            let mut is_asking = false;
            while let Some(output) = leaf.poll_output() {
                match output {
                    Output::Alarm { .. } => seen.alarms += 1,
                    Output::Expired => seen.expired += 1,
                    Output::Request => is_asking = true,
                }
            }
            if is_asking {
                let count = self.servers.len();
                let server = &mut self.servers[number % HOSTS % count];
                *seen.asked.entry(now.unix_seconds()).or_default() += 1;
                match server.take(self.epoch + Duration::from_millis(now.0)) {
                    Ok(wait) => {
                        let made = now.saturating_add(wait);
                        *seen.signed.entry(made.unix_seconds()).or_default() += 1;
                        events.push(Reverse((made.saturating_add(ROUND_TRIP), number, Some(made))));
                        continue;
                    }
                    Err(_) => leaf.handle_busy(now),
                }
            }
            events.push(Reverse((due(&self.leaves[number]), number, None)));
        }
        seen
    }

    fn change_roots(&mut self) {
        let now = self.now;
        self.leaves.iter_mut().for_each(|leaf| leaf.handle_roots_changed(now));
    }
}

#[test]
fn leaves_that_were_made_together_are_not_renewed_together() {
    let mut fleet = Fleet::certified(SERVERS, crate::limits::LEAF_SIGNATURES_PER_SECOND);
    let start = fleet.now;
    let seen = fleet.run(start.saturating_add(LIFETIME));
    assert!(seen.renewed.iter().all(|renewed| *renewed));
    assert_eq!((seen.expired, seen.alarms), (0, 0));
    // 30 % of a day for 10,000: 0.39 a second.
    let (peak, seconds) = (Seen::peak(&seen.signed), seen.seconds());
    println!("natural renewal of {LEAVES}: {peak} a second at most, over {seconds} s");
    assert!(peak <= 6, "{peak} a second");
    assert!((25_000..=25_920).contains(&seconds), "{seconds}");
}

#[test]
fn a_change_of_roots_is_no_storm() {
    let mut fleet = Fleet::certified(SERVERS, crate::limits::LEAF_SIGNATURES_PER_SECOND);
    fleet.change_roots();
    let seen = fleet.run(fleet.now.saturating_add(Duration::from_secs(600)));
    assert!(seen.renewed.iter().all(|renewed| *renewed));
    let (peak, seconds) = (Seen::peak(&seen.signed), seen.seconds());
    println!("roots changed for {LEAVES}: {peak} a second at most, over {seconds} s");
    assert!(peak <= 450, "{peak} a second, 333 are even");
    assert!((29..=31).contains(&seconds), "{seconds}");
}

/// One server that signs 50 a second needs 200 s for 10,000: windows grow until it is enough.
#[test]
fn a_slow_signer_stretches_the_change() {
    let mut fleet = Fleet::certified(1, 50);
    fleet.change_roots();
    let seen = fleet.run(fleet.now.saturating_add(Duration::from_secs(3600)));
    assert!(seen.renewed.iter().all(|renewed| *renewed));
    assert_eq!((seen.expired, seen.alarms), (0, 0));
    let (peak, seconds) = (Seen::peak(&seen.signed), seen.seconds());
    let (asked, requests) = (Seen::peak(&seen.asked), seen.asked.values().sum::<usize>());
    println!(
        "roots changed for {LEAVES}, one signer of 50/s: {peak} signed and {asked} asked a second \
         at most, {requests} requests, over {seconds} s"
    );
    assert!(peak <= 150 && asked <= 1000, "{peak} {asked}");
    assert!((198..=1200).contains(&seconds), "{seconds}");
    assert!(requests <= LEAVES * 5, "{requests}");
}
