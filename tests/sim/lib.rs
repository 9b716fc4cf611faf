//! Whole servers in a simulated world, from a seed: network, clocks, disks and dice are ours.
//!
//! `network` and `stream` are the wires, `host` is a machine, `sim` moves time on. `cluster` and
//! `client` run what is tested, `faults` breaks things, `history` is what clients saw, and
//! `oracle` and `invariants` judge it. `scenario` is one run from a seed to a verdict.
//!
//! # Why our own network
//! Measured first: three whole servers under load, with their real gRPC over real TLS, take about
//! a third of a second of a core for each simulated second without optimisation, so nothing had
//! to be left out. A simulated network of the usual kind drops the segments of a TCP connection for good,
//! where TCP sends them again: there a healed link stays dead until a keepalive finds out.
//!
//! # What is not from the seed
//! Keys, signatures and the randomness of handshakes come from the cryptographic library. They
//! decide no branch of ours; the lengths of signatures vary by two bytes. All else repeats: the
//! hash maps and `select!` of libraries too, as `entropy` answers for the system.

mod client;
mod cluster;
mod entropy;
mod faults;
mod history;
mod host;
mod invariants;
mod network;
mod oracle;
mod scenario;
mod sim;
mod stream;
mod workload;

pub use faults::Fault;
pub use scenario::{Bug, Scenario, Verdict, run};
