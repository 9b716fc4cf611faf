//! A complete configuration of one proxy.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ca::{Leaf, TrustBundle};
use crate::catalog::VirtualIp;
use crate::chain::{CompiledChain, Endpoint, TargetId};
use crate::config_entry::blank::is_blank;
use crate::config_entry::{
    AccessLogs, CongestionControl, ExtAuthzConfig, ForwardedHeaders, LoadLimits, MeshTls,
    PassiveHealthCheck, Protocol, ProxyProtocol, RateLimits, Tracing, UpstreamLimits,
};
use crate::identity::SpiffeId;
use crate::intention::IntentionSet;
use crate::local_address::LocalAddress;
use crate::name::{InstanceId, ServiceName};

/// Everything that one proxy needs; never partial.
///
/// **Shape**: every target of every upstream's chain has an entry in `endpoints` (which may be
/// empty: the service is known and has no usable instance).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySnapshot {
    /// Rises with each change; the proxy acknowledges it.
    pub version: u64,
    /// The id of the sidecar's registration.
    pub proxy_id: InstanceId,
    /// The service that the proxy speaks for.
    pub service: ServiceName,
    /// The identity in `leaf`.
    pub spiffe_id: SpiffeId,
    /// The proxy's certificate and key.
    pub leaf: Leaf,
    /// Whom to trust.
    pub trust_bundle: TrustBundle,
    /// Which TLS is spoken with other proxies.
    #[serde(default)]
    pub tls: MeshTls,
    /// What is written about requests; `None` for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_logs: Option<Box<AccessLogs>>,
    /// Of which requests spans are sent to a collector; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// What the local instance is told of who calls, and what is believed of it.
    #[serde(default)]
    pub forwarded_headers: ForwardedHeaders,
    /// The door for others.
    pub inbound: InboundConfig,
    /// From which networks connections without TLS begin with a PROXY header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol_from: Vec<IpNet>,
    /// The doors for those who have no identity, such as probes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed: Vec<ExposedListener>,
    /// Where the local instance's calls come in that the host redirects; `None` where it redirects none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured: Option<CapturedConfig>,
    /// The doors for the local instance.
    pub upstreams: Vec<UpstreamConfig>,
    /// The usable instances behind each target.
    pub endpoints: BTreeMap<TargetId, Vec<Endpoint>>,
}

/// How others reach the local instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundConfig {
    /// Where the proxy listens for mTLS from other proxies.
    pub bind: SocketAddr,
    /// Where the local instance listens.
    pub local_app: LocalAddress,
    /// The header that it gets before each connection; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// What the local instance speaks.
    pub protocol: Protocol,
    /// Whether callers without mutual TLS are let through to the local instance, unjudged.
    #[serde(default)]
    pub takes_plaintext: bool,
    /// Whether callers may ask the local instance for tunnels to elsewhere.
    #[serde(default)]
    pub allow_connect: bool,
    /// Who may call.
    pub intentions: IntentionSet,
    /// The keys of the providers of tokens that the intentions ask for, by provider.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub jwt_keys: BTreeMap<ServiceName, JwtKeys>,
    /// Who else is asked whether a request may pass, once intentions let it through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ext_authz: Option<ExtAuthz>,
    /// How many requests are let through; `None` for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limits: Option<Box<RateLimits>>,
    /// How many requests are under way at once; `None` for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_limits: Option<Box<LoadLimits>>,
    /// How long a caller's connection lasts before it is asked to leave; `None` for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_duration_max: Option<Duration>,
    /// Connections at once; `None` for no limit.
    pub connections_max: Option<u32>,
    /// How long to wait for a connection to the local instance.
    pub connect_timeout: Duration,
    /// How long to wait for the head of an answer; `None` for no limit.
    pub request_timeout: Option<Duration>,
    /// How fast answers go, over QUIC.
    #[serde(default)]
    pub congestion_control: CongestionControl,
}

/// How calls are met that the host redirects.
///
/// **Source**: Consul: docs/k8s/connect/transparent-proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedConfig {
    /// Where the proxy listens for them.
    ///
    /// **Shape**: one address of each family; that of IPv6 is passed over where the host has none.
    pub binds: Vec<SocketAddr>,
    /// Whether calls to elsewhere than services of the mesh are refused.
    pub destinations_only: bool,
}

/// A door without mutual TLS, for some paths of the local instance.
///
/// **Source**: Consul: docs/connect/proxies/proxy-config-reference#expose-paths-configuration-reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposedListener {
    /// Where the proxy listens.
    pub bind: SocketAddr,
    /// **Shape**: not empty; each path once.
    pub routes: Vec<ExposedRoute>,
    /// Who may call beside those on loopback; empty for everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<IpAddr>,
}

/// One path that is reached without mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposedRoute {
    /// In canonical form; no other path is let through.
    pub path: String,
    /// Where the local instance has it.
    pub local: SocketAddr,
    /// What it speaks there.
    pub protocol: Protocol,
}

/// An external authoriser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtAuthz {
    /// How it is asked.
    pub config: ExtAuthzConfig,
    /// Where, on this host: itself, or our own door to it; `None` when there is none.
    pub address: Option<SocketAddr>,
}

/// The public keys of a provider of tokens, as the agent has them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtKeys {
    /// A JSON web key set (RFC 7517); `None` until one was had.
    pub set: Option<String>,
    /// Rises each time a proxy has asked for newer keys, found or not.
    pub answered: u64,
}

/// How the local instance reaches one other service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamConfig {
    /// Where the proxy listens for the local instance, without TLS. With port 0 it does not listen:
    /// the upstream is reached by captured calls alone.
    pub bind: LocalAddress,
    /// The address that captured calls to it are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_ip: Option<VirtualIp>,
    /// The mode of the file, where that is a unix socket; `None` for its user alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_mode: Option<u32>,
    /// What the proxy follows for each connection or request.
    pub chain: CompiledChain,
    /// What may be open towards each of its targets at once.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub limits: UpstreamLimits,
    /// When instances that fail are left out; `None` for no more than is safe for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive_health_check: Option<Box<PassiveHealthCheck>>,
}
