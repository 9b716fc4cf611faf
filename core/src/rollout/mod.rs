//! Rollouts: a new version of a service gets more and more of its requests while it does well, and none
//! when it does not.
//!
//! Proxies of callers measure both versions; agents tell servers ([`Measured`]); the leader adds it up
//! ([`Tally`]) and judges ([`judge`]). What it judges is written as the status of the entry, of which
//! chains are made; nothing else is replicated, so a new leader measures the interval anew.

mod gate;
mod judge;
mod measured;
#[cfg(test)]
mod tests;

pub use gate::{GateVerdict, check};
pub use judge::{Due, Judgement, due, held_up, judge, started};
pub use measured::{Growth, Measured, RolloutReport, Tally};
