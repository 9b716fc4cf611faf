//! What the caller's proxy answers in place of a service: redirects and fixed answers of a route.

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};

/// Bytes of the body of a fixed answer: it lies in the chain, and so in each caller's proxy.
const BODY_BYTES_MAX: usize = 4 << 10;

/// Sends the caller elsewhere. What is not given is as in the request, its query always.
///
/// Ours; **Source**: Istio: VirtualService, HTTPRedirect.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RouteRedirect {
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The host, without a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port; 0 for that of the scheme where scheme or host is given, else as in the request.
    #[serde(skip_serializing_if = "is_blank")]
    pub port: u16,
    /// The whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the matched prefix (or exact path) is replaced by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_rewrite: Option<String>,
    /// The status: 301, 302, 303, 307 or 308; 0 means 301.
    #[serde(skip_serializing_if = "is_blank")]
    pub code: u16,
}

/// A fixed answer.
///
/// Ours; **Source**: Istio: VirtualService, HTTPDirectResponse.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RouteResponse {
    /// The status, 200 to 599.
    pub status: u16,
    /// The body.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// What the body is; empty means `text/plain; charset=utf-8`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_type: String,
}

impl RouteRedirect {
    pub(super) fn normalise(&mut self, field: &str, findings: &mut Findings) {
        for text in [&mut self.scheme, &mut self.host, &mut self.path, &mut self.prefix_rewrite] {
            *text = text.take().filter(|text| !text.is_empty());
        }
        if *self == (Self { code: self.code, ..Self::default() }) {
            findings.add(field, "leads to where the request came: change something of that");
        }
        if let Some(scheme) = &self.scheme
            && !matches!(&**scheme, "http" | "https")
        {
            let scheme = shortened(scheme);
            findings.add(format!("{field}.Scheme"), format!("{scheme:?} must be http or https"));
        }
        if let Some(host) = &self.host {
            findings.host(&format!("{field}.Host"), host);
        }
        for (name, path) in [("Path", &self.path), ("PrefixRewrite", &self.prefix_rewrite)] {
            if let Some(path) = path {
                check_path(&format!("{field}.{name}"), path, findings);
            }
        }
        if self.path.is_some() && self.prefix_rewrite.is_some() {
            findings.add(format!("{field}.PrefixRewrite"), "stands beside Path: write one of them");
        }
        if !matches!(self.code, 0 | 301 | 302 | 303 | 307 | 308) {
            let reason = format!("{} must be 301, 302, 303, 307 or 308", self.code);
            findings.add(format!("{field}.Code"), reason);
        }
    }
}

impl RouteResponse {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        if !(200..600).contains(&self.status) {
            let reason = format!("{} must be 200 to 599", self.status);
            findings.add(format!("{field}.Status"), reason);
        }
        if matches!(self.status, 204 | 205 | 304) && !self.body.is_empty() {
            let reason = format!("stands beside the status {}, which has none", self.status);
            findings.add(format!("{field}.Body"), reason);
        }
        findings.bytes(&format!("{field}.Body"), self.body.len(), BODY_BYTES_MAX);
        if self.content_type.contains(|c: char| !matches!(c, ' '..='~')) {
            findings.add(format!("{field}.ContentType"), "must be printable ASCII");
        }
        findings.bytes(&format!("{field}.ContentType"), self.content_type.len(), 256);
    }
}

/// A path that stands in a target of a request as it is.
pub(super) fn check_path(field: &str, path: &str, findings: &mut Findings) {
    findings.path(field, path);
    if !path.is_ascii() {
        findings.add(field, "must be ASCII: write other letters with %");
    }
}
