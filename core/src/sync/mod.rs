//! Anti-entropy: keeping the catalog true to what is registered on a host.
//!
//! [`diff`] says what has to change, [`Schedule`] when to look. The calls to a server are
//! `agent::sync`'s affair.
//!
//! **Source**: Consul: docs/architecture/anti-entropy.

mod diff;
mod schedule;

pub use diff::{Differences, Outputs, TagsTold, diff};
pub use schedule::{Schedule, SyncOrder};
