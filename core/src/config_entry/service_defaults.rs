//! `service-defaults`: what one service speaks, and its limits.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::InvalidEntry;
use super::findings::Findings;
use crate::index::Index;
use crate::name::ServiceName;

/// What a service speaks.
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults#protocol.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// gRPC: HTTP/2 with trailers.
    Grpc,
    /// HTTP/1.1.
    Http,
    /// HTTP/2 without TLS (prior knowledge).
    Http2,
    /// Bytes.
    #[default]
    Tcp,
}

impl Protocol {
    /// Returns the word of the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
        }
    }

    /// Whether requests can be told apart and routed by their content.
    pub fn is_http_like(self) -> bool {
        match self {
            Self::Grpc | Self::Http | Self::Http2 => true,
            Self::Tcp => false,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// States that a word is not a protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a protocol; write tcp, http, http2 or grpc")]
pub struct UnknownProtocol(pub String);

impl FromStr for Protocol {
    type Err = UnknownProtocol;
    fn from_str(word: &str) -> Result<Self, UnknownProtocol> {
        match word.to_ascii_lowercase().as_str() {
            "grpc" => Ok(Self::Grpc),
            "http" => Ok(Self::Http),
            "http2" => Ok(Self::Http2),
            "tcp" => Ok(Self::Tcp),
            _ => Err(UnknownProtocol(word.to_owned())),
        }
    }
}

/// Defaults of one service.
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceDefaults {
    /// The service.
    pub name: ServiceName,
    /// What it speaks; `None` means that of proxy-defaults, else tcp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Connections that its proxy takes at once; 0 means no limit of its own.
    #[serde(default)]
    pub max_inbound_connections: u32,
    /// How long its proxy waits for a connection to the local instance, 0 means 5 s.
    ///
    /// **Units**: milliseconds.
    #[serde(default)]
    pub local_connect_timeout_ms: u32,
    /// How long its proxy waits for the head of an answer, 0 means no limit.
    ///
    /// **Units**: milliseconds.
    #[serde(default)]
    pub local_request_timeout_ms: u32,
    /// Free key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// When the entry was created.
    #[serde(default)]
    pub create_index: Index,
    /// When the entry last changed.
    #[serde(default)]
    pub modify_index: Index,
}

impl ServiceDefaults {
    pub(super) fn normalise(self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        for (field, ms) in [
            ("LocalConnectTimeoutMs", self.local_connect_timeout_ms),
            ("LocalRequestTimeoutMs", self.local_request_timeout_ms),
        ] {
            findings.timeout(field, Duration::from_millis(ms.into()));
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}
