//! Moves simulated time on: one tick, every host in an order drawn from the seed.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use weft_core::time::Timestamp;

use crate::host::{EPOCH, Host, Process};
use crate::network::Network;
use crate::stream::SharedNetwork;

/// Between two deliveries of the network. The shortest way between hosts is as long.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// A simulation.
pub(crate) struct Sim {
    pub(crate) rng: StdRng,
    pub(crate) now: Duration,
    pub(crate) network: SharedNetwork,
    pub(crate) hosts: Vec<Host>,
}

impl Sim {
    pub(crate) fn new(seed: u64) -> Self {
        let network = Arc::new(Mutex::new(Network::new(seed ^ 0x6e65_7477)));
        let rng = StdRng::seed_from_u64(seed);
        Self { rng, now: Duration::ZERO, network, hosts: Vec::new() }
    }

    /// The address of the host that is added as number `at`.
    pub(crate) fn ip(at: usize) -> IpAddr {
        let last = u8::try_from(at + 1).expect("a simulation has a handful of hosts");
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    /// Adds a host, which is started; returns its number.
    pub(crate) fn add(&mut self, process: Process) -> usize {
        let at = self.hosts.len();
        let mut host = Host::new(Self::ip(at), self.rng.random(), self.network.clone(), process);
        host.start(self.now);
        self.hosts.push(host);
        at
    }

    /// Returns the wall time of a clock that is right.
    pub(crate) fn wall(&self) -> Timestamp {
        EPOCH.saturating_add(self.now)
    }

    /// Moves on by a tick.
    pub(crate) fn step(&mut self) {
        self.now += TICK;
        let wakers = self.network.lock().deliver(self.now);
        for waker in wakers {
            waker.wake();
        }
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        order.shuffle(&mut self.rng);
        for at in order {
            self.hosts[at].step(self.now);
        }
    }

    /// Moves on for a while.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
        }
    }

    /// Moves on until a condition holds; says whether it did within the limit.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let until = self.now + limit;
        while !holds(self) {
            if self.now >= until {
                return false;
            }
            self.step();
        }
        true
    }
}
