//! How the entries around an API gateway name each other.

use serde::{Deserialize, Serialize};

use super::EntryKind;
use super::blank::is_blank;
use super::findings::{Findings, shortened};

/// Another entry, or a part of one.
///
/// **Shape**: the entry named need not be there yet, as in Consul.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ResourceReference {
    /// Its kind; empty means the usual one.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The part, such as a listener; empty for the whole.
    #[serde(skip_serializing_if = "is_blank")]
    pub section_name: String,
}

impl ResourceReference {
    /// Checks the kind, filling in the first of those allowed, and the name.
    pub(super) fn normalise(
        &mut self,
        field: &str,
        allowed: &[EntryKind],
        findings: &mut Findings,
    ) {
        if self.kind.is_empty()
            && let Some(usual) = allowed.first()
        {
            self.kind = usual.as_str().to_owned();
        }
        if !allowed.iter().any(|kind| kind.as_str() == self.kind) {
            let known: Vec<&str> = allowed.iter().map(|kind| kind.as_str()).collect();
            let kind = shortened(&self.kind);
            findings
                .add(format!("{field}.Kind"), format!("{kind:?} must be {}", known.join(" or ")));
        }
        findings.name(&format!("{field}.Name"), &self.name);
    }
}
