//! Where HashiCorp Vault is found and how servers log in there; the secret is sealed elsewhere.

use serde::{Deserialize, Serialize};

/// A root mount of Vault's PKI engine, as each server reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultAccess {
    /// The URL without a path, such as `https://vault.example:8200`.
    pub address: String,
    /// The mount of the PKI engine that has the root, such as `pki`.
    pub root_path: String,
    /// The namespace of the mount; empty for none.
    #[serde(default)]
    pub namespace: String,
    /// A file with the authorities of Vault's own certificate, on every server; empty for those
    /// of the system.
    #[serde(default)]
    pub ca_file: String,
    /// How a server logs in.
    pub auth: VaultAuth,
}

/// How a server logs in at Vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VaultAuth {
    /// With a role id and a secret id, which is the sealed secret.
    AppRole {
        /// The mount of the method.
        mount: String,
        /// The role id.
        role_id: String,
    },
    /// With a JWT: the sealed secret, or the content of a file on each server.
    Jwt {
        /// The mount of the method.
        mount: String,
        /// The role.
        role: String,
        /// The file; empty when the JWT is the sealed secret.
        path: String,
    },
    /// With the token of the server's pod.
    Kubernetes {
        /// The mount of the method.
        mount: String,
        /// The role.
        role: String,
        /// The file with the token.
        path: String,
    },
    /// With a token, which is the sealed secret and is renewed for as long as Vault allows.
    Token,
}

impl VaultAuth {
    /// Returns the method's name as clients of Consul know it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AppRole { .. } => "approle",
            Self::Jwt { .. } => "jwt",
            Self::Kubernetes { .. } => "kubernetes",
            Self::Token => "token",
        }
    }

    /// Whether a sealed secret belongs to it.
    pub fn needs_secret(&self) -> bool {
        match self {
            Self::AppRole { .. } | Self::Token => true,
            Self::Jwt { path, .. } => path.is_empty(),
            Self::Kubernetes { .. } => false,
        }
    }
}
