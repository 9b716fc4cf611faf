//! Conditions on one header or one query parameter.

use serde::{Deserialize, Serialize};

use super::findings::Findings;

/// A condition on one header.
///
/// **Shape**: exactly one of `present`, `exact`, `prefix`, `suffix`, `contains`, `regex`.
/// **Source**: Consul: docs/connect/config-entries/service-router#header.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HeaderMatch {
    /// The header's name, in any case.
    pub name: String,
    /// Whether it must be there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub present: bool,
    /// The whole value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// How the value starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// How the value ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// What the value contains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// A regular expression for the whole value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// Whether the condition is turned round.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub invert: bool,
    /// Whether case is ignored in `exact`, `prefix`, `suffix` and `contains`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_case: bool,
}

/// A condition on one query parameter.
///
/// **Shape**: exactly one of `present`, `exact`, `regex`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct QueryMatch {
    /// The parameter's name.
    pub name: String,
    /// Whether it must be there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub present: bool,
    /// The whole value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// A regular expression for the whole value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// Whether the condition is turned round. Ours.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub invert: bool,
    /// Whether case is ignored in `exact`. Ours.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_case: bool,
}

impl HeaderMatch {
    pub(super) fn normalise(&mut self, field: &str, findings: &mut Findings) {
        findings.token(&format!("{field}.Name"), &self.name);
        let texts = [
            &mut self.exact,
            &mut self.prefix,
            &mut self.suffix,
            &mut self.contains,
            &mut self.regex,
        ];
        let given = usize::from(self.present) + texts.into_iter().map(drop_empty).sum::<usize>();
        if given != 1 {
            let reason = "write exactly one of Present, Exact, Prefix, Suffix, Contains and Regex";
            findings.add(field, reason);
        }
        if let Some(regex) = &self.regex {
            findings.regex(&format!("{field}.Regex"), regex);
        }
        if self.ignore_case && (self.present || self.regex.is_some()) {
            let reason = "goes with Exact, Prefix, Suffix and Contains; in a Regex write (?i)";
            findings.add(format!("{field}.IgnoreCase"), reason);
        }
    }
}

impl QueryMatch {
    pub(super) fn normalise(&mut self, field: &str, findings: &mut Findings) {
        if self.name.is_empty() {
            findings.add(format!("{field}.Name"), "must not be empty");
        }
        let texts = [&mut self.exact, &mut self.regex];
        let given = usize::from(self.present) + texts.into_iter().map(drop_empty).sum::<usize>();
        if given != 1 {
            findings.add(field, "write exactly one of Present, Exact and Regex");
        }
        if let Some(regex) = &self.regex {
            findings.regex(&format!("{field}.Regex"), regex);
        }
        if self.ignore_case && self.exact.is_none() {
            let reason = "goes with Exact; in a Regex write (?i)";
            findings.add(format!("{field}.IgnoreCase"), reason);
        }
    }
}

/// Takes the empty text for a condition left out, as clients mean it; returns 1 for one given.
fn drop_empty(text: &mut Option<String>) -> usize {
    *text = text.take().filter(|text| !text.is_empty());
    usize::from(text.is_some())
}
