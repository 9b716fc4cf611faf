//! `service-intentions`: who may call one service.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use super::{IntentionJwt, IntentionPermission, InvalidEntry};
use crate::index::Index;
use crate::limits;
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

impl AsRef<str> for SourceName {
    fn as_ref(&self) -> &str {
        self.as_str()
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
    /// What is done with its calls; absent when its permissions say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<IntentionAction>,
    /// What is done with its calls by their content: the first that matches decides, and the
    /// default if none does. Empty when `action` says.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub permissions: Vec<IntentionPermission>,
    /// Whether what would be refused is let through, and only counted and logged.
    ///
    /// Differs: Consul has no such field.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub dry_run: bool,
    /// A remark for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// From 9 (exact names) to 5 (both wildcards); filled in, never taken from the writer.
    #[serde(default)]
    pub precedence: u8,
    /// Always `consul`, as clients expect.
    #[serde(rename = "Type", default)]
    pub kind: String,
    /// The id under which older clients know it; empty for none.
    #[serde(rename = "LegacyID", default, skip_serializing_if = "String::is_empty")]
    pub legacy_id: String,
    /// The metadata that older clients gave it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub legacy_meta: BTreeMap<String, String>,
    /// When an older client made it, RFC 3339; empty when none did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub legacy_create_time: String,
    /// When an older client last changed it, RFC 3339; empty when none did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub legacy_update_time: String,
}

impl IntentionSource {
    /// Makes a source that no older client knows.
    pub fn new(name: SourceName, action: IntentionAction, description: String) -> Self {
        Self {
            name,
            action: Some(action),
            permissions: Vec::new(),
            dry_run: false,
            description,
            precedence: 0,
            kind: String::new(),
            legacy_id: String::new(),
            legacy_meta: BTreeMap::new(),
            legacy_create_time: String::new(),
            legacy_update_time: String::new(),
        }
    }

    /// Either an action or permissions are given.
    fn check_judgement(&mut self, at: usize, destination: &SourceName, findings: &mut Findings) {
        let field = format!("Sources[{at}]");
        match (self.action, self.permissions.is_empty()) {
            (Some(_), true) | (None, false) => {}
            (Some(_), false) => {
                findings
                    .add(format!("{field}.Permissions"), "go without Action; write one of both");
            }
            (None, true) => {
                findings.add(format!("{field}.Action"), "is missing; write it or Permissions");
            }
        }
        if *destination == SourceName::Any && !self.permissions.is_empty() {
            let reason = "need a service by name: what its requests mean is not known of '*'";
            findings.add(format!("{field}.Permissions"), reason);
        }
        for (number, permission) in self.permissions.iter_mut().enumerate() {
            permission.normalise(&format!("{field}.Permissions[{number}]"), findings);
        }
    }
}

/// Who may call one service.
///
/// **Source**: Consul: docs/connect/config-entries/service-intentions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceIntentions {
    /// The service called, or `*`.
    pub name: SourceName,
    /// The callers, by falling precedence once normalised.
    #[serde(default)]
    pub sources: Vec<IntentionSource>,
    /// A token that each request must carry to be let through, whoever sends it.
    #[serde(rename = "JWT", default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<IntentionJwt>,
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

/// Returns how early an intention is looked at: from 9 for two exact names to 5 for two
/// wildcards.
///
/// **Source**: Consul: docs/connect/intentions#precedence-and-match-order; the numbers between
/// belong to namespaces.
pub fn precedence(source: &SourceName, destination: &SourceName) -> u8 {
    match (destination, source) {
        (SourceName::Service(_), SourceName::Service(_)) => 9,
        (SourceName::Service(_), SourceName::Any) => 8,
        (SourceName::Any, SourceName::Service(_)) => 6,
        (SourceName::Any, SourceName::Any) => 5,
    }
}

impl ServiceIntentions {
    /// The one type of source, as clients expect it.
    pub const SOURCE_TYPE: &str = "consul";

    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        if self.sources.is_empty() {
            findings.add("Sources", "must name at least one caller; delete the entry instead");
        }
        findings.count("Sources", self.sources.len(), limits::INTENTION_SOURCES_MAX);
        self.jwt = self.jwt.take().filter(|jwt| *jwt != IntentionJwt::default());
        match &self.jwt {
            Some(_) if self.name == SourceName::Any => {
                let reason = "needs a service by name: what speaks no HTTP carries no token";
                findings.add("JWT", reason);
            }
            Some(jwt) => jwt.check("JWT", &mut findings),
            None => {}
        }
        let permissions = || self.sources.iter().flat_map(|source| &source.permissions);
        let (count, max) = (permissions().count(), limits::INTENTION_PERMISSIONS_MAX);
        findings.count("Sources[].Permissions", count, max);
        let count: usize = permissions().map(IntentionPermission::regexes).sum();
        let max = limits::INTENTION_REGEXES_MAX;
        if count > max {
            let reason = format!("has {count} regular expressions, more than the {max} allowed");
            findings.add("Sources[].Permissions", reason);
            return Err(findings.result(()).err().unwrap_or_default());
        }
        let mut first: BTreeMap<SourceName, usize> = BTreeMap::new();
        for (at, source) in self.sources.iter_mut().enumerate() {
            if let Some(earlier) = first.insert(source.name.clone(), at) {
                let reason = format!("{} is already given in Sources[{earlier}]", source.name);
                findings.add(format!("Sources[{at}].Name"), reason);
            }
            source.check_judgement(at, &self.name, &mut findings);
            if !source.kind.is_empty() && source.kind != Self::SOURCE_TYPE {
                let reason = format!("must be {:?} or left out", Self::SOURCE_TYPE);
                findings.add(format!("Sources[{at}].Type"), reason);
            }
            let (bytes, max) = (source.description.len(), limits::DESCRIPTION_BYTES_MAX);
            if bytes > max {
                let reason = format!("has {bytes} bytes, more than the {max} allowed");
                findings.add(format!("Sources[{at}].Description"), reason);
            }
            for (field, text) in [
                ("LegacyID", &source.legacy_id),
                ("LegacyCreateTime", &source.legacy_create_time),
                ("LegacyUpdateTime", &source.legacy_update_time),
            ] {
                let max = limits::LEGACY_TEXT_BYTES_MAX;
                findings.bytes(&format!("Sources[{at}].{field}"), text.len(), max);
            }
            findings.meta_at(&format!("Sources[{at}].LegacyMeta"), &source.legacy_meta);
            source.kind = Self::SOURCE_TYPE.to_owned();
            source.precedence = precedence(&source.name, &self.name);
        }
        self.sources
            .sort_by(|a, b| b.precedence.cmp(&a.precedence).then_with(|| a.name.cmp(&b.name)));
        findings.meta(&self.meta);
        findings.result(self)
    }
}
