//! TLS of gateways and of the mesh: versions, suites, and where certificates come from.

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};

/// A version of TLS, from old to new.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// What the proxy thinks best.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// What the proxy thinks best, said aloud.
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// TLS 1.0.
    #[serde(rename = "TLSv1_0")]
    V1_0,
    /// TLS 1.1.
    #[serde(rename = "TLSv1_1")]
    V1_1,
    /// TLS 1.2.
    #[serde(rename = "TLSv1_2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "TLSv1_3")]
    V1_3,
}

impl TlsVersion {
    fn is_said(self) -> bool {
        self >= Self::V1_0
    }
}

/// Which TLS is spoken in one direction inside the mesh.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TlsDirection {
    /// The oldest version.
    #[serde(rename = "TLSMinVersion", skip_serializing_if = "is_blank")]
    pub tls_min_version: TlsVersion,
    /// The newest version.
    #[serde(rename = "TLSMaxVersion", skip_serializing_if = "is_blank")]
    pub tls_max_version: TlsVersion,
    /// The suites of TLS 1.2.
    #[serde(skip_serializing_if = "is_blank")]
    pub cipher_suites: Vec<String>,
}

/// TLS of a gateway's listener.
///
/// **Source**: Consul: docs/connect/config-entries/ingress-gateway#tls.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GatewayTls {
    /// Whether the gateway shows a certificate of the mesh.
    #[serde(skip_serializing_if = "is_blank")]
    pub enabled: bool,
    /// Where else its certificate comes from.
    #[serde(rename = "SDS", skip_serializing_if = "is_blank")]
    pub sds: Option<GatewaySds>,
    /// The oldest version.
    #[serde(rename = "TLSMinVersion", skip_serializing_if = "is_blank")]
    pub tls_min_version: TlsVersion,
    /// The newest version.
    #[serde(rename = "TLSMaxVersion", skip_serializing_if = "is_blank")]
    pub tls_max_version: TlsVersion,
    /// The suites of TLS 1.2.
    #[serde(skip_serializing_if = "is_blank")]
    pub cipher_suites: Vec<String>,
}

/// A certificate from a secret discovery service.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GatewaySds {
    /// The service's cluster.
    #[serde(skip_serializing_if = "is_blank")]
    pub cluster_name: String,
    /// The certificate's name there.
    #[serde(skip_serializing_if = "is_blank")]
    pub cert_resource: String,
}

/// Checks a range of versions with its suites; `field` ends in a dot or is empty, and `names` are
/// those of the oldest and the newest version.
pub(super) fn check_versions(
    field: &str,
    names: [&str; 2],
    (min, max, suites): (TlsVersion, TlsVersion, &[String]),
    findings: &mut Findings,
) {
    if min.is_said() && max.is_said() && min > max {
        let reason = format!("is older than {}", names[0]);
        findings.add(format!("{field}{}", names[1]), reason);
    }
    if !suites.is_empty() && min == TlsVersion::V1_3 {
        let reason = "TLS 1.3 chooses its suites itself; remove them";
        findings.add(format!("{field}CipherSuites"), reason);
    }
    for (at, suite) in suites.iter().enumerate() {
        if !CIPHER_SUITES.contains(&suite.as_str()) {
            let reason = format!(
                "{:?} is not a cipher suite; they are {}",
                shortened(suite),
                CIPHER_SUITES.join(", ")
            );
            findings.add(format!("{field}CipherSuites[{at}]"), reason);
        }
    }
}

impl TlsDirection {
    /// Whether TLS 1.2 is spoken; only where the entry says so.
    ///
    /// Differs: in Consul it is unless the entry says otherwise.
    pub fn speaks_tls12(&self) -> bool {
        let min = self.tls_min_version;
        min.is_said() && min < TlsVersion::V1_3
    }

    /// Whether TLS 1.3 is spoken.
    pub fn speaks_tls13(&self) -> bool {
        let max = self.tls_max_version;
        !max.is_said() || max == TlsVersion::V1_3 || !self.speaks_tls12()
    }

    /// Differs: proxies speak TLS 1.2 and 1.3, and none of the suites that lack forward secrecy or
    /// are CBC; what would be another is refused.
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        let (min, max) = (self.tls_min_version, self.tls_max_version);
        for (name, version) in [("TLSMinVersion", min), ("TLSMaxVersion", max)] {
            if version.is_said() && version < TlsVersion::V1_2 {
                let reason = "proxies speak no TLS older than 1.2; write TLSv1_2 or TLSv1_3";
                findings.add(format!("{field}{name}"), reason);
            }
        }
        if max == TlsVersion::V1_2 && !min.is_said() {
            let reason = "is older than TLSMinVersion, which is TLSv1_3 where it is not said; \
                          write TLSv1_2 there too";
            findings.add(format!("{field}TLSMaxVersion"), reason);
        }
        if !self.cipher_suites.is_empty() && min == TlsVersion::V1_3 {
            let reason = "TLS 1.3 chooses its suites itself; remove them";
            findings.add(format!("{field}CipherSuites"), reason);
        }
        for (at, suite) in self.cipher_suites.iter().enumerate() {
            if !MESH_CIPHER_SUITES.contains(&suite.as_str()) {
                let reason = format!(
                    "{:?} is not a suite that proxies speak; they are {}",
                    shortened(suite),
                    MESH_CIPHER_SUITES.join(", ")
                );
                findings.add(format!("{field}CipherSuites[{at}]"), reason);
            }
        }
        check_versions(field, ["TLSMinVersion", "TLSMaxVersion"], (min, max, &[]), findings);
    }
}

impl GatewayTls {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        let range = (self.tls_min_version, self.tls_max_version, &self.cipher_suites[..]);
        check_versions(&format!("{field}."), ["TLSMinVersion", "TLSMaxVersion"], range, findings);
        if let Some(sds) = &self.sds {
            sds.check(&format!("{field}.SDS"), findings);
        }
    }
}

impl GatewaySds {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        if self.cluster_name.is_empty() && !self.cert_resource.is_empty() {
            findings.add(format!("{field}.ClusterName"), "is needed along with CertResource");
        }
    }
}

/// The suites of TLS 1.2 that proxies speak with each other where the entry allows it: those with
/// ephemeral keys and authenticated encryption.
const MESH_CIPHER_SUITES: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// The suites that a gateway can be told to use with TLS 1.2, the better ones first.
///
/// **Source**: Consul: docs/connect/config-entries/mesh#ciphersuites.
const CIPHER_SUITES: [&str; 14] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
];
