//! Policies: rules under a name.

use serde::{Deserialize, Serialize};

use super::{Access, PolicyId, PolicyName, Rules};
use crate::index::Index;
use crate::name::Datacenter;

/// Rules under a name, in the words of who wrote them and read once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What it is found by.
    pub id: PolicyId,
    /// Its name, unique.
    pub name: PolicyName,
    /// A remark for people.
    #[serde(default)]
    pub description: String,
    /// The rules as they were written, HCL or JSON.
    #[serde(default)]
    pub text: String,
    /// What they say; read from `text` before the policy is written.
    #[serde(default)]
    pub rules: Rules,
    /// Where it holds; empty means everywhere.
    #[serde(default)]
    pub datacenters: Vec<Datacenter>,
    /// When it was made.
    #[serde(default)]
    pub create_index: Index,
    /// When it last changed.
    #[serde(default)]
    pub modify_index: Index,
}

impl Policy {
    /// Returns the policy that grants everything.
    ///
    /// **Source**: Consul: docs/security/acl/acl-policies#global-management.
    pub fn global_management() -> Self {
        Self::builtin(
            PolicyId::global_management(),
            PolicyName::GLOBAL_MANAGEMENT,
            "Builtin Policy that grants unlimited access",
            Access::Write,
        )
    }

    /// Returns the policy that lets everything be read.
    ///
    /// **Source**: Consul: docs/security/acl/acl-policies#global-read-only.
    pub fn global_read_only() -> Self {
        Self::builtin(
            PolicyId::global_read_only(),
            PolicyName::GLOBAL_READ_ONLY,
            "Builtin Policy that grants unlimited read-only access to all components",
            Access::Read,
        )
    }

    fn builtin(id: PolicyId, name: &'static str, description: &str, access: Access) -> Self {
        let rules = Rules::everything(access);
        Self {
            id,
            name: PolicyName::builtin(name),
            description: description.to_owned(),
            text: rules.to_string(),
            rules,
            datacenters: Vec::new(),
            create_index: Index::default(),
            modify_index: Index::default(),
        }
    }

    /// Whether two are the same but for when they were written.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let (create_index, modify_index) = (self.create_index, self.modify_index);
        *self == Self { create_index, modify_index, ..other.clone() }
    }

    /// Whether it holds in a datacenter.
    pub fn holds_in(&self, datacenter: &Datacenter) -> bool {
        holds_in(&self.datacenters, datacenter)
    }
}

/// Whether a list of datacenters, empty for all, has this one.
pub(super) fn holds_in(datacenters: &[Datacenter], datacenter: &Datacenter) -> bool {
    datacenters.is_empty() || datacenters.contains(datacenter)
}
