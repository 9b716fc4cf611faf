//! `proxy-defaults`: settings of every proxy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
