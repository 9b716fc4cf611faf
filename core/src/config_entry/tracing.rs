//! `Tracing`: of which requests proxies tell, and whom.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use super::{Collector, CollectorProtocol, Weight};
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
    pub protocol: CollectorProtocol,
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

    /// Returns where spans are sent.
    pub fn collector(&self) -> Collector {
        let Self { endpoint, ca_file, protocol, .. } = self;
        Collector { endpoint: endpoint.clone(), ca_file: ca_file.clone(), protocol: *protocol }
    }

    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        self.collector().check(field, findings);
        for (at, headers) in self.propagation.iter().enumerate() {
            if self.propagation[..at].contains(headers) {
                findings.add(format!("{field}.Propagation[{at}]"), "is given twice");
            }
        }
        findings.meta_at(&format!("{field}.Tags"), &self.tags);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Tracing {
        serde_json::from_str(json).expect("an entry's part")
    }

    #[test]
    fn one_in_a_hundred_is_told_of_when_nothing_is_said() {
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
