//! The answer of `/v1/agent/proxies`.

use serde::{Deserialize, Serialize};

/// One proxy of a host: what runs as it, and what it has in force.
///
/// Times are texts as in RFC 3339, empty for what has not been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProxyBody {
    /// The id of the proxy's registration.
    #[serde(rename = "ProxyID")]
    pub proxy_id: String,
    /// The service that it speaks for.
    pub service: String,
    /// How it stands, in a word; see [`ProxyState`].
    pub state: ProxyState,
    /// `sidecar` or `host`; empty while no program has connected.
    pub shape: String,
    /// The number of the process; `None` for one that cannot be seen from the agent.
    #[serde(rename = "PID")]
    pub pid: Option<u32>,
    /// The program's version.
    pub version: String,
    /// How many processes had its listeners before.
    pub generation: u64,
    /// When the program connected that connected last.
    pub connected_since: String,
    /// When it left, if none is connected.
    pub last_seen: String,
    /// The newest configuration that the agent has for it; 0 for none.
    pub configuration: u64,
    /// The configuration in force; 0 for none.
    pub acknowledged: u64,
    /// When the proxy said so.
    pub acknowledged_at: String,
    /// The configuration that it refused last, unless it took a later one.
    pub refused: Option<RefusedBody>,
    /// Listeners that it cannot open at present, and why.
    pub missing_listeners: Vec<String>,
    /// What keeps it, or an upstream, from working as asked.
    pub problems: Vec<String>,
    /// Until when its certificate is valid.
    pub leaf_valid_before: String,
}

/// How a proxy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyState {
    /// It was connected, and is no more. What it has in force stays so.
    Disconnected,
    /// It has the newest configuration in force, with all listeners.
    InForce,
    /// It has the newest configuration in force, but not all listeners.
    ListenersMissing,
    /// No program has connected.
    NeverConnected,
    /// It has not yet said what became of the newest configuration.
    Pending,
    /// It refused the newest configuration; the one before stays in force.
    Refused,
    /// The agent has no configuration for it yet.
    Waiting,
}

/// A configuration that a proxy refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RefusedBody {
    /// The configuration's version.
    pub version: u64,
    /// The proxy's reason.
    pub reason: String,
    /// When it said so.
    pub at: String,
}
