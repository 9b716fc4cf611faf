//! Runs the checks of this host: a probe for each run, and the reports of applications. Where it is
//! told to, also a part of those of hosts without an agent (`external`).
//!
//! What results come to is `core::health`'s affair; where they go, `local`'s.

mod alias;
mod due;
mod external;
mod machine;
mod probe;
mod runner;

pub(crate) use alias::Ask;
pub(crate) use external::{ExternalMeans, ExternalMetrics, Tell, start as start_external};
pub(crate) use probe::DOCKER_SOCKET;
pub(crate) use runner::Means;
pub use runner::{Checks, ReportError};
