//! From grants as they are named to grants as they are kept.

use super::{AclRefusal, AclState};
use crate::acl::{Granted, Grants, Link};
use crate::limits;
use crate::state::Refusal;

impl AclState {
    /// Finds every policy and role that is named.
    pub(super) fn resolve(&self, grants: Grants) -> Result<Granted, Refusal> {
        let Grants { policies, roles, service_identities, node_identities, templated_policies } =
            grants;
        let policies = policies.into_iter().map(|link| {
            let (found, text) = match link {
                Link::Id(id) => (self.policy(&id), String::from(id)),
                Link::Name(name) => (self.policy_named(&name), String::from(name)),
            };
            let missing = || AclRefusal::unknown("Policies", "policy", text);
            found.map(|policy| policy.id.clone()).ok_or_else(missing)
        });
        let policies = policies.collect::<Result<_, _>>()?;
        let roles = roles.into_iter().map(|link| {
            let (found, text) = match link {
                Link::Id(id) => (self.role(&id), String::from(id)),
                Link::Name(name) => (self.role_named(&name), String::from(name)),
            };
            let missing = || AclRefusal::unknown("Roles", "role", text);
            found.map(|role| role.id.clone()).ok_or_else(missing)
        });
        let roles = roles.collect::<Result<_, _>>()?;
        let granted =
            Granted { policies, roles, service_identities, node_identities, templated_policies }
                .tidied();
        if granted.count() > limits::ACL_GRANTS_MAX {
            return Err(Refusal::Limit {
                field: "Policies, Roles and identities".to_owned(),
                length: granted.count(),
                limit: limits::ACL_GRANTS_MAX,
            });
        }
        Ok(granted)
    }
}
