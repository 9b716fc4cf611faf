//! What a configuration file of the agent may say. No defaults and no checks here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_core::catalog::{CheckDefinition, Locality, ServiceDefinition};
use weft_proto::text::{AuditSection, HttpsSection};

use super::{
    AclSection, DnsSection, ExternalChecksSection, HostProxySection, HttpSection,
    WorkloadApiSection,
};

/// A configuration file, or several merged; each field left out takes its default.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileConfig {
    /// The host's name in the catalog; the system's host name by default.
    pub node_name: Option<String>,
    /// Free key-value pairs of the node.
    pub node_meta: BTreeMap<String, String>,
    /// The datacenter that the agent must find itself in.
    pub datacenter: Option<String>,
    /// Where identity, services and check states are kept.
    pub data_dir: Option<String>,
    /// The join token.
    pub join: Option<String>,
    /// A file with the join token, instead of `join`.
    pub join_token_file: Option<String>,
    /// `host:port` of servers, instead of those that the join answer named.
    pub servers: Vec<String>,
    /// The IP address at which doors for other hosts are bound.
    pub bind_addr: Option<String>,
    /// The IP address under which the node stands in the catalog.
    pub advertise_addr: Option<String>,
    /// Where this host is, for services that do not say it themselves.
    pub locality: Option<Locality>,
    /// How callers of the HTTP API are judged.
    pub acl: AclSection,
    /// The HTTP API.
    pub http: HttpSection,
    /// The HTTP API with TLS.
    pub https: HttpsSection,
    /// Where writes and refusals of the API are written down.
    pub audit: AuditSection,
    /// The DNS interface.
    pub dns: DnsSection,
    /// Ports that the agent gives out.
    pub ports: PortsSection,
    /// The interface for local proxies.
    pub proxy: ProxySection,
    /// Whether one proxy may serve all services of the host, and which process it is.
    pub host_proxy: HostProxySection,
    /// The certificates of services.
    pub leaf: LeafSection,
    /// SPIFFE's Workload API.
    pub workload_api: WorkloadApiSection,
    /// Whether checks may run commands, whoever registers them.
    pub enable_script_checks: bool,
    /// Whether checks that stand in files may run commands.
    pub enable_local_script_checks: bool,
    /// The socket of the Docker daemon, for docker checks.
    pub docker_socket: Option<String>,
    /// The checks of hosts without an agent.
    pub external_checks: ExternalChecksSection,
    /// Services to register.
    pub services: Vec<ServiceDefinition>,
    /// Checks to register, of the node or of services.
    pub checks: Vec<CheckDefinition>,
}

/// The `proxy` section.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxySection {
    /// The path of the unix socket; `<data_dir>/proxy.sock` by default.
    pub socket: Option<String>,
}

/// The `ports` section.
///
/// **Source**: Consul: docs/agent/config/config-files#ports.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortsSection {
    /// The first port of proxies' doors for checks; 21500 by default.
    pub expose_min_port: Option<u16>,
    /// The last one; 21755 by default.
    pub expose_max_port: Option<u16>,
}

/// The `leaf` section.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeafSection {
    /// The kind of the keys: `ec`, which is the default, `ed25519` or `rsa`.
    pub key_type: Option<String>,
    /// Their bits: 256 or 384 for `ec`, 2048 or 4096 for `rsa`; the smaller one by default.
    pub key_bits: Option<u64>,
}
