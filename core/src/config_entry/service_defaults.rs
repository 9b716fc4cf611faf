//! `service-defaults`: what one service speaks, and its limits.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};
use super::{
    AccessLogs, AdaptiveConcurrency, BalanceConnections, CongestionControl, DestinationTls,
    EnvoyExtension, Expose, ForwardedHeaders, HopTransport, InvalidEntry, LoadLimits, MeshGateway,
    MeshTransport, MutualTlsMode, ProxyMode, RateLimits, RequestPriority, Tracing,
    TransparentProxy, UpstreamConfigs,
};
use crate::index::Index;
use crate::limits;
use crate::name::ServiceName;
use crate::time::Span;

/// What a service speaks.
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults#protocol.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// gRPC: HTTP/2 with trailers.
    Grpc,
    /// HTTP/1.1.
    Http,
    /// HTTP/2 without TLS (prior knowledge).
    Http2,
    /// Bytes.
    #[default]
    Tcp,
    /// Datagrams. Ours.
    Udp,
}

impl Protocol {
    /// Returns the word of the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Whether requests can be told apart and routed by their content.
    pub fn is_http_like(self) -> bool {
        match self {
            Self::Grpc | Self::Http | Self::Http2 => true,
            Self::Tcp | Self::Udp => false,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// States that a word is not a protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a protocol; write tcp, udp, http, http2 or grpc")]
pub struct UnknownProtocol(pub String);

impl FromStr for Protocol {
    type Err = UnknownProtocol;
    fn from_str(word: &str) -> Result<Self, UnknownProtocol> {
        match word.to_ascii_lowercase().as_str() {
            "grpc" => Ok(Self::Grpc),
            "http" => Ok(Self::Http),
            "http2" => Ok(Self::Http2),
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(UnknownProtocol(word.to_owned())),
        }
    }
}

/// The header that says who is at the other end of a connection.
///
/// **Source**: HAProxy: doc/proxy-protocol.txt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// A line of text with the addresses.
    V1,
    /// Binary, with the name asked for, the TLS spoken and the caller's identity.
    V2,
}

/// Defaults of one service.
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceDefaults {
    /// The service.
    pub name: ServiceName,
    /// What it speaks; `None` means that of proxy-defaults, else tcp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// How its proxies come to the connections of their instances.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub mode: ProxyMode,
    /// How redirected connections are treated.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub transparent_proxy: TransparentProxy,
    /// Whether its proxies take connections without mutual TLS; they do not.
    #[serde(rename = "MutualTLSMode", default, skip_serializing_if = "is_blank")]
    pub mutual_tls_mode: MutualTlsMode,
    /// Through which gateway they go to other datacenters.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub mesh_gateway: MeshGateway,
    /// Paths that are reached without mutual TLS.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub expose: Expose,
    /// The server name under which a service outside the mesh is known.
    #[serde(rename = "ExternalSNI", default, skip_serializing_if = "is_blank")]
    pub external_sni: String,
    /// How it calls others.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub upstream_config: Option<Box<UpstreamConfigs>>,
    /// Where a service outside the mesh is.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub destination: Option<ServiceDestination>,
    /// Connections that its proxy takes at once; 0 means no limit of its own.
    #[serde(default)]
    pub max_inbound_connections: u32,
    /// How long its proxy waits for a connection to the local instance, 0 means 5 s.
    ///
    /// **Units**: milliseconds.
    #[serde(default)]
    pub local_connect_timeout_ms: u32,
    /// How long its proxy waits for the head of an answer, 0 means no limit.
    ///
    /// **Units**: milliseconds.
    #[serde(default)]
    pub local_request_timeout_ms: u32,
    /// How connections are spread over the threads of its proxy.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub balance_inbound_connections: BalanceConnections,
    /// The largest head of a request.
    ///
    /// **Units**: 1024 bytes; `None` means the default.
    #[serde(rename = "MaxRequestHeadersKB", default, skip_serializing_if = "is_blank")]
    pub max_request_headers_kb: Option<u32>,
    /// How many requests its proxies let through.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub rate_limits: Option<Box<RateLimits>>,
    /// How many requests its proxies have under way at once, each; 0 for any number. Ours.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub max_concurrent_requests: u32,
    /// A limit of that which follows how long answers take. Ours.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub adaptive_concurrency: Option<Box<AdaptiveConcurrency>>,
    /// Which requests go on longest when a limit of them is near. Ours.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub priority: Option<Box<RequestPriority>>,
    /// How long a caller's connection lasts before its proxies ask it to leave; zero for ever. Ours, as Istio's
    /// `maxConnectionDuration`.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub max_connection_duration: Span,
    /// Who else is asked whether a request may pass; empty means whom proxy-defaults names.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub envoy_extensions: Vec<EnvoyExtension>,
    /// What its proxies write about requests; proxy-defaults counts where it is left out. Ours.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub access_logs: Option<Box<AccessLogs>>,
    /// What its proxies tell of who calls; proxy-defaults counts where it is left out. Ours.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub forwarded_headers: Option<ForwardedHeaders>,
    /// Whether callers may ask its instances, by `CONNECT`, for tunnels to elsewhere. Ours.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub allow_connect: bool,
    /// The header that its instances get before each connection; none when left out. Ours.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Of which requests its proxies send spans to a collector; proxy-defaults counts where it is left
    /// out.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub tracing: Option<Tracing>,
    /// Over what callers' proxies come to those of this service; proxy-defaults counts where
    /// it is left out.
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

/// Where a service outside the mesh is.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceDestination {
    /// Its host names or IP addresses.
    #[serde(skip_serializing_if = "is_blank")]
    pub addresses: Vec<String>,
    /// Its port.
    #[serde(skip_serializing_if = "is_blank")]
    pub port: u16,
    /// The header before each connection; none when left out. Ours.
    #[serde(skip_serializing_if = "is_blank")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// TLS that is spoken with it; none when left out. Ours.
    #[serde(rename = "TLS", skip_serializing_if = "is_blank")]
    pub tls: Option<Box<DestinationTls>>,
    /// Whether the caller's host name is kept; else a host name called takes its place. As in
    /// `terminating-gateway`.
    #[serde(skip_serializing_if = "is_blank")]
    pub disable_auto_host_rewrite: bool,
}

impl ServiceDestination {
    fn check(&self, protocol: Option<Protocol>, findings: &mut Findings) {
        findings.port("Destination.Port", self.port);
        if let Some(tls) = &self.tls {
            tls.check("Destination.TLS", protocol, findings);
        }
        if self.addresses.is_empty() {
            findings.add("Destination.Addresses", "must name at least one");
        }
        let count = self.addresses.len();
        findings.count("Destination.Addresses", count, limits::CONDITIONS_PER_ROUTE_MAX);
        let mut seen = std::collections::BTreeSet::new();
        for (at, address) in self.addresses.iter().enumerate() {
            let field = format!("Destination.Addresses[{at}]");
            if !seen.insert(address) {
                findings.add(&field, format!("{:?} is given twice", shortened(address)));
            }
            let is_ip = address.parse::<std::net::IpAddr>().is_ok();
            // A wildcard would need the host that is asked for, which only HTTP tells.
            match address.strip_prefix("*.") {
                Some(rest) if protocol.is_some_and(Protocol::is_http_like) => {
                    findings.host(&field, rest);
                }
                Some(_) => findings.add(&field, "a wildcard needs the Protocol http"),
                None if is_ip => {}
                None => findings.host(&field, address),
            }
        }
    }
}

impl ServiceDefaults {
    /// Makes the entry that says nothing.
    pub fn new(name: ServiceName) -> Self {
        Self {
            name,
            protocol: None,
            mode: ProxyMode::default(),
            transparent_proxy: TransparentProxy::default(),
            mutual_tls_mode: MutualTlsMode::default(),
            mesh_gateway: MeshGateway::default(),
            expose: Expose::default(),
            external_sni: String::new(),
            upstream_config: None,
            destination: None,
            max_inbound_connections: 0,
            local_connect_timeout_ms: 0,
            local_request_timeout_ms: 0,
            balance_inbound_connections: BalanceConnections::default(),
            max_request_headers_kb: None,
            rate_limits: None,
            max_concurrent_requests: 0,
            max_connection_duration: Span::default(),
            adaptive_concurrency: None,
            priority: None,
            envoy_extensions: Vec::new(),
            access_logs: None,
            forwarded_headers: None,
            allow_connect: false,
            proxy_protocol: None,
            tracing: None,
            mesh_transport: MeshTransport::default(),
            mesh_congestion_control: CongestionControl::default(),
            meta: BTreeMap::new(),
            create_index: Index::default(),
            modify_index: Index::default(),
        }
    }

    /// Returns over what its proxies are reached, as far as it says so.
    pub fn hop_transport(&self) -> HopTransport {
        let (mesh_transport, congestion_control) =
            (self.mesh_transport, self.mesh_congestion_control);
        HopTransport { mesh_transport, congestion_control }
    }

    /// Returns what it says of requests under way.
    pub fn load_limits(&self) -> LoadLimits {
        LoadLimits {
            max_concurrent_requests: self.max_concurrent_requests,
            adaptive: self.adaptive_concurrency.as_deref().cloned(),
            priority: self.priority.as_deref().cloned(),
        }
    }

    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        for (field, ms) in [
            ("LocalConnectTimeoutMs", self.local_connect_timeout_ms),
            ("LocalRequestTimeoutMs", self.local_request_timeout_ms),
        ] {
            findings.timeout(field, Duration::from_millis(ms.into()));
        }
        findings.timeout("MaxConnectionDuration", self.max_connection_duration.0);
        self.expose.check("Expose", &mut findings);
        if !self.external_sni.is_empty() {
            findings.host("ExternalSNI", &self.external_sni);
        }
        if let Some(upstreams) = &self.upstream_config {
            upstreams.check(&mut findings);
        }
        if let Some(destination) = &self.destination {
            destination.check(self.protocol, &mut findings);
        }
        if self.max_request_headers_kb.is_some_and(|kb| !(1..=HEAD_KB_MAX).contains(&kb)) {
            findings.add("MaxRequestHeadersKB", format!("must be 1 to {HEAD_KB_MAX}"));
        }
        if let Some(rates) = &mut self.rate_limits {
            rates.normalise(self.protocol, &mut findings);
        }
        self.rate_limits = self.rate_limits.filter(|rates| **rates != RateLimits::default());
        let mut load = self.load_limits();
        load.normalise(self.protocol, &mut findings);
        self.priority = load.priority.map(Box::new);
        EnvoyExtension::check_all(&self.envoy_extensions, &mut findings);
        if let Some(logs) = &self.access_logs {
            logs.check("AccessLogs", &mut findings);
        }
        if let Some(tracing) = &self.tracing {
            tracing.check("Tracing", &mut findings);
        }
        if let Some(headers) = &self.forwarded_headers {
            headers.check("ForwardedHeaders", &mut findings);
        }
        let no_requests = self.protocol.is_some_and(|it| !it.is_http_like());
        if self.allow_connect && no_requests {
            let reason = "needs a Protocol of requests, such as http";
            findings.add("AllowConnect", reason);
        }
        if !self.envoy_extensions.is_empty() && no_requests {
            let reason = "needs a Protocol of requests, such as http: connections cannot be judged";
            findings.add("EnvoyExtensions", reason);
        }
        if self.protocol == Some(Protocol::Udp) {
            self.check_udp(&mut findings);
        }
        findings.meta(&self.meta);
        findings.result(self)
    }

    /// Refuses what is only there for connections.
    fn check_udp(&self, findings: &mut Findings) {
        if self.destination.is_some() || !self.external_sni.is_empty() {
            let field = if self.destination.is_some() { "Destination" } else { "ExternalSNI" };
            findings.add(field, "must be left out: udp is spoken with services of the mesh only");
        }
        if self.proxy_protocol.is_some() {
            let reason = "must be left out: udp has no connection that a header could begin";
            findings.add("ProxyProtocol", reason);
        }
        if self.mutual_tls_mode == MutualTlsMode::Permissive {
            let reason = "must not be permissive: datagrams come over mutual TLS only";
            findings.add("MutualTLSMode", reason);
        }
    }
}

/// The largest head of a request that an entry may allow (Envoy: 8192 KiB).
const HEAD_KB_MAX: u32 = 8_192;
