//! Consensus: the only place that names openraft.

mod journal;
mod log;
mod snapshot;
mod state_machine;
#[cfg(test)]
mod suite;
mod types;

pub use state_machine::Audience;
