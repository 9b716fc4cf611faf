//! The agent's configuration: what a file may say (`file`), and what it comes to (`resolve`).
//!
//! A [`FileConfig`] is taken as it comes; [`Config::resolve`] checks it, fills in every
//! default and names all faults at once. Nothing else in the agent knows a default.

mod acl;
mod definitions;
mod dns;
mod external;
mod file;
mod host_proxy;
mod http;
mod resolve;
mod workload;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use weft_core::attestation::Processes;
use weft_core::ca::KeyKind;
use weft_core::catalog::Locality;
use weft_core::name::{Datacenter, NodeName};
use weft_proto::text::AuditConfig;

use crate::local::Definitions;

pub use acl::{AclConfig, AclSection, AclTokensSection, DownPolicy, TokenText};
pub use definitions::{Reread, read_definitions};
pub use dns::{DnsConfig, DnsSection, Recursors, SoaSection, Strategy};
pub use external::{ExternalChecks, ExternalChecksSection};
pub use file::{FileConfig, LeafSection, PortsSection, ProxySection};
pub use host_proxy::HostProxySection;
pub use http::{HttpConfig, HttpSection, HttpSocket};
pub use workload::{WorkloadApiConfig, WorkloadApiSection, WorkloadEntrySection};

/// A checked configuration with nothing left open.
#[derive(Debug, Clone)]
pub struct Config {
    /// The host's name in the catalog.
    pub node_name: NodeName,
    /// Free key-value pairs of the node.
    pub node_meta: BTreeMap<String, String>,
    /// The datacenter that the agent must find itself in; `None` takes the cluster's.
    pub datacenter: Option<Datacenter>,
    /// Where identity, services and check states are kept.
    pub data_dir: PathBuf,
    /// How to join when the data directory holds no identity yet.
    pub join: JoinSource,
    /// `host:port` of servers, instead of those that the join answer named.
    pub servers: Vec<String>,
    /// Where doors for other hosts are bound: the inbound side of local proxies.
    pub bind_addr: IpAddr,
    /// The node's address in the catalog.
    pub advertise_addr: IpAddr,
    /// Where this host is, for services that do not say it themselves; its region is not empty.
    pub locality: Option<Locality>,
    /// How callers of the HTTP API are judged.
    pub acl: AclConfig,
    /// The HTTP API.
    pub http: HttpConfig,
    /// Where writes and refusals of the API are written down; `None` for nowhere.
    pub audit: Option<AuditConfig>,
    /// The DNS interface.
    pub dns: DnsConfig,
    /// The ports of proxies' doors for checks.
    pub expose_ports: RangeInclusive<u16>,
    /// The unix socket on which local proxies are configured.
    pub proxy_socket: PathBuf,
    /// Which processes may be the proxy of all services of this host; `None` for none.
    pub host_proxy: Option<Processes>,
    /// The kind of key of each certificate of a service.
    pub leaf_key: KeyKind,
    /// The SPIFFE Workload API; `None` when it is off.
    pub workload_api: Option<WorkloadApiConfig>,
    /// How checks are run.
    pub checks: ChecksConfig,
    /// How the checks of hosts without an agent are run; `None` when they are not, here.
    pub external_checks: Option<ExternalChecks>,
    /// Services and checks from configuration files.
    pub definitions: Definitions,
    /// Reads the files again; `None` where there are none.
    pub reread: Option<Reread>,
    /// The settings as they were given.
    pub settings: Arc<FileConfig>,
}

/// How checks are run.
#[derive(Debug, Clone)]
pub struct ChecksConfig {
    /// Whose checks may run commands.
    pub scripts: Scripts,
    /// The socket of the Docker daemon.
    pub docker_socket: PathBuf,
}

/// Whose checks may run commands on this host.
///
/// **Source**: Consul: docs/services/usage/checks#script-checks; whoever reaches the API of an
/// agent that runs commands for everyone can run commands as the agent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Scripts {
    /// Those of whoever may register them.
    Everyone,
    /// Those that stand in files of the agent.
    Files,
    /// Nobody's.
    #[default]
    Nobody,
}

/// Where the join token comes from.
#[derive(Clone, Default)]
pub enum JoinSource {
    /// The token's file, read when it is needed.
    File(PathBuf),
    /// There is none: the data directory must hold an identity.
    #[default]
    None,
    /// The token itself.
    Token(String),
}

impl std::fmt::Debug for JoinSource {
    /// Leaves the token out: it is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::None => f.write_str("None"),
            Self::Token(_) => f.write_str("Token(…)"),
        }
    }
}
