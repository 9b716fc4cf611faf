//! Conditions on one header or one query parameter.

use serde::{Deserialize, Serialize};

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
}
