//! TLS with a service outside the mesh: whom to believe, and what to show.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};
use super::{Protocol, TlsVersion};
use crate::limits;

/// TLS that proxies speak with a service outside the mesh. Ours; Consul has such fields in
/// `terminating-gateway`, Istio in `DestinationRule`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DestinationTls {
    /// Whether TLS is spoken, and who shows a certificate.
    pub mode: DestinationTlsMode,
    /// The server name asked for; empty means the host name called.
    #[serde(rename = "SNI", skip_serializing_if = "is_blank")]
    pub sni: String,
    /// Authorities that may vouch for the server, a PEM file on the host of the calling proxy.
    /// Without it and `ca_pem` those of that host's system.
    #[serde(rename = "CAFile", skip_serializing_if = "is_blank")]
    pub ca_file: String,
    /// Authorities that may vouch for the server, as PEM.
    #[serde(rename = "CAPEM", skip_serializing_if = "is_blank")]
    pub ca_pem: String,
    /// The certificate shown, with its chain, a PEM file on the host of the calling proxy.
    #[serde(skip_serializing_if = "is_blank")]
    pub cert_file: String,
    /// The key of that certificate, a PEM file on the host of the calling proxy.
    #[serde(skip_serializing_if = "is_blank")]
    pub key_file: String,
    /// Names of which the server's certificate must have one; empty means the server name asked
    /// for.
    #[serde(skip_serializing_if = "is_blank")]
    pub subject_alt_names: Vec<String>,
    /// The oldest version.
    #[serde(rename = "TLSMinVersion", skip_serializing_if = "is_blank")]
    pub tls_min_version: TlsVersion,
    /// What is offered to be spoken inside, for services that speak tcp; HTTP says it itself.
    #[serde(rename = "ALPN", skip_serializing_if = "is_blank")]
    pub alpn: Vec<String>,
}

/// Who shows a certificate.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DestinationTlsMode {
    /// Nobody: no TLS is spoken.
    Disable,
    /// The server and the proxy.
    Mutual,
    /// The server.
    #[default]
    Simple,
}

impl DestinationTls {
    /// Whether only TLS 1.3 is spoken.
    pub fn needs_tls13(&self) -> bool {
        self.tls_min_version == TlsVersion::V1_3
    }

    pub(super) fn check(&self, field: &str, protocol: Option<Protocol>, findings: &mut Findings) {
        let bare = Self { mode: DestinationTlsMode::Disable, ..Self::default() };
        if self.mode == DestinationTlsMode::Disable && *self != bare {
            findings.add(field, "says more than Mode, which is disable; remove the rest");
            return;
        }
        self.check_files(field, findings);
        if !self.sni.is_empty() {
            findings.host(&format!("{field}.SNI"), &self.sni);
        }
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        findings.count(&format!("{field}.SubjectAltNames"), self.subject_alt_names.len(), max);
        for (at, name) in self.subject_alt_names.iter().enumerate() {
            let field = format!("{field}.SubjectAltNames[{at}]");
            findings.bytes(&field, name.len(), limits::PATH_BYTES_MAX);
            if name.parse::<IpAddr>().is_err() && !name.contains("://") {
                findings.host(&field, name);
            }
        }
        if matches!(self.tls_min_version, TlsVersion::V1_0 | TlsVersion::V1_1) {
            let reason = "is older than TLSv1_2, the oldest that is spoken";
            findings.add(format!("{field}.TLSMinVersion"), reason);
        }
        if protocol.is_some_and(Protocol::is_http_like) && !self.alpn.is_empty() {
            let reason = "is for services that speak tcp: HTTP says by itself what it speaks";
            findings.add(format!("{field}.ALPN"), reason);
        }
        findings.count(&format!("{field}.ALPN"), self.alpn.len(), max);
        for (at, word) in self.alpn.iter().enumerate() {
            if !(1..=255).contains(&word.len()) || !word.bytes().all(|byte| byte.is_ascii_graphic())
            {
                let reason = format!("{:?} must be a word of 1 to 255 bytes", shortened(word));
                findings.add(format!("{field}.ALPN[{at}]"), reason);
            }
        }
    }

    fn check_files(&self, field: &str, findings: &mut Findings) {
        for (name, path) in
            [("CAFile", &self.ca_file), ("CertFile", &self.cert_file), ("KeyFile", &self.key_file)]
        {
            let field = format!("{field}.{name}");
            findings.bytes(&field, path.len(), limits::PATH_BYTES_MAX);
            if !path.is_empty() && !path.starts_with('/') {
                let reason = format!("{:?} must be a whole path, from '/'", shortened(path));
                findings.add(&field, reason);
            }
            match (self.mode, name) {
                (DestinationTlsMode::Mutual, "CertFile" | "KeyFile") if path.is_empty() => {
                    findings.add(&field, "is needed with Mode mutual");
                }
                (DestinationTlsMode::Simple, "CertFile" | "KeyFile") if !path.is_empty() => {
                    findings.add(&field, "is shown with Mode mutual alone");
                }
                _ => {}
            }
        }
        let field = format!("{field}.CAPEM");
        findings.bytes(&field, self.ca_pem.len(), limits::OPAQUE_TEXT_BYTES_MAX);
        if self.ca_pem.is_empty() {
            return;
        }
        if !self.ca_file.is_empty() {
            findings.add(&field, "goes without CAFile; write one of both");
        }
        if self.ca_pem.contains("PRIVATE KEY") {
            findings.add(&field, "has a private key, which must not be here; write certificates");
        } else if !self.ca_pem.contains("-----BEGIN CERTIFICATE-----") {
            findings.add(&field, "has no certificate as PEM");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::ConfigEntry;

    fn told(protocol: &str, tls: &Value) -> Vec<String> {
        let entry = json!({ "Kind": "service-defaults", "Name": "billing", "Protocol": protocol,
            "Destination": { "Addresses": ["a.test"], "Port": 443, "TLS": tls } });
        let entry: ConfigEntry = serde_json::from_value(entry).expect("an entry");
        let faults = entry.normalise().err().unwrap_or_default();
        let prefix = "Destination.TLS";
        faults.iter().map(|fault| fault.to_string().replace(prefix, "")).collect()
    }

    #[test]
    fn what_is_wrong_is_told_by_field() {
        let pem = "-----BEGIN CERTIFICATE-----\n";
        for (protocol, tls, wanted) in [
            ("http", json!({ "Mode": "disable", "SNI": "a" }), "says more than Mode"),
            ("http", json!({ "CAFile": "ca.pem" }), ".CAFile: \"ca.pem\" must be a whole path"),
            ("http", json!({ "CAPEM": "x" }), ".CAPEM: has no certificate as PEM"),
            ("http", json!({ "CAPEM": pem, "CAFile": "/a" }), ".CAPEM: goes without CAFile"),
            (
                "http",
                json!({ "CAPEM": format!("{pem}-----BEGIN EC PRIVATE KEY-----") }),
                ".CAPEM: has a private key",
            ),
            ("http", json!({ "Mode": "mutual", "CertFile": "/a" }), ".KeyFile: is needed"),
            ("http", json!({ "KeyFile": "/a" }), ".KeyFile: is shown with Mode mutual alone"),
            ("http", json!({ "SNI": "a b" }), ".SNI: \"a b\" is not a host name"),
            ("http", json!({ "SubjectAltNames": ["a", "*"] }), ".SubjectAltNames[1]: \"*\""),
            ("http", json!({ "TLSMinVersion": "TLSv1_1" }), ".TLSMinVersion: is older than"),
            ("http", json!({ "ALPN": ["h2"] }), ".ALPN: is for services that speak tcp"),
            ("tcp", json!({ "ALPN": [""] }), ".ALPN[0]: \"\" must be a word"),
        ] {
            let found = told(protocol, &tls);
            assert!(found.iter().any(|fault| fault.contains(wanted)), "{tls}: {found:?}");
        }
        let names = json!(["a.test", "10.0.0.1", "::1", "spiffe://a.test/b"]);
        for (protocol, tls) in [
            ("http", json!({})),
            ("http", json!({ "Mode": "disable" })),
            ("tcp", json!({ "ALPN": ["postgresql"], "TLSMinVersion": "TLSv1_3" })),
            ("grpc", json!({ "CAPEM": pem, "SubjectAltNames": names, "SNI": "b.test" })),
            ("http", json!({ "Mode": "mutual", "CertFile": "/a", "KeyFile": "/b" })),
        ] {
            assert_eq!(told(protocol, &tls), [""; 0], "{tls}");
        }
    }
}
