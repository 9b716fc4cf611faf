//! `proxy-defaults`: settings of every proxy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use super::{
    AccessLogs, CongestionControl, EnvoyExtension, Expose, FailoverPolicy, ForwardedHeaders,
    HopTransport, InvalidEntry, MeshGateway, MeshTransport, MutualTlsMode, PrioritizeByLocality,
    Protocol, ProxyMode, Tracing, TransparentProxy,
};
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
    /// How proxies come to the connections of their instances.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub mode: ProxyMode,
    /// How redirected connections are treated.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub transparent_proxy: TransparentProxy,
    /// Whether proxies take connections without mutual TLS; they do not.
    #[serde(rename = "MutualTLSMode", default, skip_serializing_if = "is_blank")]
    pub mutual_tls_mode: MutualTlsMode,
    /// Through which gateway they go to other datacenters.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub mesh_gateway: MeshGateway,
    /// Paths that are reached without mutual TLS.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub expose: Expose,
    /// What proxies write about requests.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub access_logs: Option<Box<AccessLogs>>,
    /// What proxies tell of who calls. Ours.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub forwarded_headers: Option<ForwardedHeaders>,
    /// In which order places of failover are tried.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub failover_policy: Option<FailoverPolicy>,
    /// Whether near instances come first.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub prioritize_by_locality: Option<PrioritizeByLocality>,
    /// Who else is asked whether a request may pass.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub envoy_extensions: Vec<EnvoyExtension>,
    /// Of which requests spans are sent to a collector.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub tracing: Option<Tracing>,
    /// Over what callers' proxies come to those of services; `auto` where no entry says it.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub mesh_transport: MeshTransport,
    /// How fast, over QUIC.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub mesh_congestion_control: CongestionControl,
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

    /// Returns over what its proxies are reached, as far as it says so.
    pub fn hop_transport(&self) -> HopTransport {
        let (mesh_transport, congestion_control) =
            (self.mesh_transport, self.mesh_congestion_control);
        HopTransport { mesh_transport, congestion_control }
    }

    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        findings.only_name(&self.name, Self::NAME);
        if let Some(value) = self.config.get_mut("protocol") {
            match value.as_str().map(str::parse::<Protocol>) {
                Some(Ok(protocol)) => *value = protocol.as_str().into(),
                Some(Err(error)) => findings.add("Config.protocol", error.to_string()),
                None => findings.add("Config.protocol", "must be a text such as \"http\""),
            }
        }
        self.expose.check("Expose", &mut findings);
        if let Some(logs) = &self.access_logs {
            logs.check("AccessLogs", &mut findings);
        }
        EnvoyExtension::check_all(&self.envoy_extensions, &mut findings);
        if let Some(tracing) = &self.tracing {
            tracing.check("Tracing", &mut findings);
        }
        if let Some(headers) = &self.forwarded_headers {
            headers.check("ForwardedHeaders", &mut findings);
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}
