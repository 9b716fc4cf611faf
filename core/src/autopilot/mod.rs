//! What the leader does for the servers by itself: who is healthy, who gets a vote, who is taken
//! out. Looking at the servers and carrying out is the server's affair.

mod config;
mod health;
mod judge;

pub use config::{AutopilotConfig, InvalidAutopilot};
pub use health::{ClusterHealth, ServerState};
pub use judge::{Judge, Leader, Moment, Seen, ServerHealth, Verdict};
