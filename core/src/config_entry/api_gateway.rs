//! `api-gateway`: where requests from outside come in; its routes are entries of their own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use super::gateway_tls::check_versions;
use super::{EntryKind, InvalidEntry, ResourceReference, TlsVersion};
use crate::index::Index;
use crate::limits;
use crate::name::ServiceName;

/// Where requests from outside come in.
///
/// **Source**: Consul: docs/connect/config-entries/api-gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ApiGateway {
    /// The gateway.
    pub name: ServiceName,
    /// Where it listens.
    #[serde(default)]
    pub listeners: Vec<ApiListener>,
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

/// One listener of an API gateway.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ApiListener {
    /// What routes name it by.
    pub name: String,
    /// The host name asked for, perhaps `*.` before it; empty means any.
    pub hostname: String,
    /// The port.
    pub port: u16,
    /// What is spoken there.
    pub protocol: ApiListenerProtocol,
    /// Its TLS; none without certificates.
    #[serde(rename = "TLS", skip_serializing_if = "is_blank")]
    pub tls: ApiListenerTls,
}

/// What a listener of an API gateway speaks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiListenerProtocol {
    /// HTTP.
    #[default]
    Http,
    /// Bytes.
    Tcp,
}

/// TLS of a listener of an API gateway.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ApiListenerTls {
    /// The certificates, entries of their own.
    #[serde(skip_serializing_if = "is_blank")]
    pub certificates: Vec<ResourceReference>,
    /// The oldest version.
    #[serde(skip_serializing_if = "is_blank")]
    pub min_version: TlsVersion,
    /// The newest version.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_version: TlsVersion,
    /// The suites of TLS 1.2.
    #[serde(skip_serializing_if = "is_blank")]
    pub cipher_suites: Vec<String>,
}

impl ApiGateway {
    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        if self.listeners.is_empty() {
            findings.add("Listeners", "must have at least one");
        }
        findings.count("Listeners", self.listeners.len(), limits::LISTENERS_PER_GATEWAY_MAX);
        let (mut names, mut ports) = (BTreeMap::new(), BTreeMap::new());
        for (at, listener) in self.listeners.iter_mut().enumerate() {
            let field = format!("Listeners[{at}]");
            listener.normalise(&field, &mut findings);
            if let Some(earlier) = names.insert(listener.name.clone(), at) {
                findings.add(format!("{field}.Name"), format!("is that of Listeners[{earlier}]"));
            }
            let (first, hosts) =
                ports.entry(listener.port).or_insert_with(|| (listener.protocol, BTreeMap::new()));
            if *first != listener.protocol {
                let reason = format!("must be that of the others on port {}", listener.port);
                findings.add(format!("{field}.Protocol"), reason);
            }
            if let Some(earlier) = hosts.insert(listener.hostname.clone(), at) {
                let reason = format!("is that of Listeners[{earlier}], which has the same port");
                findings.add(format!("{field}.Hostname"), reason);
            }
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}

impl ApiListener {
    fn normalise(&mut self, field: &str, findings: &mut Findings) {
        findings.name(&format!("{field}.Name"), &self.name);
        findings.port(&format!("{field}.Port"), self.port);
        self.hostname.make_ascii_lowercase();
        if !self.hostname.is_empty() {
            findings.host_pattern(&format!("{field}.Hostname"), &self.hostname);
        }
        let tls = &mut self.tls;
        let certificates = format!("{field}.TLS.Certificates");
        findings.count(&certificates, tls.certificates.len(), limits::CONDITIONS_PER_ROUTE_MAX);
        let kinds = [EntryKind::InlineCertificate, EntryKind::FileSystemCertificate];
        for (at, certificate) in tls.certificates.iter_mut().enumerate() {
            certificate.normalise(&format!("{certificates}[{at}]"), &kinds, findings);
        }
        let range = (tls.min_version, tls.max_version, &tls.cipher_suites[..]);
        check_versions(&format!("{field}.TLS."), ["MinVersion", "MaxVersion"], range, findings);
    }
}
