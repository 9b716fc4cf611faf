//! The names of the run, and the queries for them.

use std::fmt::Write;
use std::net::Ipv4Addr;

/// Instances of a service.
pub(crate) const INSTANCES: usize = 3;
/// Queries in the file that the load repeats.
const QUERIES: usize = 20_000;
/// Names that are not there.
const ABSENT: usize = 1_000;

/// A mesh of services.
pub(crate) struct Data {
    pub(crate) services: usize,
}

impl Data {
    pub(crate) fn new(services: usize) -> Self {
        Self { services }
    }

    /// The name of a service, without what stands behind it.
    pub(crate) fn service(&self, number: usize) -> String {
        format!("svc-{number:05}")
    }

    /// The node of an instance.
    pub(crate) fn node(&self, number: usize, instance: usize) -> String {
        format!("n-{number:05}-{instance}")
    }

    /// The address of an instance after it has moved so often.
    pub(crate) fn address(&self, number: usize, instance: usize, moves: u32) -> Ipv4Addr {
        let base = (10 << 24) | ((instance as u32) << 16) | number as u32;
        Ipv4Addr::from_bits(base + ((moves % 8) << 20))
    }

    pub(crate) fn port(&self, instance: usize) -> u16 {
        8_000 + instance as u16
    }

    /// Every service with its instances.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.services).flat_map(|number| (0..INSTANCES).map(move |at| (number, at)))
    }

    /// Which instance moves at a step, and for which time.
    pub(crate) fn step(&self, step: u32) -> (usize, usize, u32) {
        // Far from each other, and all of them in turn.
        let number = (step as usize * 617) % self.services;
        (number, step as usize % INSTANCES, step / self.services as u32 + 1)
    }

    /// The lines of dnsperf's file: 70 % A, 20 % SRV, 10 % for names that are not there.
    pub(crate) fn queries(&self) -> String {
        let mut text = String::new();
        // A fixed sequence (SplitMix64), the same for all.
        let mut state = 7_u64;
        let mut next = |below: usize| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) as usize % below
        };
        for _ in 0..QUERIES {
            let line = match next(10) {
                0 => format!("no-{:05}.service.consul A", next(ABSENT)),
                1 | 2 => format!("{}.service.consul SRV", self.service(next(self.services))),
                _ => format!("{}.service.consul A", self.service(next(self.services))),
            };
            let _ = writeln!(text, "{line}");
        }
        text
    }
}
