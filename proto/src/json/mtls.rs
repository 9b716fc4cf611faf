//! The answer of `/v1/agent/mtls`.

use serde::{Deserialize, Serialize};

/// How a sidecar takes connections, and who came without mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MtlsBody {
    /// The id of the sidecar's registration.
    #[serde(rename = "ProxyID")]
    pub proxy_id: String,
    /// The service that it speaks for.
    pub service: String,
    /// `permissive` or `strict`.
    pub mode: String,
    /// Whether a proxy is connected, which counts.
    #[serde(rename = "Connected")]
    pub is_connected: bool,
    /// Since when is counted; empty while nobody could come without.
    pub counted_since: String,
    /// The same in milliseconds of Unix time.
    #[serde(rename = "CountedSinceMs")]
    pub counted_since_ms: u64,
    /// Who came without mutual TLS.
    pub sources: Vec<MtlsSource>,
}

/// What came from one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MtlsSource {
    /// An IP address, or `other`.
    pub source: String,
    /// How many connections.
    pub connections: u64,
    /// When the last one came.
    pub last_seen: String,
    /// The same in milliseconds of Unix time.
    #[serde(rename = "LastSeenMs")]
    pub last_seen_ms: u64,
}
