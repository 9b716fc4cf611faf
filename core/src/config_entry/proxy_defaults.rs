//! `proxy-defaults`: settings of every proxy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::findings::Findings;
use super::{InvalidEntry, Protocol};
use crate::index::Index;

/// Defaults of all proxies; there is one entry, named `global`.
///
/// **Source**: Consul: docs/connect/config-entries/proxy-defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProxyDefaults {
    /// Always `global`.
    pub name: String,
    /// Opaque settings, `protocol` among them.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub config: serde_json::Map<String, serde_json::Value>,
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

impl ProxyDefaults {
    /// The one name that the entry may have.
    pub const NAME: &str = "global";

    /// Returns what services speak unless their own defaults say otherwise.
    pub fn protocol(&self) -> Option<Protocol> {
        self.config.get("protocol")?.as_str()?.parse().ok()
    }

    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        if self.name != Self::NAME {
            findings.add("Name", format!("must be {:?}; there is one such entry", Self::NAME));
        }
        if let Some(value) = self.config.get_mut("protocol") {
            match value.as_str().map(str::parse::<Protocol>) {
                Some(Ok(protocol)) => *value = protocol.as_str().into(),
                Some(Err(error)) => findings.add("Config.protocol", error.to_string()),
                None => findings.add("Config.protocol", "must be a text such as \"http\""),
            }
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}
