//! Auth methods: who may come in with a credential that somebody else vouches for.
//!
//! Checking the credential is the server's affair; what it comes to is `login`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::AuthMethodName;
use crate::index::Index;

/// A way to log in.
///
/// **Source**: Consul: api-docs/acl/auth-methods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthMethod {
    /// What it is found by.
    pub name: AuthMethodName,
    /// What people see instead of the name; may be empty.
    #[serde(default)]
    pub display_name: String,
    /// A remark for people.
    #[serde(default)]
    pub description: String,
    /// How long tokens live that are made by it; `None` means until they are deleted.
    #[serde(default)]
    pub token_lifetime: Option<Duration>,
    /// Where tokens hold that are made by it.
    #[serde(default)]
    pub token_locality: TokenLocality,
    /// How credentials are checked.
    pub config: AuthConfig,
    /// When it was made.
    #[serde(default)]
    pub create_index: Index,
    /// When it last changed.
    #[serde(default)]
    pub modify_index: Index,
}

impl AuthMethod {
    /// Returns the word of the public API for its kind.
    pub fn kind(&self) -> &'static str {
        match self.config {
            AuthConfig::Jwt(_) => "jwt",
            AuthConfig::Kubernetes(_) => "kubernetes",
        }
    }
}

/// Where a token holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenLocality {
    /// In every datacenter.
    Global,
    /// In the datacenter that it was made in.
    #[default]
    Local,
}

/// How credentials are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthConfig {
    /// They are JSON web tokens, signed by a key that is known.
    Jwt(JwtConfig),
    /// They are tokens of Kubernetes service accounts; its API server is asked.
    Kubernetes(KubernetesConfig),
}

/// Which JSON web tokens are accepted, and what is read from them.
///
/// **Source**: Consul: docs/security/acl/auth-methods/jwt#config-parameters. RFC 7519.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtConfig {
    /// Where the keys are that tokens must be signed with.
    pub keys: JwtKeys,
    /// The algorithms that are accepted; at least one.
    pub algorithms: Vec<JwtAlgorithm>,
    /// What `iss` must be; empty accepts any.
    #[serde(default)]
    pub issuer: String,
    /// Of these one must be in `aud`; empty accepts tokens without audience only.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// From a claim, by name or JSON pointer, to the name under which rules know its text.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
    /// The same for claims that are lists of texts.
    #[serde(default)]
    pub list_claims: BTreeMap<String, String>,
    /// How long a token without `exp` is good after `nbf` or `iat`.
    pub expiration_leeway: Duration,
    /// How long before its `exp` a token without `nbf` and `iat` is good.
    pub not_before_leeway: Duration,
    /// How far clocks may be apart.
    pub clock_skew: Duration,
}

/// Where keys are found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JwtKeys {
    /// In the discovery document of an OpenID Connect issuer.
    Discovery {
        /// The issuer's `https` URL, without `/.well-known/openid-configuration`.
        url: String,
        /// The authorities that vouch for it, in PEM; empty for those of the system.
        #[serde(default)]
        ca_pem: String,
    },
    /// In a JSON web key set (RFC 7517).
    KeySet {
        /// Its URL.
        url: String,
        /// The authorities that vouch for it, in PEM; empty for those of the system.
        #[serde(default)]
        ca_pem: String,
    },
    /// Here, as PEM of public keys.
    Pem(Vec<String>),
}

/// A signature algorithm of RFC 7518. Those with a shared secret are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    /// ECDSA over P-256 with SHA-256.
    ES256,
    /// ECDSA over P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
    /// RSA-PSS with SHA-256.
    PS256,
    /// RSA-PSS with SHA-384.
    PS384,
    /// RSA-PSS with SHA-512.
    PS512,
    /// RSA PKCS#1 v1.5 with SHA-256.
    RS256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    RS384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    RS512,
}

impl JwtAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 9] = [
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
    ];

    /// Returns the name of RFC 7518 and RFC 8037.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
        }
    }
}

/// How a Kubernetes API server is asked about a service account's token.
///
/// **Source**: Consul: docs/security/acl/auth-methods/kubernetes; Kubernetes: TokenReview v1.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesConfig {
    /// The API server's `https` URL.
    pub host: String,
    /// The authorities that vouch for it, in PEM.
    pub ca_pem: String,
    /// A service account's token with the right to review tokens. Not shown.
    pub reviewer_jwt: String,
}

impl fmt::Debug for KubernetesConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesConfig").field("host", &self.host).finish_non_exhaustive()
    }
}
