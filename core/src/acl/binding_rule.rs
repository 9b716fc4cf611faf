//! Binding rules: what a login by an auth method grants.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AuthMethodName, BindingRuleId};
use crate::index::Index;

/// A grant to those who log in and whom a selector takes.
///
/// **Source**: Consul: api-docs/acl/binding-rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingRule {
    /// What it is found by.
    pub id: BindingRuleId,
    /// A remark for people.
    #[serde(default)]
    pub description: String,
    /// The method whose logins it is for. Cannot be changed.
    pub auth_method: AuthMethodName,
    /// What is granted.
    pub bind_type: BindType,
    /// Its name; `${…}` stands for what is known of who logs in.
    pub bind_name: String,
    /// What is filled into a templated policy as its name, likewise; empty for the others.
    #[serde(default)]
    pub bind_variable: String,
    /// A filter expression on what is known; empty takes everybody.
    #[serde(default)]
    pub selector: String,
    /// When it was made.
    #[serde(default)]
    pub create_index: Index,
    /// When it last changed.
    #[serde(default)]
    pub modify_index: Index,
}

/// What a binding rule grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindType {
    /// A node identity in this datacenter.
    Node,
    /// The policy of that name, if there is one.
    Policy,
    /// The role of that name, if there is one.
    Role,
    /// A service identity.
    Service,
    /// A templated policy.
    TemplatedPolicy,
}

/// States that a text is no type of binding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not one of node, policy, role, service, templated-policy")]
pub struct UnknownBindType(String);

impl BindType {
    const ALL: [Self; 5] =
        [Self::Node, Self::Policy, Self::Role, Self::Service, Self::TemplatedPolicy];

    /// Returns the word of the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Policy => "policy",
            Self::Role => "role",
            Self::Service => "service",
            Self::TemplatedPolicy => "templated-policy",
        }
    }
}

impl fmt::Display for BindType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BindType {
    type Err = UnknownBindType;
    fn from_str(text: &str) -> Result<Self, UnknownBindType> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownBindType(text.to_owned()))
    }
}
