//! By what requests are told apart that always take the same leg of a splitter.

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use crate::time::Span;

/// Same value, same leg.
///
/// Ours. **Shape**: one of `cookie` and `header`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Sticky {
    /// A cookie, which the caller's proxy makes for who has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<StickyCookie>,
    /// The name of a header; without it a request goes by weight alone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub header: String,
}

/// A cookie that the caller's proxy makes.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StickyCookie {
    /// Its name.
    pub name: String,
    /// For which paths; empty means all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// How long it is kept; zero for as long as the browser is open.
    #[serde(rename = "TTL", skip_serializing_if = "is_blank")]
    pub ttl: Span,
}

impl Sticky {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        if self.cookie.is_some() != self.header.is_empty() {
            findings.add(field, "write exactly one of Cookie and Header");
        }
        if !self.header.is_empty() {
            findings.token(&format!("{field}.Header"), &self.header);
        }
        let Some(cookie) = &self.cookie else { return };
        findings.token(&format!("{field}.Cookie.Name"), &cookie.name);
        if !cookie.path.is_empty() {
            findings.cookie_path(&format!("{field}.Cookie.Path"), &cookie.path);
        }
        if cookie.ttl.0.subsec_nanos() > 0 {
            findings.add(format!("{field}.Cookie.TTL"), "must be of whole seconds");
        }
    }
}
