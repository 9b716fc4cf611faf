//! `service-intentions`: who may call one service.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::index::Index;
use crate::name::{InvalidName, ServiceName};

/// A service, or any service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SourceName {
    /// Any service: `*`.
    Any,
    /// One service.
    Service(ServiceName),
}

impl SourceName {
    /// Parses `*` or a service name.
    ///
    /// # Errors
    /// [`InvalidName`] when the text is neither.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text == "*" { Ok(Self::Any) } else { ServiceName::parse(text).map(Self::Service) }
    }

    /// Returns the text of the public API.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::Service(name) => name.as_str(),
        }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for SourceName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<SourceName> for String {
    fn from(name: SourceName) -> String {
        name.as_str().to_owned()
    }
}

/// What an intention does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntentionAction {
    /// Lets the call through.
    Allow,
    /// Refuses the call.
    Deny,
}

/// What one source may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IntentionSource {
    /// The caller.
    pub name: SourceName,
    /// What is done with its calls.
    pub action: IntentionAction,
    /// A remark for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// From 9 (exact names) to 5 (both wildcards); filled in, never taken from the writer.
    #[serde(default)]
    pub precedence: u8,
    /// Always `consul`, as clients expect.
    #[serde(rename = "Type", default)]
    pub kind: String,
}

/// Who may call one service.
///
/// **Source**: Consul: docs/connect/config-entries/service-intentions. Permissions by request
/// content are refused by name until they are enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceIntentions {
    /// The service called, or `*`.
    pub name: SourceName,
    /// The callers, by falling precedence once normalised.
    #[serde(default)]
    pub sources: Vec<IntentionSource>,
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
