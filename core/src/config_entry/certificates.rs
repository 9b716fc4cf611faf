//! `inline-certificate` and `file-system-certificate`: certificates that gateways show outside.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::InvalidEntry;
use super::findings::Findings;
use crate::index::Index;
use crate::limits;
use crate::name::ServiceName;

/// A certificate with its key, kept by the servers.
///
/// Differs: the key is sealed before it is replicated, and no answer shows it. A write without a
/// key keeps the one that is there.
/// **Source**: Consul: docs/connect/config-entries/inline-certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InlineCertificate {
    /// The certificate's name.
    pub name: ServiceName,
    /// The certificate and those above it, PEM.
    pub certificate: String,
    /// Its key.
    #[serde(default)]
    pub private_key: SecretText,
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

/// A text that is neither printed nor logged.
///
/// **Shape**: in a request the text itself, in the replicated state sealed, in an answer empty.
#[derive(Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// What a sealed text begins with; no PEM does.
    const SEALED: &str = "sealed:";

    /// Takes a text that was sealed, as base64.
    pub fn sealed(base64: &str) -> Self {
        Self(format!("{}{base64}", Self::SEALED))
    }

    /// Returns what was sealed, as base64; `None` when the text is not sealed.
    pub fn as_sealed(&self) -> Option<&str> {
        self.0.strip_prefix(Self::SEALED)
    }

    /// Returns the text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "SecretText(none)" } else { "SecretText(…)" })
    }
}

/// A certificate in files on the gateway's host.
///
/// **Source**: Consul: docs/connect/config-entries/file-system-certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FileSystemCertificate {
    /// The certificate's name.
    pub name: ServiceName,
    /// The file of the certificate and those above it.
    pub certificate: String,
    /// The file of its key.
    pub private_key: String,
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

impl InlineCertificate {
    /// Checks the form alone; that key and certificate belong together is for who can read them.
    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        let max = limits::CERTIFICATE_BYTES_MAX;
        findings.bytes("Certificate", self.certificate.len(), max);
        findings.bytes("PrivateKey", self.private_key.0.len(), max);
        self.certificate = format!("{}\n", self.certificate.trim());
        if !is_pem(&self.certificate, &["CERTIFICATE"]) {
            findings.add("Certificate", "must be PEM that begins with BEGIN CERTIFICATE");
        }
        let key = &self.private_key;
        let labels = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"];
        if !key.is_empty() && key.as_sealed().is_none() && !is_pem(key.0.trim(), &labels) {
            findings.add("PrivateKey", "must be PEM that begins with BEGIN PRIVATE KEY");
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}

impl FileSystemCertificate {
    pub(super) fn normalise(self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        for (field, path) in [("Certificate", &self.certificate), ("PrivateKey", &self.private_key)]
        {
            findings.bytes(field, path.len(), limits::PATH_BYTES_MAX);
            if path.is_empty() {
                findings.add(field, "must name a file on the gateway's host");
            }
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}

/// Whether a text begins and ends as PEM of one of the kinds.
fn is_pem(text: &str, labels: &[&str]) -> bool {
    labels.iter().any(|label| {
        text.starts_with(&format!("-----BEGIN {label}-----"))
            && text.trim_end().ends_with(&format!("-----END {label}-----"))
    })
}
