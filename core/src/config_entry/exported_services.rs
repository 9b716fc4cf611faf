//! `exported-services`: what other clusters may see.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};
use super::{InvalidEntry, SourceName};
use crate::index::Index;
use crate::limits;

/// What other clusters may see; there is one entry, named `default`.
///
/// **Source**: Consul: docs/connect/config-entries/exported-services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExportedServices {
    /// Always `default`.
    pub name: String,
    /// The services.
    #[serde(default)]
    pub services: Vec<ExportedService>,
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

/// A service that others may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExportedService {
    /// The service, or `*` for each of them.
    pub name: SourceName,
    /// Those who may see it.
    #[serde(default)]
    pub consumers: Vec<ServiceConsumer>,
}

/// One who may see a service.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceConsumer {
    /// The peering by which it is known here.
    #[serde(skip_serializing_if = "is_blank")]
    pub peer: String,
}

impl ExportedServices {
    /// The one name that the entry may have.
    pub const NAME: &str = "default";

    pub(super) fn normalise(self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        findings.only_name(&self.name, Self::NAME);
        findings.count("Services", self.services.len(), limits::ENTRY_SERVICES_MAX);
        let mut first = BTreeMap::new();
        for (at, service) in self.services.iter().enumerate() {
            let field = format!("Services[{at}]");
            if let Some(earlier) = first.insert(&service.name, at) {
                let reason = format!("{} is already given in Services[{earlier}]", service.name);
                findings.add(format!("{field}.Name"), reason);
            }
            if service.consumers.is_empty() {
                findings.add(format!("{field}.Consumers"), "must name at least one");
            }
            findings.count(
                &format!("{field}.Consumers"),
                service.consumers.len(),
                limits::ENTRY_SERVICES_MAX,
            );
            let mut seen = BTreeMap::new();
            for (at, consumer) in service.consumers.iter().enumerate() {
                let field = format!("{field}.Consumers[{at}].Peer");
                let peer = consumer.peer.as_str();
                if peer.is_empty() {
                    findings.add(&field, "must name a peering");
                } else if peer == "*" {
                    findings.add(&field, "must name one peering; there is no wildcard");
                } else if let Some(earlier) = seen.insert(peer, at) {
                    let peer = shortened(peer);
                    findings.add(&field, format!("{peer:?} is already in Consumers[{earlier}]"));
                }
            }
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}
