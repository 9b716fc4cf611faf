//! A collector, as `Tracing` and `AccessLogs` name it: where it is and what it speaks.

use serde::{Deserialize, Serialize};

use super::findings::{Findings, shortened};
use crate::limits;

/// Where a collector is and what it speaks.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Collector {
    /// `http://host:port`, or with `https`. Without a path it is the protocol's usual one.
    pub endpoint: String,
    /// A file with the authorities (PEM) that vouch for one with `https`; empty for the system's.
    pub ca_file: String,
    /// What it speaks.
    pub protocol: CollectorProtocol,
}

/// What a collector speaks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CollectorProtocol {
    /// OTLP as protobuf over HTTP, usually at port 4318.
    #[default]
    OtlpHttp,
    /// OTLP over gRPC, usually at port 4317.
    OtlpGrpc,
    /// Zipkin's second version, JSON over HTTP, usually at port 9411; for traces alone.
    Zipkin,
}

impl Collector {
    /// Returns where it is told, with the path that the protocol usually has for it where none is
    /// given.
    pub fn url(&self, path: &str) -> String {
        let is_grpc = self.protocol == CollectorProtocol::OtlpGrpc;
        let has_path = self.rest().trim_end_matches('/').contains('/');
        match (is_grpc, has_path) {
            (false, true) => self.endpoint.clone(),
            (false, false) => format!("{}{path}", self.endpoint.trim_end_matches('/')),
            (true, _) => self.endpoint.trim_end_matches('/').to_owned(),
        }
    }

    /// Returns `host:port`, with the port that the protocol usually has where none is given.
    pub fn host_port(&self) -> String {
        let authority = self.authority();
        // An IPv6 address has colons of its own, within brackets.
        let has_port = authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let port = match (self.is_tls(), self.protocol) {
            (_, CollectorProtocol::OtlpGrpc) => 4317,
            (true, CollectorProtocol::OtlpHttp | CollectorProtocol::Zipkin) => 443,
            (false, CollectorProtocol::OtlpHttp | CollectorProtocol::Zipkin) => 80,
        };
        if has_port { authority.to_owned() } else { format!("{authority}:{port}") }
    }

    /// Whether it is called with TLS.
    pub fn is_tls(&self) -> bool {
        self.endpoint.starts_with("https://")
    }

    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        let endpoint = self.endpoint.as_str();
        let name = |of: &str| format!("{field}.{of}");
        let is_url = self.is_tls() || endpoint.starts_with("http://");
        match self.authority() {
            authority if !is_url || authority.is_empty() => {
                let reason = format!("{:?} must be an http or https URL", shortened(endpoint));
                findings.add(name("Endpoint"), reason);
            }
            authority if authority.contains('@') => {
                findings.add(name("Endpoint"), "must hold no password: entries can be read");
            }
            _ if self.protocol == CollectorProtocol::OtlpGrpc && !self.is_bare() => {
                findings.add(name("Endpoint"), "has a path, which gRPC has no use for");
            }
            _ => {}
        }
        findings.bytes(&name("Endpoint"), endpoint.len(), limits::PATH_BYTES_MAX);
        findings.bytes(&name("CAFile"), self.ca_file.len(), limits::PATH_BYTES_MAX);
        if !self.ca_file.is_empty() && !self.ca_file.starts_with('/') {
            findings.add(name("CAFile"), "must be an absolute path");
        }
    }

    fn rest(&self) -> &str {
        self.endpoint.split_once("://").unwrap_or_default().1
    }

    fn authority(&self) -> &str {
        self.rest().split(['/', '?', '#']).next().unwrap_or_default()
    }

    fn is_bare(&self) -> bool {
        !self.rest().trim_end_matches('/').contains(['/', '?', '#'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_path_and_port_are_added_where_none_is_given() {
        use CollectorProtocol::{OtlpGrpc, OtlpHttp};
        for (endpoint, protocol, url, host_port) in [
            ("http://c:4318", OtlpHttp, "http://c:4318/v1/x", "c:4318"),
            ("http://c:4318/", OtlpHttp, "http://c:4318/v1/x", "c:4318"),
            ("https://c/otlp/y", OtlpHttp, "https://c/otlp/y", "c:443"),
            ("http://c", OtlpHttp, "http://c/v1/x", "c:80"),
            ("http://c:4317/", OtlpGrpc, "http://c:4317", "c:4317"),
            ("http://c", OtlpGrpc, "http://c", "c:4317"),
            ("https://[::1]/", OtlpGrpc, "https://[::1]", "[::1]:4317"),
            ("http://[::1]:1", OtlpGrpc, "http://[::1]:1", "[::1]:1"),
        ] {
            let collector =
                Collector { endpoint: endpoint.into(), protocol, ..Collector::default() };
            assert_eq!(
                (collector.url("/v1/x"), collector.host_port()),
                (url.into(), host_port.into())
            );
        }
    }
}
