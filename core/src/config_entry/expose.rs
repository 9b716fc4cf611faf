//! Paths that a proxy leaves open without mutual TLS, and through which gateway it goes.

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use super::{InvalidEntry, Protocol};
use crate::canonical_path::CanonicalPath;
use crate::limits;

/// Paths of the local instance that are reached without mutual TLS, for probes.
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults#expose.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Expose {
    /// Whether the paths of the instance's own checks are among them.
    #[serde(skip_serializing_if = "is_blank")]
    pub checks: bool,
    /// The paths.
    #[serde(skip_serializing_if = "is_blank")]
    pub paths: Vec<ExposedPath>,
}

/// One path that is reached without mutual TLS.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExposedPath {
    /// The port on which the proxy listens for it.
    #[serde(skip_serializing_if = "is_blank")]
    pub listener_port: u16,
    /// The path.
    #[serde(skip_serializing_if = "is_blank")]
    pub path: String,
    /// The port of the local instance.
    #[serde(skip_serializing_if = "is_blank")]
    pub local_path_port: u16,
    /// `http` or `http2`; `None` means http.
    #[serde(skip_serializing_if = "is_blank")]
    pub protocol: Option<Protocol>,
    /// Whether it was made of a check.
    #[serde(skip_serializing_if = "is_blank")]
    pub parsed_from_check: bool,
}

impl Expose {
    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Tells what is wrong with it, wherever it was written.
    pub fn faults(&self, field: &str) -> Vec<InvalidEntry> {
        let mut findings = Findings::default();
        self.check(field, &mut findings);
        findings.result(()).err().unwrap_or_default()
    }

    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        findings.count(&format!("{field}.Paths"), self.paths.len(), limits::EXPOSED_PATHS_MAX);
        for (at, exposed) in self.paths.iter().enumerate() {
            let field = format!("{field}.Paths[{at}]");
            findings.path(&format!("{field}.Path"), &exposed.path);
            if exposed.path.starts_with('/')
                && let Err(unclear) = CanonicalPath::parse(exposed.path.as_bytes())
            {
                findings.add(format!("{field}.Path"), unclear.to_string());
            }
            findings.port(&format!("{field}.ListenerPort"), exposed.listener_port);
            findings.port(&format!("{field}.LocalPathPort"), exposed.local_path_port);
            if !matches!(exposed.protocol, None | Some(Protocol::Http | Protocol::Http2)) {
                findings.add(format!("{field}.Protocol"), "must be http or http2");
            }
        }
    }
}

/// Through which mesh gateway a proxy goes to other datacenters.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MeshGateway {
    /// The way.
    #[serde(skip_serializing_if = "is_blank")]
    pub mode: MeshGatewayMode,
}

/// A way to other datacenters.
///
/// **Source**: Consul: docs/connect/gateways/mesh-gateway#modes-of-operation.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeshGatewayMode {
    /// Through a gateway of the proxy's own datacenter.
    Local,
    /// Through none.
    None,
    /// Through a gateway of the other datacenter.
    Remote,
    /// As the next more general entry says.
    #[default]
    #[serde(rename = "")]
    Unset,
}

/// How a proxy comes to the connections of its instance.
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults#mode.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// The instance calls the ports of its upstreams.
    Direct,
    /// The host redirects what the instance calls.
    Transparent,
    /// As the next more general entry says.
    #[default]
    #[serde(rename = "")]
    Unset,
}

/// How redirected connections are treated.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TransparentProxy {
    /// The port to which the host redirects; 0 means 15001.
    #[serde(skip_serializing_if = "is_blank")]
    pub outbound_listener_port: u16,
    /// Whether the instance may call others at their own addresses.
    #[serde(skip_serializing_if = "is_blank")]
    pub dialed_directly: bool,
}

/// Whether a proxy takes connections without mutual TLS, while callers are brought into the mesh.
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults#mutualtlsmode.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MutualTlsMode {
    /// It does.
    Permissive,
    /// It does not.
    Strict,
    /// As the next more general entry says; strict if none does.
    #[default]
    #[serde(rename = "")]
    Unset,
}
