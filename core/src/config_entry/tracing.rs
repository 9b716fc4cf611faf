//! `Tracing`: of which requests proxies tell, and whom.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Weight;
use super::blank::is_blank;
use super::findings::{Findings, shortened};
use crate::limits;
use crate::time::Span;

/// The share of traces that are told when nothing else is said: one in a hundred, as in Istio.
const SAMPLED_DEFAULT: Option<Weight> = Weight::from_hundredths(100);

/// Of which requests spans are sent to a collector, and where it is.
///
/// **Source**: no entry of Consul's, whose proxies take Envoy's own text; the choices are those of
/// Istio's `Telemetry` and of OpenTelemetry's exporters.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Tracing {
    /// The collector: `http://host:port`, or with `https`. Without a path it is the protocol's
    /// usual one.
    pub endpoint: String,
    /// A file of the proxy's host with the authorities (PEM) that vouch for a collector with
    /// `https`; the system's when left out.
    #[serde(rename = "CAFile", skip_serializing_if = "is_blank")]
    pub ca_file: String,
    /// What it speaks.
    #[serde(skip_serializing_if = "is_blank")]
    pub protocol: TracingProtocol,
    /// The share of traces that begin here and are told; one percent when left out. Of a request
    /// that belongs to a trace already, who began it has decided.
    #[serde(skip_serializing_if = "is_blank")]
    pub sampling_percent: Option<Weight>,
    /// Whether requests that ended with a 5xx or without an answer are told of in any case.
    #[serde(skip_serializing_if = "is_blank")]
    pub keep_errors: bool,
    /// Requests that took longer are told of in any case; 0 means that time plays no part.
    #[serde(skip_serializing_if = "is_blank")]
    pub keep_slower_than: Span,
    /// The headers that carry a trace on, besides those with which it came; W3C's when left out.
    #[serde(skip_serializing_if = "is_blank")]
    pub propagation: Vec<TraceHeaders>,
    /// Attributes of each span.
    #[serde(skip_serializing_if = "is_blank")]
    pub tags: BTreeMap<String, String>,
}

/// What a collector speaks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TracingProtocol {
    /// OTLP as protobuf over HTTP, usually at port 4318.
    #[default]
    OtlpHttp,
    /// OTLP over gRPC, usually at port 4317.
    OtlpGrpc,
    /// Zipkin's second version, JSON over HTTP, usually at port 9411.
    Zipkin,
}

/// A family of headers that say to which trace a request belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceHeaders {
    /// `traceparent` (W3C Trace Context).
    W3c,
    /// `b3`.
    B3,
    /// `x-b3-traceid` and the others.
    B3Multi,
}

impl Tracing {
    /// Returns the share of traces that begin here and are told.
    pub fn sampled(&self) -> Weight {
        self.sampling_percent.or(SAMPLED_DEFAULT).unwrap_or_default()
    }

    /// Returns where spans are sent, the path included where the protocol has one.
    pub fn url(&self) -> String {
        let (_, rest) = self.endpoint.split_once("://").unwrap_or_default();
        let has_path = rest.trim_end_matches('/').contains('/');
        let path = match self.protocol {
            TracingProtocol::OtlpHttp if !has_path => "/v1/traces",
            TracingProtocol::Zipkin if !has_path => "/api/v2/spans",
            TracingProtocol::OtlpHttp | TracingProtocol::Zipkin => return self.endpoint.clone(),
            TracingProtocol::OtlpGrpc => "",
        };
        format!("{}{path}", self.endpoint.trim_end_matches('/'))
    }

    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        let endpoint = self.endpoint.as_str();
        let name = |of: &str| format!("{field}.{of}");
        let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
        let authority = rest.map(|_| self.authority());
        match authority {
            None | Some("") => {
                let reason = format!("{:?} must be an http or https URL", shortened(endpoint));
                findings.add(name("Endpoint"), reason);
            }
            Some(authority) if authority.contains('@') => {
                findings.add(name("Endpoint"), "must hold no password: entries can be read");
            }
            Some(_) if self.protocol == TracingProtocol::OtlpGrpc && !self.is_bare() => {
                findings.add(name("Endpoint"), "has a path, which gRPC has no use for");
            }
            Some(_) => {}
        }
        findings.bytes(&name("Endpoint"), endpoint.len(), limits::PATH_BYTES_MAX);
        findings.bytes(&name("CAFile"), self.ca_file.len(), limits::PATH_BYTES_MAX);
        if !self.ca_file.is_empty() && !self.ca_file.starts_with('/') {
            findings.add(name("CAFile"), "must be an absolute path");
        }
        for (at, headers) in self.propagation.iter().enumerate() {
            if self.propagation[..at].contains(headers) {
                findings.add(format!("{field}.Propagation[{at}]"), "is given twice");
            }
        }
        findings.meta_at(&name("Tags"), &self.tags);
    }

    /// Returns `host:port` of the collector, with the port that the protocol usually has where
    /// none is given.
    pub fn host_port(&self) -> String {
        let authority = self.authority();
        // An IPv6 address has colons of its own, within brackets.
        let has_port = authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let port = match (self.endpoint.starts_with("https://"), self.protocol) {
            (_, TracingProtocol::OtlpGrpc) => 4317,
            (true, _) => 443,
            (false, _) => 80,
        };
        if has_port { authority.to_owned() } else { format!("{authority}:{port}") }
    }

    fn authority(&self) -> &str {
        let (_, rest) = self.endpoint.split_once("://").unwrap_or_default();
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }

    fn is_bare(&self) -> bool {
        let (_, rest) = self.endpoint.split_once("://").unwrap_or_default();
        !rest.trim_end_matches('/').contains(['/', '?', '#'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Tracing {
        serde_json::from_str(json).expect("an entry's part")
    }

    #[test]
    fn the_usual_path_is_added_where_none_is_given() {
        for (json, url) in [
            (r#"{"Endpoint":"http://c:4318"}"#, "http://c:4318/v1/traces"),
            (r#"{"Endpoint":"http://c:4318/"}"#, "http://c:4318/v1/traces"),
            (r#"{"Endpoint":"http://c/otlp/v1/traces"}"#, "http://c/otlp/v1/traces"),
            (r#"{"Endpoint":"http://c:9411","Protocol":"zipkin"}"#, "http://c:9411/api/v2/spans"),
            (r#"{"Endpoint":"http://c:4317","Protocol":"otlp-grpc"}"#, "http://c:4317"),
        ] {
            assert_eq!(read(json).url(), url);
        }
        for (endpoint, host_port) in [
            ("http://c", "c:4317"),
            ("https://[::1]/", "[::1]:4317"),
            ("http://[::1]:1", "[::1]:1"),
        ] {
            let protocol = TracingProtocol::OtlpGrpc;
            let tracing = Tracing { endpoint: endpoint.into(), protocol, ..Tracing::default() };
            assert_eq!(tracing.host_port(), host_port);
        }
        assert_eq!(read("{}").sampled().to_string(), "1");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, field) in [
            ("{}", "Tracing.Endpoint"),
            (r#"{"Endpoint":"collector:4318"}"#, "Tracing.Endpoint"),
            (r#"{"Endpoint":"http:///x"}"#, "Tracing.Endpoint"),
            (r#"{"Endpoint":"http://me:word@c"}"#, "Tracing.Endpoint"),
            (r#"{"Endpoint":"http://c/x","Protocol":"otlp-grpc"}"#, "Tracing.Endpoint"),
            (r#"{"Endpoint":"http://c","Propagation":["b3","b3"]}"#, "Tracing.Propagation[1]"),
            (r#"{"Endpoint":"https://c","CAFile":"ca.pem"}"#, "Tracing.CAFile"),
            (r#"{"Endpoint":"http://c","Tags":{"":"x"}}"#, "Tracing.Tags"),
        ] {
            let mut findings = Findings::default();
            read(json).check("Tracing", &mut findings);
            let found = findings.result(()).expect_err(json);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].to_string().contains(field), "{json}: {found:?}");
        }
    }
}
