//! How a check of an external host is to be run, as whoever registered it says: kept and shown, for
//! the monitors that run such checks. Nothing here runs one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::time::Span;

/// The definition of a check in the catalog.
///
/// **Source**: Consul: api-docs/catalog#register-entity, `Check.Definition`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthCheckDefinition {
    /// The URL of an http check.
    #[serde(rename = "HTTP", skip_serializing_if = "String::is_empty")]
    pub http: String,
    /// Headers of an http check.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, Vec<String>>,
    /// The method of an http check.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The body of an http check.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Whether an http check stays where it was sent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_redirects: bool,
    /// The server name asked for.
    #[serde(rename = "TLSServerName", skip_serializing_if = "String::is_empty")]
    pub tls_server_name: String,
    /// Whether certificates are left unverified.
    #[serde(rename = "TLSSkipVerify", skip_serializing_if = "std::ops::Not::not")]
    pub tls_skip_verify: bool,
    /// The address, `host:port`, of a tcp check.
    #[serde(rename = "TCP", skip_serializing_if = "String::is_empty")]
    pub tcp: String,
    /// Whether a tcp check shakes hands.
    #[serde(rename = "TCPUseTLS", skip_serializing_if = "std::ops::Not::not")]
    pub tcp_use_tls: bool,
    /// The address, `host:port`, of a udp check.
    #[serde(rename = "UDP", skip_serializing_if = "String::is_empty")]
    pub udp: String,
    /// The address of a gRPC health check.
    #[serde(rename = "GRPC", skip_serializing_if = "String::is_empty")]
    pub grpc: String,
    /// Whether it is asked with TLS.
    #[serde(rename = "GRPCUseTLS", skip_serializing_if = "std::ops::Not::not")]
    pub grpc_use_tls: bool,
    /// A unit of the host's service manager.
    #[serde(rename = "OSService", skip_serializing_if = "String::is_empty")]
    pub os_service: String,
    /// A session that must be held.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session_name: String,
    /// How often it runs.
    #[serde(skip_serializing_if = "is_nothing")]
    pub interval: Span,
    /// How long a run may take.
    #[serde(skip_serializing_if = "is_nothing")]
    pub timeout: Span,
    /// How long it may be critical before its service is deregistered.
    #[serde(skip_serializing_if = "is_nothing")]
    pub deregister_critical_service_after: Span,
}

fn is_nothing(span: &Span) -> bool {
    span.0.is_zero()
}

impl HealthCheckDefinition {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all texts together keep to their limit.
    pub fn is_bounded(&self) -> bool {
        let single = [
            &self.http,
            &self.method,
            &self.body,
            &self.tls_server_name,
            &self.tcp,
            &self.udp,
            &self.grpc,
            &self.os_service,
            &self.session_name,
        ];
        let single = single.into_iter().map(String::len);
        let headers = self.header.iter();
        let headers =
            headers.map(|(name, all)| name.len() + all.iter().map(String::len).sum::<usize>());
        single.chain(headers).sum::<usize>() <= limits::OPAQUE_TEXT_BYTES_MAX
    }
}
