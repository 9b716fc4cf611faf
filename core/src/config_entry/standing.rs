//! What becomes of each kind and field: in force, kept without effect, or refused by name.
//!
//! The one place that says so: decoding refuses by it, writes warn by it, and the page of the
//! documentation has it as a table.

use serde_json::Value;

use super::kind::REFUSED;
use super::{ConfigEntry, EntryKind};
use crate::limits;

/// What becomes of the fields of a kind; what is named nowhere is in force.
///
/// Refused is what would narrow who may do what: an entry that is believed to protect and does
/// not is worse than one that is refused. Kept is what only shapes traffic.
#[derive(Debug, Clone, Copy)]
pub struct KindStanding {
    /// Until when the whole kind is kept without effect; `None` where parts of it are in force.
    pub waits_for: Option<&'static str>,
    /// Paths that are kept without effect, with all below them; `[]` stands for each element of
    /// a list and `*` for each key of a map.
    pub kept: &'static [&'static str],
    /// Names of fields that are refused unless they are empty, wherever they stand in the entry.
    pub refused: &'static [&'static str],
}

impl EntryKind {
    /// Returns what becomes of the fields of the kind.
    pub fn standing(self) -> KindStanding {
        let waits = |what, refused| KindStanding { waits_for: Some(what), kept: &[], refused };
        match self {
            Self::ApiGateway => waits("API gateways are built", &["Default", "JWT", "Override"]),
            Self::ExportedServices => waits("clusters peer", &["SamenessGroup"]),
            Self::FileSystemCertificate | Self::InlineCertificate => {
                waits("API gateways are built", &[])
            }
            Self::HttpRoute => waits("API gateways are built", &["JWT"]),
            Self::IngressGateway => waits("ingress gateways are built", &[]),
            Self::JwtProvider => KindStanding {
                waits_for: None,
                kept: &[
                    "JSONWebKeySet.Remote.FetchAsynchronously",
                    "JSONWebKeySet.Remote.JWKSCluster.DiscoveryType",
                ],
                refused: &["CaCertificateProviderInstance"],
            },
            Self::Mesh => KindStanding {
                waits_for: None,
                kept: &["Peering", "ValidateClusters"],
                refused: &[],
            },
            Self::ProxyDefaults => PROXY_DEFAULTS,
            Self::ServiceDefaults => SERVICE_DEFAULTS,
            Self::ServiceIntentions => {
                KindStanding { waits_for: None, kept: &[], refused: &["Peer", "SamenessGroup"] }
            }
            Self::ServiceResolver => KindStanding {
                waits_for: None,
                kept: &[
                    "Failover.*.Datacenters",
                    "Failover.*.Targets[].Datacenter",
                    "Failover.*.Policy",
                ],
                refused: &["Peer", "SamenessGroup"],
            },
            Self::Rollout | Self::ServiceRouter | Self::ServiceSplitter => {
                KindStanding { waits_for: None, kept: &[], refused: &[] }
            }
            Self::TcpRoute => waits("API gateways are built", &[]),
            Self::TerminatingGateway => waits("terminating gateways are built", &[]),
        }
    }
}

const PROXY_DEFAULTS: KindStanding = KindStanding {
    waits_for: None,
    kept: &["TransparentProxy.DialedDirectly", "MeshGateway", "FailoverPolicy"],
    refused: &[],
};

const SERVICE_DEFAULTS: KindStanding = KindStanding {
    waits_for: None,
    kept: &[
        "TransparentProxy.DialedDirectly",
        "MeshGateway",
        "ExternalSNI",
        "UpstreamConfig.Defaults.EnvoyListenerJSON",
        "UpstreamConfig.Defaults.EnvoyClusterJSON",
        "UpstreamConfig.Defaults.MeshGateway",
        "UpstreamConfig.Defaults.BalanceOutboundConnections",
        "UpstreamConfig.Overrides[].EnvoyListenerJSON",
        "UpstreamConfig.Overrides[].EnvoyClusterJSON",
        "UpstreamConfig.Overrides[].MeshGateway",
        "UpstreamConfig.Overrides[].BalanceOutboundConnections",
        "BalanceInboundConnections",
        "MaxRequestHeadersKB",
    ],
    refused: &[],
};

impl ConfigEntry {
    /// Says what of the entry is kept and has no effect yet, one line each.
    ///
    /// **Shape**: empty when all of it is in force; at most [`limits::ENTRY_WARNINGS_MAX`].
    pub fn warnings(&self) -> Vec<String> {
        let standing = self.kind().standing();
        if let Some(what) = standing.waits_for {
            return vec![format!("{} is kept, and has no effect until {what}", self.key())];
        }
        // An entry has text keys alone, so this cannot fail; without it there is no warning.
        let Ok(value) = serde_json::to_value(self) else { return Vec::new() };
        let mut found = Vec::new();
        for path in standing.kept {
            let steps: Vec<&str> = path.split('.').collect();
            walk(&value, &steps, String::new(), &mut found);
        }
        found.truncate(limits::ENTRY_WARNINGS_MAX);
        found.into_iter().map(|path| format!("{path}: is kept, and has no effect yet")).collect()
    }
}

/// Notes each place at the path that says something.
fn walk(value: &Value, steps: &[&str], at: String, found: &mut Vec<String>) {
    let Some((step, rest)) = steps.split_first() else {
        if !is_empty(value) {
            found.push(at);
        }
        return;
    };
    let dotted = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match step.strip_suffix("[]") {
        Some(name) => {
            let items = value.get(name).and_then(Value::as_array).into_iter().flatten();
            for (index, item) in items.enumerate() {
                walk(item, rest, format!("{}[{index}]", dotted(name)), found);
            }
        }
        None if *step == "*" => {
            for (key, value) in value.as_object().into_iter().flatten() {
                walk(value, rest, dotted(key), found);
            }
        }
        None => {
            if let Some(value) = value.get(step) {
                walk(value, rest, dotted(step), found);
            }
        }
    }
}

/// Whether a value says nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.iter().all(is_empty),
        Value::Object(object) => object.values().all(is_empty),
    }
}

/// Returns the table of the documentation, as Markdown.
pub fn standing_table() -> String {
    let list = |fields: &[&str]| {
        let quoted: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
        quoted.join(", ")
    };
    let mut table = "| kind | kept with a warning | refused by name |\n|---|---|---|\n".to_owned();
    for kind in EntryKind::ALL {
        let standing = kind.standing();
        let kept = match standing.waits_for {
            Some(what) => format!("all of it, until {what}"),
            None => list(standing.kept),
        };
        let refused = list(standing.refused);
        table.push_str(&format!("| `{kind}` | {kept} | {refused} |\n"));
    }
    for (kind, reason) in REFUSED {
        table.push_str(&format!("| `{kind}` | | all of it: {reason} |\n"));
    }
    table
}
