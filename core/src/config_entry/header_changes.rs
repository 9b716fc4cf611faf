//! Headers that are added, set and removed on the way of a message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use crate::limits;

/// Changes to the headers of a request or an answer; removed first, then set, then added.
///
/// **Source**: Consul: docs/connect/config-entries/service-router#requestheaders.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HeaderChanges {
    /// Further values.
    #[serde(skip_serializing_if = "is_blank")]
    pub add: BTreeMap<String, String>,
    /// The only values.
    #[serde(skip_serializing_if = "is_blank")]
    pub set: BTreeMap<String, String>,
    /// Headers that are taken out.
    #[serde(skip_serializing_if = "is_blank")]
    pub remove: Vec<String>,
}

impl HeaderChanges {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        for (name, headers) in [("Add", &self.add), ("Set", &self.set)] {
            let field = format!("{field}.{name}");
            findings.count(&field, headers.len(), max);
            for (header, value) in headers {
                findings.token(&field, header);
                if value.contains(|c: char| c.is_control() && c != '\t') {
                    findings.add(format!("{field}.{header}"), "has a control character");
                }
            }
        }
        findings.count(&format!("{field}.Remove"), self.remove.len(), max);
        for (at, header) in self.remove.iter().enumerate() {
            findings.token(&format!("{field}.Remove[{at}]"), header);
        }
    }
}
