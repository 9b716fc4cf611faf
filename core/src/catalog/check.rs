//! A health check: its definition, and its state in the catalog.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{HealthCheckDefinition, Unheeded};
use crate::index::Index;
use crate::name::{CheckId, InstanceId, NodeName, ServiceName};
use crate::time::Span;

/// The id of the node check that tells whether the host's agent is alive. The leader writes it, by
/// the host's lease; sessions hang on it unless they say otherwise, and one of a node without it
/// lives for as long as the node is registered.
///
/// **Source**: Consul: the gossip check of every agent; clients know it by this name.
pub const SERF_HEALTH: &str = "serfHealth";

/// How a check stands. Ordered from best to worst.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// Healthy.
    Passing,
    /// Working, but close to failing.
    Warning,
    /// Failing; what a check is before its first run.
    #[default]
    Critical,
}

impl CheckStatus {
    /// Returns the word of the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for CheckStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// States that a word is not a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a status; write passing, warning or critical")]
pub struct InvalidStatus(pub String);

impl std::str::FromStr for CheckStatus {
    type Err = InvalidStatus;
    fn from_str(word: &str) -> Result<Self, InvalidStatus> {
        match word {
            "passing" => Ok(Self::Passing),
            "warning" => Ok(Self::Warning),
            "critical" => Ok(Self::Critical),
            _ => Err(InvalidStatus(word.to_owned())),
        }
    }
}

/// The state of one check, as the catalog knows it.
///
/// **Source**: Consul: api-docs/health#list-checks-for-service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheck {
    /// The node that it belongs to.
    pub node: NodeName,
    /// Unique on its node.
    #[serde(rename = "CheckID")]
    pub id: CheckId,
    /// A name for people.
    pub name: String,
    /// How it stands.
    pub status: CheckStatus,
    /// A remark for people.
    #[serde(default)]
    pub notes: String,
    /// What the last run said.
    #[serde(default)]
    pub output: String,
    /// The instance it speaks of; empty text in JSON for a check of the node.
    #[serde(rename = "ServiceID", default, with = "empty_as_none")]
    pub service_id: Option<InstanceId>,
    /// The service of that instance.
    #[serde(default, with = "empty_as_none")]
    pub service_name: Option<ServiceName>,
    /// The tags of that instance.
    #[serde(default)]
    pub service_tags: Vec<String>,
    /// What kind of check it is: `http`, `tcp`, `ttl`, …
    #[serde(rename = "Type", default)]
    pub kind: String,
    /// How often it runs, as a text such as `10s`; empty for a check that is not run.
    #[serde(default)]
    pub interval: String,
    /// How long a run may take.
    #[serde(default)]
    pub timeout: String,
    /// How it is to be run, if whoever registered it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Box<HealthCheckDefinition>>,
    /// When the check was first registered.
    #[serde(default)]
    pub create_index: Index,
    /// When the check last changed.
    #[serde(default)]
    pub modify_index: Index,
}

impl HealthCheck {
    /// Makes a check of a node of which nothing more is known.
    pub fn of_node(node: NodeName, id: CheckId, name: &str, status: CheckStatus) -> Self {
        Self {
            node,
            id,
            name: name.to_owned(),
            status,
            notes: String::new(),
            output: String::new(),
            service_id: None,
            service_name: None,
            service_tags: Vec::new(),
            kind: String::new(),
            interval: String::new(),
            timeout: String::new(),
            definition: None,
            create_index: Index::default(),
            modify_index: Index::default(),
        }
    }
}

/// `None` is the empty text in the public JSON.
mod empty_as_none {
    use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: DeserializeOwned + TryFrom<String, Error: std::fmt::Display>,
        D: Deserializer<'de>,
    {
        match Option::<String>::deserialize(deserializer)? {
            None => Ok(None),
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => T::try_from(text).map(Some).map_err(D::Error::custom),
        }
    }
}

/// A check as it is asked for in a registration.
///
/// **Source**: Consul: api-docs/agent/check#register-check. Field names are matched without
/// regard to case and underscores.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CheckDefinition {
    /// The check's id; empty means one made from the service's.
    #[serde(rename = "CheckID", alias = "ID", skip_serializing_if = "String::is_empty")]
    pub check_id: String,
    /// A name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A remark for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub notes: String,
    /// The instance it speaks of; empty for a check of the node.
    #[serde(rename = "ServiceID", skip_serializing_if = "String::is_empty")]
    pub service_id: String,
    /// What it is before the first run; empty means critical.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The URL of an http check: 2xx passes, 429 warns, anything else is critical.
    #[serde(rename = "HTTP", skip_serializing_if = "String::is_empty")]
    pub http: String,
    /// The method of an http check; empty means GET.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// Headers of an http check.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, Vec<String>>,
    /// The body of an http check.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// The address, `host:port`, of a tcp check.
    #[serde(rename = "TCP", skip_serializing_if = "String::is_empty")]
    pub tcp: String,
    /// The lifetime of a ttl check; `None` for other kinds.
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// How often it runs; at least one second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// How long a run may take; `None` means 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Whether the certificate of an https target is left unverified.
    #[serde(rename = "TLSSkipVerify", skip_serializing_if = "std::ops::Not::not")]
    pub tls_skip_verify: bool,
    /// Passes in a row before the check turns passing.
    pub success_before_passing: u32,
    /// Failures in a row before it turns warning; 0 means as `failures_before_critical`.
    pub failures_before_warning: u32,
    /// Failures in a row before it turns critical.
    pub failures_before_critical: u32,
    /// How long it may be critical before its service is deregistered; `None` means for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deregister_critical_service_after: Option<Span>,
    /// Bytes of output kept; 0 means the default.
    pub output_max_size: u32,

    /// Whether redirects are left alone; only an explicit `false` has them followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_redirects: Option<bool>,
    /// The name that a target's certificate must have; empty means the host called.
    #[serde(rename = "TLSServerName", skip_serializing_if = "String::is_empty")]
    pub tls_server_name: String,
    /// Whether a tcp check goes on to a TLS handshake.
    #[serde(rename = "TCPUseTLS", skip_serializing_if = "std::ops::Not::not")]
    pub tcp_use_tls: bool,
    /// The address of a udp check, `host:port`: silence passes, a refusal is critical.
    #[serde(rename = "UDP", skip_serializing_if = "String::is_empty")]
    pub udp: String,
    /// The address of a grpc check, `host:port` or `host:port/service`.
    #[serde(rename = "GRPC", skip_serializing_if = "String::is_empty")]
    pub grpc: String,
    /// Whether a grpc check speaks TLS.
    #[serde(rename = "GRPCUseTLS", skip_serializing_if = "std::ops::Not::not")]
    pub grpc_use_tls: bool,
    /// The address of an HTTP/2 ping check, `host:port`.
    #[serde(rename = "H2PING", skip_serializing_if = "String::is_empty")]
    pub h2ping: String,
    /// Whether an HTTP/2 ping check speaks TLS; it does unless told otherwise.
    #[serde(rename = "H2PingUseTLS", skip_serializing_if = "Option::is_none")]
    pub h2ping_use_tls: Option<bool>,
    /// The command of a script check, or of a docker check.
    #[serde(alias = "ScriptArgs", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The container in which a docker check runs its command.
    #[serde(rename = "DockerContainerID", skip_serializing_if = "String::is_empty")]
    pub docker_container_id: String,
    /// The shell that a docker check hands a command of one word to; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shell: String,
    /// The unit of an os_service check.
    #[serde(rename = "OSService", skip_serializing_if = "String::is_empty")]
    pub os_service: String,
    /// The id of the instance whose state an alias check copies.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alias_service: String,
    /// Taken and not kept, as in a service's definition.
    #[serde(skip_serializing)]
    pub token: Unheeded,
    /// The node whose state, or on which the instance's, an alias check copies; empty for this one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alias_node: String,
}
