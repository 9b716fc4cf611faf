//! What a token or a role grants: policies, roles, identities, templates.

use serde::{Deserialize, Serialize};

use super::{
    NodeIdentity, PolicyId, PolicyName, RoleId, RoleName, Rules, ServiceIdentity, TemplatedPolicy,
};
use crate::name::Datacenter;

/// Grants as a writer names them: policies and roles by id or by name.
///
/// A role grants no roles.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Policies.
    #[serde(default)]
    pub policies: Vec<Link<PolicyId, PolicyName>>,
    /// Roles.
    #[serde(default)]
    pub roles: Vec<Link<RoleId, RoleName>>,
    /// Rights of services.
    #[serde(default)]
    pub service_identities: Vec<ServiceIdentity>,
    /// Rights of agents.
    #[serde(default)]
    pub node_identities: Vec<NodeIdentity>,
    /// Rights from templates.
    #[serde(default)]
    pub templated_policies: Vec<TemplatedPolicy>,
}

/// One of two ways to name a policy or a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link<I, N> {
    /// By its id.
    Id(I),
    /// By its name, which is resolved where the order of writes is final.
    Name(N),
}

/// Grants as they are kept: policies and roles by id.
///
/// **Shape**: each once, sorted. A policy or role that was removed since may still be named; it
/// grants nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Policies.
    #[serde(default)]
    pub policies: Vec<PolicyId>,
    /// Roles.
    #[serde(default)]
    pub roles: Vec<RoleId>,
    /// Rights of services.
    #[serde(default)]
    pub service_identities: Vec<ServiceIdentity>,
    /// Rights of agents.
    #[serde(default)]
    pub node_identities: Vec<NodeIdentity>,
    /// Rights from templates.
    #[serde(default)]
    pub templated_policies: Vec<TemplatedPolicy>,
}

impl Granted {
    /// Returns the rules of identities and templates that hold in a datacenter.
    pub fn own_rules(&self, datacenter: &Datacenter) -> Vec<Rules> {
        let here = |places: &[Datacenter]| super::policy::holds_in(places, datacenter);
        let services = self.service_identities.iter();
        let nodes = self.node_identities.iter();
        let templates = self.templated_policies.iter();
        services
            .filter(|it| here(&it.datacenters))
            .map(ServiceIdentity::rules)
            .chain(nodes.filter(|it| it.datacenter == *datacenter).map(NodeIdentity::rules))
            .chain(templates.filter(|it| here(&it.datacenters)).map(TemplatedPolicy::rules))
            .collect()
    }

    /// Returns how many things are granted.
    pub fn count(&self) -> usize {
        self.policies.len()
            + self.roles.len()
            + self.service_identities.len()
            + self.node_identities.len()
            + self.templated_policies.len()
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Sorts, and removes what is there twice.
    pub(crate) fn tidied(mut self) -> Self {
        fn tidy<T: Ord>(list: &mut Vec<T>) {
            list.sort();
            list.dedup();
        }
        tidy(&mut self.policies);
        tidy(&mut self.roles);
        tidy(&mut self.service_identities);
        tidy(&mut self.node_identities);
        tidy(&mut self.templated_policies);
        self
    }
}
