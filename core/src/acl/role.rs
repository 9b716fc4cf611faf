//! Roles: grants under a name, for several tokens.

use serde::{Deserialize, Serialize};

use super::{Granted, RoleId, RoleName};
use crate::index::Index;

/// Grants under a name.
///
/// **Source**: Consul: docs/security/acl/acl-roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// What it is found by.
    pub id: RoleId,
    /// Its name, unique.
    pub name: RoleName,
    /// A remark for people.
    #[serde(default)]
    pub description: String,
    /// What it grants; no roles.
    #[serde(default)]
    pub granted: Granted,
    /// When it was made.
    #[serde(default)]
    pub create_index: Index,
    /// When it last changed.
    #[serde(default)]
    pub modify_index: Index,
}
