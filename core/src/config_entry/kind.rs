//! The kinds of config entries, and what an entry is found by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of config entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// Where requests from outside come in.
    ApiGateway,
    /// What other clusters may see.
    ExportedServices,
    /// A certificate in files on a gateway's host.
    FileSystemCertificate,
    /// Which requests of an API gateway go where.
    HttpRoute,
    /// Services that are reached from outside.
    IngressGateway,
    /// A certificate that the servers keep.
    InlineCertificate,
    /// Who issues the tokens that requests carry.
    JwtProvider,
    /// Settings of the whole mesh.
    Mesh,
    /// Defaults of all proxies.
    ProxyDefaults,
    /// How a new version of a service takes over.
    Rollout,
    /// Defaults of one service.
    ServiceDefaults,
    /// Who may call one service.
    ServiceIntentions,
    /// What the instances of one service are, and where else to look for it.
    ServiceResolver,
    /// Where requests to one service go by their content.
    ServiceRouter,
    /// Where requests to one service go by weight.
    ServiceSplitter,
    /// To which service connections of an API gateway go.
    TcpRoute,
    /// Services outside the mesh, reached through a gateway.
    TerminatingGateway,
}

impl EntryKind {
    /// Every kind, in the order of their words.
    pub const ALL: [Self; 17] = [
        Self::ApiGateway,
        Self::ExportedServices,
        Self::FileSystemCertificate,
        Self::HttpRoute,
        Self::IngressGateway,
        Self::InlineCertificate,
        Self::JwtProvider,
        Self::Mesh,
        Self::ProxyDefaults,
        Self::Rollout,
        Self::ServiceDefaults,
        Self::ServiceIntentions,
        Self::ServiceResolver,
        Self::ServiceRouter,
        Self::ServiceSplitter,
        Self::TcpRoute,
        Self::TerminatingGateway,
    ];

    /// The kinds of which discovery chains are made.
    pub const OF_CHAINS: [Self; 6] = [
        Self::ProxyDefaults,
        Self::Rollout,
        Self::ServiceDefaults,
        Self::ServiceResolver,
        Self::ServiceRouter,
        Self::ServiceSplitter,
    ];

    /// Returns the word of the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiGateway => "api-gateway",
            Self::ExportedServices => "exported-services",
            Self::FileSystemCertificate => "file-system-certificate",
            Self::HttpRoute => "http-route",
            Self::IngressGateway => "ingress-gateway",
            Self::InlineCertificate => "inline-certificate",
            Self::JwtProvider => "jwt-provider",
            Self::Mesh => "mesh",
            Self::ProxyDefaults => "proxy-defaults",
            Self::Rollout => "rollout",
            Self::ServiceDefaults => "service-defaults",
            Self::ServiceIntentions => "service-intentions",
            Self::ServiceResolver => "service-resolver",
            Self::ServiceRouter => "service-router",
            Self::ServiceSplitter => "service-splitter",
            Self::TcpRoute => "tcp-route",
            Self::TerminatingGateway => "terminating-gateway",
        }
    }

    /// Says why a kind that Consul has is not taken; `None` for words that are no such kind.
    pub fn refused(word: &str) -> Option<&'static str> {
        REFUSED.iter().find(|(kind, _)| *kind == word).map(|(_, reason)| *reason)
    }
}

/// Kinds of Consul that are not taken, and why.
pub(super) const REFUSED: [(&str, &str); 4] = [
    (
        "control-plane-request-limit",
        "nothing limits requests to the servers yet, and an entry that says so would promise a \
         protection that is not there",
    ),
    ("inference-gateway", "there is no such gateway here"),
    (
        "rate-limit",
        "nothing limits requests to the servers yet, and an entry that says so would promise a \
         protection that is not there",
    ),
    (
        "sameness-group",
        "there are no partitions, and clusters do not peer yet, so nothing could be the same",
    ),
];

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// States that a word is not the kind of a config entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of config entry; the kinds are {kinds}", kinds = kinds())]
pub struct UnknownKind(pub String);

fn kinds() -> String {
    EntryKind::ALL.map(EntryKind::as_str).join(", ")
}

impl FromStr for EntryKind {
    type Err = UnknownKind;
    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| UnknownKind(word.to_owned()))
    }
}

/// What a config entry is found by; the name in exactly the spelling in which it was written.
///
/// Differs: Consul finds entries in any spelling of their names. Here an entry speaks of the
/// service that is registered, and certified, in the same spelling: what is allowed to `web` is
/// not allowed to `Web`, and neither's entry takes the place of the other's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryKey {
    /// The kind.
    pub kind: EntryKind,
    /// The name: a service's, `*`, or `global` for proxy-defaults.
    pub name: Box<str>,
}

impl EntryKey {
    /// Makes a key.
    pub fn new(kind: EntryKind, name: &str) -> Self {
        Self { kind, name: name.into() }
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}
