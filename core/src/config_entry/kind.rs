//! The kinds of config entries, and what an entry is found by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of config entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// Defaults of all proxies.
    ProxyDefaults,
    /// Defaults of one service.
    ServiceDefaults,
    /// Who may call one service.
    ServiceIntentions,
    /// What the instances of one service are.
    ServiceResolver,
    /// Where requests to one service go by their content.
    ServiceRouter,
    /// Where requests to one service go by weight.
    ServiceSplitter,
}

impl EntryKind {
    /// Every kind, in the order of their words.
    pub const ALL: [Self; 6] = [
        Self::ProxyDefaults,
        Self::ServiceDefaults,
        Self::ServiceIntentions,
        Self::ServiceResolver,
        Self::ServiceRouter,
        Self::ServiceSplitter,
    ];

    /// Returns the word of the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProxyDefaults => "proxy-defaults",
            Self::ServiceDefaults => "service-defaults",
            Self::ServiceIntentions => "service-intentions",
            Self::ServiceResolver => "service-resolver",
            Self::ServiceRouter => "service-router",
            Self::ServiceSplitter => "service-splitter",
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// States that a word is not the kind of a config entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a kind of config entry; the kinds are proxy-defaults, service-defaults, \
     service-intentions, service-resolver, service-router and service-splitter"
)]
pub struct UnknownKind(pub String);

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
