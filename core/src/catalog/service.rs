//! A service instance, as the catalog knows it.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::TaggedAddress;
use crate::config_entry::blank::is_blank;
use crate::config_entry::{Expose, ProxyMode, TransparentProxy};
use crate::index::Index;
use crate::local_address::{SocketPath, file_mode};
use crate::name::{Datacenter, InstanceId, ServiceName};

/// What an instance is for.
///
/// **Source**: Consul: api-docs/agent/service#kind. Gateways join when they are built.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ServiceKind {
    /// A sidecar: the mesh's door to another instance.
    #[serde(rename = "connect-proxy")]
    ConnectProxy,
    /// An application.
    #[default]
    #[serde(rename = "")]
    Typical,
}

impl ServiceKind {
    /// Whether the kind is left out of the JSON.
    pub fn is_typical(&self) -> bool {
        *self == Self::Typical
    }
}

/// One instance of a service on one node.
///
/// **Source**: Consul: api-docs/catalog#list-nodes-for-service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// What the instance is for.
    #[serde(default, skip_serializing_if = "ServiceKind::is_typical")]
    pub kind: ServiceKind,
    /// Unique on its node.
    #[serde(rename = "ID")]
    pub id: InstanceId,
    /// The service it is an instance of.
    #[serde(rename = "Service")]
    pub name: ServiceName,
    /// Labels, in the order given; compared without regard to case in DNS.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Where it listens; empty means the node's address.
    #[serde(default)]
    pub address: String,
    /// Further addresses by tag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Free key-value pairs, e.g. `version`.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    /// The port it listens on; 0 for none.
    #[serde(default)]
    pub port: u16,
    /// Further ports by name; empty for an instance with one port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// Its share among instances of equal standing.
    #[serde(default)]
    pub weights: Weights,
    /// Where it runs, when it says so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Locality>,
    /// Whether others may change the tags in the catalog without the agent undoing it.
    #[serde(default)]
    pub enable_tag_override: bool,
    /// What the sidecar stands for; empty unless `kind` is [`ServiceKind::ConnectProxy`].
    #[serde(default)]
    pub proxy: ProxyConfig,
    /// How the instance takes part in the mesh.
    #[serde(default)]
    pub connect: Connect,
    /// When the instance was first registered.
    #[serde(default)]
    pub create_index: Index,
    /// When the instance last changed.
    #[serde(default)]
    pub modify_index: Index,
}

impl Service {
    /// Returns the service for which the instance is a mesh door: a sidecar for its
    /// destination, a native instance for itself.
    pub fn mesh_door_of(&self) -> Option<&ServiceName> {
        match self.kind {
            ServiceKind::ConnectProxy => self.proxy.destination_service_name.as_ref(),
            ServiceKind::Typical => self.connect.native.then_some(&self.name),
        }
    }
}

/// One of several ports of an instance.
///
/// **Source**: Consul: docs/services/configuration/services-configuration-reference#ports.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServicePort {
    /// Unique in its instance; a DNS label.
    pub name: String,
    /// The port.
    pub port: u16,
    /// Whether it is the one meant where none is named; then `Service::port` is the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
}

/// Where something runs, in the words of its cloud or operator.
///
/// **Source**: Consul: docs/services/configuration/services-configuration-reference#locality.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Locality {
    /// Such as `eu-west-1`.
    pub region: String,
    /// A part of the region, such as `eu-west-1a`; empty for none.
    pub zone: String,
}

/// The share of an instance by its aggregated health.
///
/// **Units**: relative, 1 to 65 535; equal weights share equally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Weights {
    /// The share while all checks pass.
    pub passing: u16,
    /// The share while a check warns.
    pub warning: u16,
}

impl Default for Weights {
    /// Equal shares, as Consul: api-docs/agent/service#weights.
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// How an instance takes part in the mesh.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Connect {
    /// Whether the application itself speaks mTLS with mesh certificates.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub native: bool,
}

/// What a sidecar stands for and what it opens.
///
/// **Source**: Consul: docs/connect/proxies/proxy-config-reference.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ProxyConfig {
    /// The service whose identity the proxy has; `None` outside sidecars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_service_name: Option<ServiceName>,
    /// The local instance behind the proxy.
    #[serde(rename = "DestinationServiceID", skip_serializing_if = "Option::is_none")]
    pub destination_service_id: Option<InstanceId>,
    /// Where the local instance listens; empty means 127.0.0.1.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_service_address: String,
    /// The port of the local instance; 0 means the instance's registered port.
    pub local_service_port: u16,
    /// The unix socket of the local instance, in place of address and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_service_socket_path: Option<SocketPath>,
    /// Opaque settings, `protocol` and time-outs among them.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub config: serde_json::Map<String, serde_json::Value>,
    /// How the proxy comes to the connections of the local instance.
    #[serde(skip_serializing_if = "is_blank")]
    pub mode: ProxyMode,
    /// Where redirected connections come in.
    #[serde(skip_serializing_if = "is_blank")]
    pub transparent_proxy: TransparentProxy,
    /// Paths of the local instance that are reached without mutual TLS.
    #[serde(skip_serializing_if = "Expose::is_empty")]
    pub expose: Expose,
    /// From which networks connections to doors without TLS begin with a PROXY header, such as
    /// those of a load balancer. Ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept_proxy_protocol: Vec<IpNet>,
    /// What the local instance calls, and where it finds it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
}

impl ProxyConfig {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A service that the local instance calls through its sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Upstream {
    /// The service called.
    pub destination_name: ServiceName,
    /// The datacenter in which it is looked for first; `None` means the local one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<Datacenter>,
    /// Where the sidecar listens for it; empty means 127.0.0.1.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub local_bind_address: String,
    /// The port on which the sidecar listens for it.
    #[serde(default)]
    pub local_bind_port: u16,
    /// The unix socket on which the sidecar listens for it, in place of address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_bind_socket_path: Option<SocketPath>,
    /// The mode of the socket's file, in octal such as `0660`; empty for [`SOCKET_MODE_DEFAULT`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub local_bind_socket_mode: String,
    /// Opaque settings, `protocol` and time-outs among them.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// The mode of an upstream's unix socket when none is given: the user whom the sidecar runs as,
/// and nobody else.
pub const SOCKET_MODE_DEFAULT: u32 = 0o600;

impl Upstream {
    /// Returns the mode of the socket's file; `None` for a text that is no mode.
    pub fn socket_mode(&self) -> Option<u32> {
        match self.local_bind_socket_mode.as_str() {
            "" => Some(SOCKET_MODE_DEFAULT),
            text => file_mode(text),
        }
    }
}
