//! `mesh`: settings of the whole mesh.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use super::{InvalidEntry, TlsDirection};
use crate::index::Index;

/// Settings of the whole mesh; there is one entry, named `mesh`.
///
/// **Source**: Consul: docs/connect/config-entries/mesh. Its JSON has no name there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mesh {
    /// Always `mesh`.
    #[serde(default = "mesh_name", skip_serializing)]
    pub name: String,
    /// Where redirected connections may go.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub transparent_proxy: MeshTransparentProxy,
    /// Which TLS proxies speak with each other.
    #[serde(rename = "TLS", default, skip_serializing_if = "is_blank")]
    pub tls: Option<MeshTls>,
    /// What proxies do with requests.
    #[serde(rename = "HTTP", default, skip_serializing_if = "is_blank")]
    pub http: Option<MeshHttp>,
    /// How servers of different clusters reach each other.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub peering: Option<MeshPeering>,
    /// Whether a proxy refuses routes that lead to no cluster.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub validate_clusters: bool,
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

/// Where redirected connections may go.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MeshTransparentProxy {
    /// Whether to the mesh alone.
    pub mesh_destinations_only: bool,
}

/// Which TLS proxies speak with each other.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MeshTls {
    /// As the one called.
    #[serde(skip_serializing_if = "is_blank")]
    pub incoming: Option<TlsDirection>,
    /// As the one that calls.
    #[serde(skip_serializing_if = "is_blank")]
    pub outgoing: Option<TlsDirection>,
}

/// What proxies do with requests.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MeshHttp {
    /// Whether the caller's own `x-forwarded-client-cert` is taken out.
    ///
    /// Differs: a proxy of Weft always does.
    #[serde(rename = "SanitizeXForwardedClientCert")]
    pub sanitize_x_forwarded_client_cert: bool,
    /// What a proxy does with requests before it judges them.
    #[serde(skip_serializing_if = "is_blank")]
    pub incoming: MeshHttpIncoming,
}

/// What a proxy does with requests before it judges them; nothing of it can be set yet.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MeshHttpIncoming {}

/// How servers of different clusters reach each other.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MeshPeering {
    /// Whether through mesh gateways.
    pub peer_through_mesh_gateways: bool,
}

fn mesh_name() -> String {
    Mesh::NAME.to_owned()
}

impl Mesh {
    /// The one name that the entry may have.
    pub const NAME: &str = "mesh";

    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        if self.name.is_empty() {
            self.name = mesh_name();
        }
        findings.only_name(&self.name, Self::NAME);
        if let Some(tls) = &self.tls {
            for (name, direction) in [("Incoming", &tls.incoming), ("Outgoing", &tls.outgoing)] {
                if let Some(direction) = direction {
                    direction.check(&format!("TLS.{name}."), &mut findings);
                }
            }
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}
