//! How the proxies of one service call others.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    pub passive_health_check: Option<Box<PassiveHealthCheck>>,
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

/// What may be open towards a target of an upstream at once; `None` means no limit of its own.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpstreamLimits {
    /// Connections. Of requests, those that have a connection of HTTP/1 to themselves: with `http`.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_pending_requests: Option<u32>,
    /// Requests under way.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_concurrent_requests: Option<u32>,
    /// Further attempts under way, whose requests wait or are with another instance. Not in Consul; as Envoy's
    /// `max_retries`.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_concurrent_retries: Option<u32>,
}

/// When an instance that fails is left out, and for how long. What is left out has the default of
/// [`OutlierRules`](crate::traffic::outlier::OutlierRules).
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults#passivehealthcheck; what is beyond that is ours, under the
/// names of Envoy's `OutlierDetection` where that has it.
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
    /// For how long at most, however often.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "maybe_nanoseconds")]
    pub max_ejection_time: Option<Span>,
    /// Answers of 502, 503 and 504, or none, in a row; 0 for any number.
    #[serde(skip_serializing_if = "is_blank")]
    pub consecutive_gateway_failure: Option<u32>,
    /// Failures in a row to reach it, or to get any answer; 0 for any number.
    #[serde(skip_serializing_if = "is_blank")]
    pub consecutive_local_origin_failure: Option<u32>,
    /// How likely one is left out that answers well far less often than others; 0 for never.
    ///
    /// **Units**: percent, 0 to 100.
    #[serde(skip_serializing_if = "is_blank")]
    pub enforcing_success_rate: Option<u32>,
    /// Instances with enough requests from which on success rates are compared.
    #[serde(skip_serializing_if = "is_blank")]
    pub success_rate_minimum_hosts: Option<u32>,
    /// Requests of an interval from which on a success rate says something.
    #[serde(skip_serializing_if = "is_blank")]
    pub success_rate_request_volume: Option<u32>,
    /// How many deviations it must be below the median.
    ///
    /// **Units**: thousandths.
    #[serde(skip_serializing_if = "is_blank")]
    pub success_rate_stdev_factor: Option<u32>,
    /// How far it must be below the median at least.
    ///
    /// **Units**: percent, 0 to 100.
    #[serde(skip_serializing_if = "is_blank")]
    pub success_rate_minimum_gap: Option<u32>,
    /// The share of failures from which on one is left out whatever others do; 0 for none.
    ///
    /// **Units**: percent, 0 to 100.
    #[serde(skip_serializing_if = "is_blank")]
    pub failure_percentage_threshold: Option<u32>,
    /// As [`Self::success_rate_minimum_hosts`], for that.
    #[serde(skip_serializing_if = "is_blank")]
    pub failure_percentage_minimum_hosts: Option<u32>,
    /// As [`Self::success_rate_request_volume`], for that.
    #[serde(skip_serializing_if = "is_blank")]
    pub failure_percentage_request_volume: Option<u32>,
    /// How many times as long as the median its answers must take on average; 0 for any time.
    ///
    /// **Units**: thousandths.
    #[serde(skip_serializing_if = "is_blank")]
    pub latency_factor: Option<u32>,
    /// How much longer than the median at least.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "maybe_nanoseconds")]
    pub latency_minimum_gap: Option<Span>,
    /// Below which share of instances that are not left out, all are called again.
    ///
    /// **Units**: percent, 0 to 100.
    #[serde(skip_serializing_if = "is_blank")]
    pub panic_threshold: Option<u32>,
}

impl UpstreamConfigs {
    /// Returns how a service is called: as its override says, and for the rest as the defaults.
    ///
    /// **Source**: Consul: docs/connect/config-entries/service-defaults#upstreamconfig. A field that is a block
    /// replaces that of the defaults as a whole.
    pub fn of(&self, service: &ServiceName) -> UpstreamConfig {
        let own = self.overrides.iter().find(|one| one.name.as_ref() == Some(service));
        let own = own.cloned().unwrap_or_default();
        let defaults = self.defaults.clone().unwrap_or_default();
        UpstreamConfig { name: None, ..own.over(defaults) }
    }

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
    /// Reads the opaque settings of an upstream in a proxy's registration, whose names are written
    /// `like_this`; what is not known is passed over.
    ///
    /// **Source**: Consul: docs/connect/proxies/proxy-config-reference#proxy-upstream-config-key-reference.
    ///
    /// # Errors
    /// What a setting is that means nothing, with its name.
    pub fn read(settings: &serde_json::Map<String, Value>) -> Result<Self, String> {
        let read = serde_json::from_value::<Self>(pascal(&Value::Object(settings.clone())));
        let read = read.map_err(|error| format!("Config: {error}"))?;
        let mut findings = Findings::default();
        read.check("Config", &mut findings);
        findings
            .result(read)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    /// Takes what is said here, and from below what is not.
    pub fn over(self, below: Self) -> Self {
        let text = |own: String, below| if own.is_empty() { below } else { own };
        let ms = self.connect_timeout_ms;
        Self {
            name: self.name.or(below.name),
            envoy_listener_json: text(self.envoy_listener_json, below.envoy_listener_json),
            envoy_cluster_json: text(self.envoy_cluster_json, below.envoy_cluster_json),
            protocol: self.protocol.or(below.protocol),
            connect_timeout_ms: if ms == 0 { below.connect_timeout_ms } else { ms },
            limits: self.limits.or(below.limits),
            passive_health_check: self.passive_health_check.or(below.passive_health_check),
            mesh_gateway: if is_blank(&self.mesh_gateway) {
                below.mesh_gateway
            } else {
                self.mesh_gateway
            },
            balance_outbound_connections: match self.balance_outbound_connections {
                BalanceConnections::AsTheyCome => below.balance_outbound_connections,
                BalanceConnections::Exact => BalanceConnections::Exact,
            },
        }
    }

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
        for (name, time) in [
            ("BaseEjectionTime", self.base_ejection_time),
            ("MaxEjectionTime", self.max_ejection_time),
            ("LatencyMinimumGap", self.latency_minimum_gap),
        ] {
            findings.timeout(&format!("{field}.{name}"), time.unwrap_or_default().0);
        }
        if let (Some(base), Some(longest)) = (self.base_ejection_time, self.max_ejection_time)
            && longest.0 < base.0
        {
            findings.add(format!("{field}.MaxEjectionTime"), "is less than BaseEjectionTime");
        }
        if self.latency_factor.is_some_and(|factor| (1..1_000).contains(&factor)) {
            let reason = "must be 1000 thousandths or more, or 0";
            findings.add(format!("{field}.LatencyFactor"), reason);
        }
        for (name, percent) in [
            ("EnforcingConsecutive5xx", self.enforcing_consecutive_5xx),
            ("MaxEjectionPercent", self.max_ejection_percent),
            ("EnforcingSuccessRate", self.enforcing_success_rate),
            ("SuccessRateMinimumGap", self.success_rate_minimum_gap),
            ("FailurePercentageThreshold", self.failure_percentage_threshold),
            ("PanicThreshold", self.panic_threshold),
        ] {
            if percent.is_some_and(|percent| percent > 100) {
                findings.add(format!("{field}.{name}"), "must be a percentage, 0 to 100");
            }
        }
    }
}

/// Writes names of settings, `like_this`, as fields of entries are written, `LikeThis`.
fn pascal(value: &Value) -> Value {
    let word = |word: &str| match word.split_at_checked(1) {
        Some((first, rest)) => first.to_ascii_uppercase() + rest,
        None => word.to_owned(),
    };
    match value {
        Value::Object(fields) => {
            let name = |name: &str| name.split('_').map(word).collect::<String>();
            Value::Object(fields.iter().map(|(key, value)| (name(key), pascal(value))).collect())
        }
        Value::Array(_) | Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {
            value.clone()
        }
    }
}
