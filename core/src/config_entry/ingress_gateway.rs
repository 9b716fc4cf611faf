//! `ingress-gateway`: services of the mesh that are reached from outside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};
use super::{
    GatewaySds, GatewayTls, HeaderChanges, InvalidEntry, PassiveHealthCheck, Protocol, SourceName,
};
use crate::index::Index;
use crate::limits;
use crate::log_format::HeaderSide;
use crate::name::ServiceName;

/// Services of the mesh that are reached from outside.
///
/// **Source**: Consul: docs/connect/config-entries/ingress-gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IngressGateway {
    /// The gateway.
    pub name: ServiceName,
    /// TLS of the listeners that do not say otherwise.
    #[serde(rename = "TLS", default, skip_serializing_if = "is_blank")]
    pub tls: GatewayTls,
    /// Where the gateway listens.
    #[serde(default)]
    pub listeners: Vec<IngressListener>,
    /// Limits of the services that do not say otherwise.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub defaults: Option<IngressLimits>,
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

/// One port of the gateway.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IngressListener {
    /// The port.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// TLS of this port.
    #[serde(rename = "TLS", skip_serializing_if = "is_blank")]
    pub tls: Option<GatewayTls>,
    /// The services behind it.
    pub services: Vec<IngressService>,
}

/// A service behind a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IngressService {
    /// The service, or `*` for each of them.
    pub name: SourceName,
    /// The host names under which it is asked for; none means `<name>.ingress.*`.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub hosts: Vec<String>,
    /// The certificate for these host names.
    #[serde(rename = "TLS", default, skip_serializing_if = "is_blank")]
    pub tls: Option<IngressServiceTls>,
    /// Changes to requests.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub request_headers: Option<HeaderChanges>,
    /// Changes to answers.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub response_headers: Option<HeaderChanges>,
    /// Connections at once; 0 means the default.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub max_connections: u32,
    /// Requests that wait for a connection; 0 means the default.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub max_pending_requests: u32,
    /// Requests under way; 0 means the default.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub max_concurrent_requests: u32,
    /// When an instance that fails is left out.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub passive_health_check: Option<Box<PassiveHealthCheck>>,
}

/// The certificate of one service behind a port.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IngressServiceTls {
    /// Where it comes from.
    #[serde(rename = "SDS", skip_serializing_if = "is_blank")]
    pub sds: Option<GatewaySds>,
}

/// Limits towards the services behind a gateway; 0 means none of its own.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IngressLimits {
    /// Connections at once.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_connections: u32,
    /// Requests that wait for a connection.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_pending_requests: u32,
    /// Requests under way.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_concurrent_requests: u32,
    /// When an instance that fails is left out.
    #[serde(skip_serializing_if = "is_blank")]
    pub passive_health_check: Option<Box<PassiveHealthCheck>>,
}

impl IngressGateway {
    pub(super) fn normalise(self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        self.tls.check("TLS", &mut findings);
        if let Some(check) = self.defaults.as_ref().and_then(|it| it.passive_health_check.as_ref())
        {
            check.check("Defaults.PassiveHealthCheck", &mut findings);
        }
        findings.count("Listeners", self.listeners.len(), limits::LISTENERS_PER_GATEWAY_MAX);
        let mut first = BTreeMap::new();
        for (at, listener) in self.listeners.iter().enumerate() {
            let field = format!("Listeners[{at}]");
            findings.port(&format!("{field}.Port"), listener.port);
            if let Some(earlier) = first.insert(listener.port, at) {
                let reason = format!("{} is already that of Listeners[{earlier}]", listener.port);
                findings.add(format!("{field}.Port"), reason);
            }
            if let Some(tls) = &listener.tls {
                tls.check(&format!("{field}.TLS"), &mut findings);
            }
            listener.check_services(&field, &mut findings);
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}

impl IngressListener {
    fn check_services(&self, field: &str, findings: &mut Findings) {
        let count = self.services.len();
        let services = format!("{field}.Services");
        if self.protocol == Protocol::Udp {
            let reason = "must not be udp: a gateway takes connections, not datagrams";
            findings.add(format!("{field}.Protocol"), reason);
        }
        findings.count(&services, count, limits::ENTRY_SERVICES_MAX);
        if count == 0 {
            findings.add(&services, "must name at least one service");
        } else if count > 1 && !self.protocol.is_http_like() {
            let reason = "a tcp listener has one service: its connections cannot be told apart";
            findings.add(&services, reason);
        }
        let (mut names, mut hosts) = (BTreeMap::new(), BTreeMap::new());
        for (at, service) in self.services.iter().enumerate() {
            let field = format!("{services}[{at}]");
            if let Some(earlier) = names.insert(&service.name, at) {
                let reason = format!("{} is already given in Services[{earlier}]", service.name);
                findings.add(format!("{field}.Name"), reason);
            }
            for (host_at, host) in service.hosts.iter().enumerate() {
                let field = format!("{field}.Hosts[{host_at}]");
                findings.host_pattern(&field, host);
                if let Some(earlier) = hosts.insert(host.to_ascii_lowercase(), at) {
                    let reason = format!("{:?} leads to Services[{earlier}]", shortened(host));
                    findings.add(field, reason);
                }
            }
            service.check(&field, self.protocol, findings);
        }
    }
}

impl IngressService {
    fn check(&self, field: &str, protocol: Protocol, findings: &mut Findings) {
        let is_any = self.name == SourceName::Any;
        if is_any && !protocol.is_http_like() {
            let reason = "a wildcard needs a listener that speaks http, http2 or grpc";
            findings.add(format!("{field}.Name"), reason);
        }
        findings.count(
            &format!("{field}.Hosts"),
            self.hosts.len(),
            limits::CONDITIONS_PER_ROUTE_MAX,
        );
        if !self.hosts.is_empty() && (is_any || !protocol.is_http_like()) {
            let reason = match is_any {
                true => "must be left out: with a wildcard, each service has its own",
                false => "needs a listener that speaks http, http2 or grpc",
            };
            findings.add(format!("{field}.Hosts"), reason);
        }
        for (side, name, changes) in [
            (HeaderSide::Request, "RequestHeaders", &self.request_headers),
            (HeaderSide::Answer, "ResponseHeaders", &self.response_headers),
        ] {
            if let Some(changes) = changes {
                changes.check(side, &format!("{field}.{name}"), findings);
                if !protocol.is_http_like() {
                    let reason = "needs a listener that speaks http, http2 or grpc";
                    findings.add(format!("{field}.{name}"), reason);
                }
            }
        }
        if let Some(sds) = self.tls.as_ref().and_then(|tls| tls.sds.as_ref()) {
            sds.check(&format!("{field}.TLS.SDS"), findings);
        }
        if let Some(check) = &self.passive_health_check {
            check.check(&format!("{field}.PassiveHealthCheck"), findings);
        }
    }
}
