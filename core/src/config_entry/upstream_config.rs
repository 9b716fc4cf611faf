//! How the proxies of one service call others.

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use super::{MeshGateway, Protocol};
use crate::limits;
use crate::name::ServiceName;
use crate::time::{Span, maybe_nanoseconds, nanoseconds};

/// How the proxies of one service call others.
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults#upstreamconfig.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpstreamConfigs {
    /// For single upstreams, by their `Name`.
    #[serde(skip_serializing_if = "is_blank")]
    pub overrides: Vec<UpstreamConfig>,
    /// For all of them.
    #[serde(skip_serializing_if = "is_blank")]
    pub defaults: Option<UpstreamConfig>,
}

/// How one service is called.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpstreamConfig {
    /// The service called; `None` in the defaults.
    #[serde(skip_serializing_if = "is_blank")]
    pub name: Option<ServiceName>,
    /// The listener as Envoy's JSON.
    #[serde(rename = "EnvoyListenerJSON", skip_serializing_if = "is_blank")]
    pub envoy_listener_json: String,
    /// The cluster as Envoy's JSON.
    #[serde(rename = "EnvoyClusterJSON", skip_serializing_if = "is_blank")]
    pub envoy_cluster_json: String,
    /// What is spoken with it; `None` means as its own defaults say.
    #[serde(skip_serializing_if = "is_blank")]
    pub protocol: Option<Protocol>,
    /// How long to wait for a connection; 0 means the chain's.
    ///
    /// **Units**: milliseconds.
    #[serde(skip_serializing_if = "is_blank")]
    pub connect_timeout_ms: u32,
    /// What may be open towards it at once.
    #[serde(skip_serializing_if = "is_blank")]
    pub limits: Option<UpstreamLimits>,
    /// When an instance that fails is left out.
    #[serde(skip_serializing_if = "is_blank")]
    pub passive_health_check: Option<PassiveHealthCheck>,
    /// Through which gateway.
    #[serde(skip_serializing_if = "is_blank")]
    pub mesh_gateway: MeshGateway,
    /// `exact_balance`, or empty.
    #[serde(skip_serializing_if = "is_blank")]
    pub balance_outbound_connections: BalanceConnections,
}

/// How connections are spread over the threads of a proxy.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BalanceConnections {
    /// As the system gives them out.
    #[default]
    #[serde(rename = "")]
    AsTheyCome,
    /// Evenly.
    #[serde(rename = "exact_balance")]
    Exact,
}

/// What may be open towards an upstream at once; `None` means no limit of its own.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpstreamLimits {
    /// Connections.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_pending_requests: Option<u32>,
    /// Requests under way.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_concurrent_requests: Option<u32>,
}

/// When an instance that fails is left out, and for how long.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PassiveHealthCheck {
    /// Time between two looks.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "nanoseconds")]
    pub interval: Span,
    /// Failures in a row.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_failures: u32,
    /// How likely one that failed with 5xx is left out.
    ///
    /// **Units**: percent, 0 to 100.
    #[serde(rename = "EnforcingConsecutive5xx", skip_serializing_if = "is_blank")]
    pub enforcing_consecutive_5xx: Option<u32>,
    /// How many of the instances may be left out at once.
    ///
    /// **Units**: percent, 0 to 100.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_ejection_percent: Option<u32>,
    /// For how long the first time.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "maybe_nanoseconds")]
    pub base_ejection_time: Option<Span>,
}

impl UpstreamConfigs {
    pub(super) fn check(&self, findings: &mut Findings) {
        let count = self.overrides.len();
        findings.count("UpstreamConfig.Overrides", count, limits::UPSTREAMS_PER_PROXY_MAX);
        let mut first = std::collections::BTreeMap::new();
        for (at, one) in self.overrides.iter().enumerate() {
            let field = format!("UpstreamConfig.Overrides[{at}]");
            match &one.name {
                None => findings.add(format!("{field}.Name"), "must name the service called"),
                Some(name) => {
                    if let Some(earlier) = first.insert(name, at) {
                        let reason = format!("{name} is already given in Overrides[{earlier}]");
                        findings.add(format!("{field}.Name"), reason);
                    }
                }
            }
            one.check(&field, findings);
        }
        if let Some(defaults) = &self.defaults {
            let field = "UpstreamConfig.Defaults";
            if defaults.name.is_some() {
                findings.add(format!("{field}.Name"), "must be left out: they are for all");
            }
            defaults.check(field, findings);
        }
    }
}

impl UpstreamConfig {
    fn check(&self, field: &str, findings: &mut Findings) {
        let timeout = std::time::Duration::from_millis(self.connect_timeout_ms.into());
        findings.timeout(&format!("{field}.ConnectTimeoutMs"), timeout);
        for (name, text) in [
            ("EnvoyListenerJSON", &self.envoy_listener_json),
            ("EnvoyClusterJSON", &self.envoy_cluster_json),
        ] {
            findings.bytes(&format!("{field}.{name}"), text.len(), limits::OPAQUE_TEXT_BYTES_MAX);
            if !text.is_empty() && serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
                findings.add(format!("{field}.{name}"), "is not JSON");
            }
        }
        if self.protocol == Some(Protocol::Udp) {
            let reason = "must not be udp: the service's own service-defaults says so, for all";
            findings.add(format!("{field}.Protocol"), reason);
        }
        if let Some(check) = &self.passive_health_check {
            check.check(&format!("{field}.PassiveHealthCheck"), findings);
        }
    }
}

impl PassiveHealthCheck {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        findings.timeout(&format!("{field}.Interval"), self.interval.0);
        let base = self.base_ejection_time.unwrap_or_default();
        findings.timeout(&format!("{field}.BaseEjectionTime"), base.0);
        for (name, percent) in [
            ("EnforcingConsecutive5xx", self.enforcing_consecutive_5xx),
            ("MaxEjectionPercent", self.max_ejection_percent),
        ] {
            if percent.is_some_and(|percent| percent > 100) {
                findings.add(format!("{field}.{name}"), "must be a percentage, 0 to 100");
            }
        }
    }
}
