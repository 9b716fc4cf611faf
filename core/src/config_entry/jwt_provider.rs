//! `jwt-provider`: who issues the tokens that requests carry, and how they are verified.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::InvalidEntry;
use super::blank::is_blank;
use super::findings::{Findings, shortened};
use crate::index::Index;
use crate::limits;
use crate::name::ServiceName;
use crate::time::{Span, nanoseconds};

/// Who issues the tokens that requests carry.
///
/// **Source**: Consul: docs/connect/config-entries/jwt-provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JwtProvider {
    /// The provider.
    pub name: ServiceName,
    /// Where its keys come from.
    #[serde(rename = "JSONWebKeySet", default, skip_serializing_if = "is_blank")]
    pub json_web_key_set: JwtKeySet,
    /// What tokens must say in `iss`.
    #[serde(default)]
    pub issuer: String,
    /// What tokens must say in `aud`, one of them; none means anything.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub audiences: Vec<String>,
    /// Where in a request the token is; none means `Authorization: Bearer` and the query parameter
    /// `access_token`.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub locations: Vec<JwtLocation>,
    /// How what the token says is passed on.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub forwarding: Option<JwtForwarding>,
    /// Claims that the service gets as headers of their own.
    ///
    /// Differs: Consul has no such field; Envoy's is `claim_to_headers`.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub claim_to_headers: Vec<JwtClaimHeader>,
    /// By how much clocks may differ; 0 means 30.
    ///
    /// **Units**: seconds.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub clock_skew_seconds: u32,
    /// How many verified tokens are remembered.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub cache_config: Option<JwtCache>,
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

/// Where the keys come from: one of both.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwtKeySet {
    /// From here.
    #[serde(skip_serializing_if = "is_blank")]
    pub local: Option<JwtLocalKeys>,
    /// From a URL.
    #[serde(skip_serializing_if = "is_blank")]
    pub remote: Option<JwtRemoteKeys>,
}

/// Keys that are given: one of both.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwtLocalKeys {
    /// The set itself, base64.
    #[serde(rename = "JWKS", skip_serializing_if = "is_blank")]
    pub jwks: String,
    /// A file on each proxy's host.
    #[serde(skip_serializing_if = "is_blank")]
    pub filename: String,
}

/// Keys from a URL.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwtRemoteKeys {
    /// The URL.
    #[serde(rename = "URI")]
    pub uri: String,
    /// How long one attempt may take; 0 means the default.
    ///
    /// **Units**: milliseconds.
    #[serde(skip_serializing_if = "is_blank")]
    pub request_timeout_ms: u32,
    /// How long the keys are kept; zero means 5 min.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "nanoseconds")]
    pub cache_duration: Span,
    /// Whether requests are taken before the keys are there.
    #[serde(skip_serializing_if = "is_blank")]
    pub fetch_asynchronously: bool,
    /// How often it is tried.
    #[serde(skip_serializing_if = "is_blank")]
    pub retry_policy: Option<JwksRetries>,
    /// How the server of the URL is found and verified.
    #[serde(rename = "JWKSCluster", skip_serializing_if = "is_blank")]
    pub jwks_cluster: Option<JwksCluster>,
}

/// How often keys are asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwksRetries {
    /// Further attempts.
    #[serde(skip_serializing_if = "is_blank")]
    pub num_retries: u32,
    /// The pauses between them.
    #[serde(skip_serializing_if = "is_blank")]
    pub retry_policy_back_off: Option<JwksPauses>,
}

/// The pauses between attempts.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwksPauses {
    /// The first.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "nanoseconds")]
    pub base_interval: Span,
    /// The longest.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "nanoseconds")]
    pub max_interval: Span,
}

/// How the server of the keys is found and verified.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwksCluster {
    /// How its addresses are found.
    #[serde(skip_serializing_if = "is_blank")]
    pub discovery_type: JwksDiscovery,
    /// Whom to trust.
    #[serde(rename = "TLSCertificates", skip_serializing_if = "is_blank")]
    pub tls_certificates: Option<JwksTrust>,
    /// How long a connection may take; zero means 5 s.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "nanoseconds")]
    pub connect_timeout: Span,
}

/// How addresses are found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JwksDiscovery {
    /// By the endpoints' discovery service.
    Eds,
    /// By DNS, one address at a time.
    LogicalDns,
    /// Where the connection was going.
    OriginalDst,
    /// They are given.
    Static,
    /// By DNS, all addresses.
    StrictDns,
    /// By DNS, all addresses.
    #[default]
    #[serde(rename = "")]
    Unset,
}

/// Whom to trust: one of both.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwksTrust {
    /// By the name of a certificate that the proxy has.
    #[serde(skip_serializing_if = "is_blank")]
    pub ca_certificate_provider_instance: Option<JwksProviderInstance>,
    /// By a certificate.
    #[serde(rename = "TrustedCA", skip_serializing_if = "is_blank")]
    pub trusted_ca: Option<JwksTrustedCa>,
}

/// A certificate that the proxy has.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwksProviderInstance {
    /// From where; empty means the default.
    #[serde(skip_serializing_if = "is_blank")]
    pub instance_name: String,
    /// Which.
    #[serde(skip_serializing_if = "is_blank")]
    pub certificate_name: String,
}

/// A certificate: one of the four.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwksTrustedCa {
    /// In a file on each proxy's host.
    #[serde(skip_serializing_if = "is_blank")]
    pub filename: String,
    /// In a variable of each proxy's environment.
    #[serde(skip_serializing_if = "is_blank")]
    pub environment_variable: String,
    /// PEM.
    #[serde(skip_serializing_if = "is_blank")]
    pub inline_string: String,
    /// PEM, base64.
    #[serde(skip_serializing_if = "is_blank")]
    pub inline_bytes: String,
}

/// Where in a request the token is: one of the three.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwtLocation {
    /// In a header.
    #[serde(skip_serializing_if = "is_blank")]
    pub header: Option<JwtHeader>,
    /// In a query parameter.
    #[serde(skip_serializing_if = "is_blank")]
    pub query_param: Option<JwtNamed>,
    /// In a cookie.
    #[serde(skip_serializing_if = "is_blank")]
    pub cookie: Option<JwtNamed>,
}

/// A header that has the token.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwtHeader {
    /// The header.
    pub name: String,
    /// What stands before the token.
    #[serde(skip_serializing_if = "is_blank")]
    pub value_prefix: String,
    /// Whether the service sees it.
    #[serde(skip_serializing_if = "is_blank")]
    pub forward: bool,
}

/// A query parameter or a cookie that has the token.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwtNamed {
    /// Its name.
    pub name: String,
}

/// How what the token says is passed on.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwtForwarding {
    /// In which header.
    pub header_name: String,
    /// Whether its base64 is padded.
    #[serde(skip_serializing_if = "is_blank")]
    pub pad_forward_payload_header: bool,
}

/// A claim that the service gets as a header.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwtClaimHeader {
    /// The claim; names within it follow after dots.
    pub claim_name: String,
    /// The header. What callers write there themselves is taken away.
    pub header_name: String,
}

/// How many verified tokens are remembered.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwtCache {
    /// The number.
    pub size: u32,
}

impl JwtProvider {
    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        let keys = &self.json_web_key_set;
        match (&keys.local, &keys.remote) {
            (Some(local), None) => local.check(&mut findings),
            (None, Some(remote)) => remote.check(&mut findings),
            (Some(_), Some(_)) | (None, None) => {
                findings.add("JSONWebKeySet", "write exactly one of Local and Remote");
            }
        }
        findings.bytes("Issuer", self.issuer.len(), limits::OPAQUE_TEXT_BYTES_MAX);
        findings.count("Audiences", self.audiences.len(), limits::CONDITIONS_PER_ROUTE_MAX);
        findings.count("Locations", self.locations.len(), limits::CONDITIONS_PER_ROUTE_MAX);
        for (at, location) in self.locations.iter().enumerate() {
            location.check(&format!("Locations[{at}]"), &mut findings);
        }
        if let Some(forwarding) = &self.forwarding {
            findings.token("Forwarding.HeaderName", &forwarding.header_name);
        }
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        findings.count("ClaimToHeaders", self.claim_to_headers.len(), max);
        for (at, header) in self.claim_to_headers.iter().enumerate() {
            let field = format!("ClaimToHeaders[{at}]");
            findings.token(&format!("{field}.HeaderName"), &header.header_name);
            if header.claim_name.is_empty() {
                findings.add(format!("{field}.ClaimName"), "must not be empty");
            }
        }
        if let Some(cache) = &self.cache_config
            && cache.size > limits::JWT_CACHE_SIZE_MAX
        {
            let reason = format!("must be at most {}", limits::JWT_CACHE_SIZE_MAX);
            findings.add("CacheConfig.Size", reason);
        }
        if self.clock_skew_seconds > CLOCK_SKEW_SECONDS_MAX {
            let reason = format!("must be at most {CLOCK_SKEW_SECONDS_MAX}");
            findings.add("ClockSkewSeconds", reason);
        }
        if self.clock_skew_seconds == 0 {
            self.clock_skew_seconds = CLOCK_SKEW_SECONDS_DEFAULT;
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}

impl JwtLocalKeys {
    fn check(&self, findings: &mut Findings) {
        let field = "JSONWebKeySet.Local";
        if self.jwks.is_empty() == self.filename.is_empty() {
            findings.add(field, "write exactly one of JWKS and Filename");
        }
        let max = limits::OPAQUE_TEXT_BYTES_MAX;
        findings.bytes(&format!("{field}.JWKS"), self.jwks.len(), max);
        findings.base64(&format!("{field}.JWKS"), &self.jwks);
    }
}

impl JwtRemoteKeys {
    fn check(&self, findings: &mut Findings) {
        let field = "JSONWebKeySet.Remote";
        let uri = self.uri.as_str();
        let host = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
            let uri = shortened(uri);
            findings.add(format!("{field}.URI"), format!("{uri:?} must be an http or https URL"));
        }
        findings.timeout(&format!("{field}.CacheDuration"), self.cache_duration.0);
        let timeout = std::time::Duration::from_millis(self.request_timeout_ms.into());
        findings.timeout(&format!("{field}.RequestTimeoutMs"), timeout);
        if let Some(pauses) =
            self.retry_policy.as_ref().and_then(|it| it.retry_policy_back_off.as_ref())
            && pauses.max_interval != Span::default()
            && pauses.max_interval < pauses.base_interval
        {
            let field = format!("{field}.RetryPolicy.RetryPolicyBackOff.MaxInterval");
            findings.add(field, "is shorter than BaseInterval");
        }
        let Some(cluster) = &self.jwks_cluster else { return };
        findings.timeout(&format!("{field}.JWKSCluster.ConnectTimeout"), cluster.connect_timeout.0);
        if let Some(trust) = &cluster.tls_certificates {
            trust.check(&format!("{field}.JWKSCluster.TLSCertificates"), findings);
        }
    }
}

impl JwksTrust {
    fn check(&self, field: &str, findings: &mut Findings) {
        if self.ca_certificate_provider_instance.is_some() == self.trusted_ca.is_some() {
            let reason = "write exactly one of CaCertificateProviderInstance and TrustedCA";
            findings.add(field, reason);
        }
        let Some(ca) = &self.trusted_ca else { return };
        let given = [&ca.filename, &ca.environment_variable, &ca.inline_string, &ca.inline_bytes];
        if given.into_iter().filter(|text| !text.is_empty()).count() != 1 {
            let reason = "write exactly one of Filename, EnvironmentVariable, InlineString and \
                          InlineBytes";
            findings.add(format!("{field}.TrustedCA"), reason);
        }
        findings.base64(&format!("{field}.TrustedCA.InlineBytes"), &ca.inline_bytes);
    }
}

impl JwtLocation {
    fn check(&self, field: &str, findings: &mut Findings) {
        let given = usize::from(self.header.is_some())
            + usize::from(self.query_param.is_some())
            + usize::from(self.cookie.is_some());
        if given != 1 {
            findings.add(field, "write exactly one of Header, QueryParam and Cookie");
        }
        if let Some(header) = &self.header {
            findings.token(&format!("{field}.Header.Name"), &header.name);
        }
        for (name, named) in [("QueryParam", &self.query_param), ("Cookie", &self.cookie)] {
            if named.as_ref().is_some_and(|named| named.name.is_empty()) {
                findings.add(format!("{field}.{name}.Name"), "must not be empty");
            }
        }
    }
}

/// By how much clocks may differ at most: tokens that are good for long after their end have none.
const CLOCK_SKEW_SECONDS_MAX: u32 = 600;
/// By how much clocks may differ when nothing is said (Consul and Envoy: 30 s).
const CLOCK_SKEW_SECONDS_DEFAULT: u32 = 30;
