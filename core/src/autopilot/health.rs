//! The health of the cluster as the leader last saw it.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The servers, as autopilot sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterHealth {
    /// Every server, by id.
    pub servers: Vec<ServerState>,
    /// How many voters may fail before there is no majority.
    pub failure_tolerance: usize,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// Its id in consensus.
    pub id: u64,
    /// Its node name.
    pub name: String,
    /// `host:port` of its RPC door.
    pub address: String,
    /// The version that it runs; empty when it does not say.
    pub version: String,
    /// Whether it leads.
    pub is_leader: bool,
    /// Whether it has a vote.
    pub is_voter: bool,
    /// Whether it is never to have one.
    pub is_read_replica: bool,
    /// Whether it answers.
    pub is_alive: bool,
    /// Whether it is healthy by autopilot's settings.
    pub is_healthy: bool,
    /// Since when that has been so.
    pub since: Timestamp,
    /// **Units**: milliseconds since it last answered the leader; `None` for never.
    pub last_contact_ms: Option<u64>,
    /// Its term.
    pub last_term: u64,
    /// The end of its log.
    pub last_index: u64,
}

impl ClusterHealth {
    /// Whether every server is healthy.
    pub fn is_healthy(&self) -> bool {
        self.servers.iter().all(|server| server.is_healthy)
    }
}
