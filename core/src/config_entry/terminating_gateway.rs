//! `terminating-gateway`: services outside the mesh that are reached through a gateway.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use super::{InvalidEntry, SourceName};
use crate::index::Index;
use crate::limits;
use crate::name::ServiceName;

/// Services outside the mesh that are reached through a gateway.
///
/// **Source**: Consul: docs/connect/config-entries/terminating-gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminatingGateway {
    /// The gateway.
    pub name: ServiceName,
    /// The services behind it.
    #[serde(default)]
    pub services: Vec<LinkedService>,
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

/// A service behind a terminating gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LinkedService {
    /// The service, or `*` for each that is not in the mesh.
    pub name: SourceName,
    /// The certificates that it may show, a file on the gateway's host.
    #[serde(rename = "CAFile", default, skip_serializing_if = "is_blank")]
    pub ca_file: String,
    /// The certificate shown to it, a file on the gateway's host.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub cert_file: String,
    /// The key of that certificate, a file on the gateway's host.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub key_file: String,
    /// The server name asked for.
    #[serde(rename = "SNI", default, skip_serializing_if = "is_blank")]
    pub sni: String,
    /// Whether the caller's host name is kept.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub disable_auto_host_rewrite: bool,
}

impl TerminatingGateway {
    pub(super) fn normalise(self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        findings.count("Services", self.services.len(), limits::ENTRY_SERVICES_MAX);
        let mut first = BTreeMap::new();
        for (at, service) in self.services.iter().enumerate() {
            let field = format!("Services[{at}]");
            if let Some(earlier) = first.insert(&service.name, at) {
                let reason = format!("{} is already given in Services[{earlier}]", service.name);
                findings.add(format!("{field}.Name"), reason);
            }
            // Who shows a certificate must also know whom to trust, as in Consul.
            let shows = !service.cert_file.is_empty() || !service.key_file.is_empty();
            for (name, path) in [
                ("CAFile", &service.ca_file),
                ("CertFile", &service.cert_file),
                ("KeyFile", &service.key_file),
            ] {
                if shows && path.is_empty() {
                    let reason = "is needed: CAFile, CertFile and KeyFile go together";
                    findings.add(format!("{field}.{name}"), reason);
                }
                findings.bytes(&format!("{field}.{name}"), path.len(), limits::PATH_BYTES_MAX);
            }
            if !service.sni.is_empty() {
                findings.host(&format!("{field}.SNI"), &service.sni);
            }
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}
