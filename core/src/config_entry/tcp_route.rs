//! `tcp-route`: to which service the connections of an API gateway go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::findings::Findings;
use super::{EntryKind, InvalidEntry, ResourceReference};
use crate::index::Index;
use crate::name::ServiceName;

/// To which service the connections of an API gateway go.
///
/// **Source**: Consul: docs/connect/config-entries/tcp-route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TcpRoute {
    /// The route.
    pub name: ServiceName,
    /// The gateways, or listeners of them, to which it belongs.
    #[serde(default)]
    pub parents: Vec<ResourceReference>,
    /// The service; at most one.
    #[serde(default)]
    pub services: Vec<TcpRouteService>,
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

/// The service to which connections go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TcpRouteService {
    /// The service.
    pub name: ServiceName,
}

impl TcpRoute {
    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        findings.parents(&mut self.parents, EntryKind::ApiGateway);
        if self.services.len() > 1 {
            findings.add("Services", "must have one: connections cannot be told apart");
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}
