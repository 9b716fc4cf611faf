//! Another path, by a regular expression.

use serde::{Deserialize, Serialize};

use super::findings::Findings;
use crate::limits;

/// Replaces each match in a path.
///
/// Ours; **Source**: Istio: VirtualService, HTTPRewrite.uriRegexRewrite.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PathRewrite {
    /// A regular expression for parts of the path.
    pub regex: String,
    /// What stands in place of a match; `\1` to `\9` are its groups, `\0` is all of it, `\\` the sign.
    pub substitution: String,
}

impl PathRewrite {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        if self.regex.is_empty() {
            findings.add(format!("{field}.Regex"), "must not be empty");
        }
        findings.regex(&format!("{field}.Regex"), &self.regex);
        let field = format!("{field}.Substitution");
        findings.bytes(&field, self.substitution.len(), limits::REGEX_BYTES_MAX);
        if self.substitution.contains(|c: char| !matches!(c, '!'..='~') || matches!(c, '?' | '#')) {
            findings.add(&field, "must be ASCII without blanks, '?' and '#'");
        }
        let mut letters = self.substitution.chars();
        while let Some(letter) = letters.next() {
            if letter == '\\' && !letters.next().is_some_and(|it| it == '\\' || it.is_ascii_digit())
            {
                findings.add(&field, "has a \\ without a digit behind it; write \\\\ for the sign");
                break;
            }
        }
    }
}
