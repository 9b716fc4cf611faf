//! Runs the checks of this host: a probe for each run, and the reports of applications.
//!
//! What results come to is `core::health`'s affair; where they go, `local`'s.

mod probe;
mod runner;

pub use runner::{Checks, ReportError};
