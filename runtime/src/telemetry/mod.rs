//! How any process reports: logs, metrics, and its state to the service manager.
//!
//! Metrics are defined beside the code that counts; only their collection is here.

pub mod audit;
mod chain;
pub mod log;
pub mod metrics;
pub mod notify;
mod process;
pub mod tap;

pub use chain::chain;
