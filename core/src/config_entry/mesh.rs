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
    /// Whether entries may say `permissive` as their `MutualTLSMode`. Those that do keep it when
    /// this is taken away.
    #[serde(
        rename = "AllowEnablingPermissiveMutualTLS",
        default,
        skip_serializing_if = "is_blank"
    )]
    pub allow_enabling_permissive_mutual_tls: bool,
    /// Which TLS proxies speak with each other.
    #[serde(rename = "TLS", default, skip_serializing_if = "is_blank")]
    pub tls: Option<MeshTls>,
    /// What proxies do with requests.
    #[serde(rename = "HTTP", default, skip_serializing_if = "is_blank")]
    pub http: Option<MeshHttp>,
    /// How servers of different clusters reach each other.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub peering: Option<MeshPeering>,
    /// Which intention decides where several are for one call.
    ///
    /// Differs: Consul has no such field, and always takes the first.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub intention_precedence: IntentionPrecedence,
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

/// Which intention decides where several are for one call.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IntentionPrecedence {
    /// One that denies, wherever it stands; else the first.
    DenyOverrides,
    /// The first by precedence.
    ///
    /// **Source**: Consul: docs/connect/intentions#precedence-and-match-order.
    #[default]
    #[serde(alias = "")]
    FirstMatch,
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
    /// Whether services get no `x-forwarded-client-cert`, unless `ForwardedHeaders` of another entry
    /// says it.
    #[serde(rename = "SanitizeXForwardedClientCert")]
    pub sanitize_x_forwarded_client_cert: bool,
    /// What a proxy does with requests before it judges them.
    #[serde(skip_serializing_if = "is_blank")]
    pub incoming: MeshHttpIncoming,
}

/// What a proxy does with requests before it judges them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MeshHttpIncoming {
    /// How paths and headers are brought into one form.
    #[serde(skip_serializing_if = "is_blank")]
    pub request_normalization: RequestNormalization,
}

/// How paths and headers are brought into one form.
///
/// Differs: a proxy of Weft always does so where requests are judged by them; what would do
/// less is refused.
/// **Source**: Consul: docs/connect/config-entries/mesh#requestnormalization.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RequestNormalization {
    /// Whether paths are left as they came; never taken.
    #[serde(skip_serializing_if = "is_blank")]
    pub insecure_disable_path_normalization: bool,
    /// Whether slashes that follow each other are one; they always are.
    #[serde(skip_serializing_if = "is_blank")]
    pub merge_slashes: bool,
    /// What is done with escaped slashes; such requests are always refused.
    #[serde(skip_serializing_if = "is_blank")]
    pub path_with_escaped_slashes_action: EscapedSlashesAction,
    /// What is done with headers whose names have an underscore.
    #[serde(skip_serializing_if = "is_blank")]
    pub headers_with_underscores_action: UnderscoresAction,
}

/// What is done with escaped slashes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EscapedSlashesAction {
    /// What the proxy holds for best, which is to refuse the request.
    ImplementationSpecificDefault,
    /// They stay.
    KeepUnchanged,
    /// The request is refused.
    RejectRequest,
    /// They become slashes.
    UnescapeAndForward,
    /// The caller is sent to the path with slashes.
    UnescapeAndRedirect,
    /// Nothing is said.
    #[default]
    #[serde(rename = "")]
    Unset,
}

/// What is done with headers whose names have an underscore.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnderscoresAction {
    /// They pass, unless they read as one that is judged.
    Allow,
    /// They are taken out.
    DropHeader,
    /// The request is refused.
    RejectRequest,
    /// Nothing is said.
    #[default]
    #[serde(rename = "")]
    Unset,
}

impl RequestNormalization {
    fn check(&self, findings: &mut Findings) {
        let field = "HTTP.Incoming.RequestNormalization";
        if self.insecure_disable_path_normalization {
            let reason = "is not taken: a path is judged in one form, or not at all";
            findings.add(format!("{field}.InsecureDisablePathNormalization"), reason);
        }
        match self.path_with_escaped_slashes_action {
            EscapedSlashesAction::ImplementationSpecificDefault
            | EscapedSlashesAction::RejectRequest
            | EscapedSlashesAction::Unset => {}
            EscapedSlashesAction::KeepUnchanged
            | EscapedSlashesAction::UnescapeAndForward
            | EscapedSlashesAction::UnescapeAndRedirect => {
                let reason = "must be \"REJECT_REQUEST\", which is what is done";
                findings.add(format!("{field}.PathWithEscapedSlashesAction"), reason);
            }
        }
        match self.headers_with_underscores_action {
            UnderscoresAction::Allow | UnderscoresAction::Unset => {}
            UnderscoresAction::DropHeader | UnderscoresAction::RejectRequest => {
                let reason = "is not supported yet; remove it";
                findings.add(format!("{field}.HeadersWithUnderscoresAction"), reason);
            }
        }
    }
}

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
        if let Some(http) = &self.http {
            http.incoming.request_normalization.check(&mut findings);
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}
