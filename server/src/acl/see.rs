//! Which records of the catalog a list shows to whom.
//!
//! **Source**: Consul: docs/security/acl/acl-rules: an instance is seen by who may read its
//! service and its node.

use weft_core::acl::{Permission, Resource};
use weft_core::catalog::{HealthCheck, Service, ServiceInstance};
use weft_core::name::{NodeName, ServiceName};

use super::Rights;

impl Rights {
    /// Whether a node is shown.
    pub(crate) fn see_node(&self, name: &NodeName) -> bool {
        self.see(Permission::read(Resource::Node, name.as_str()))
    }

    /// Whether a service's name is shown.
    pub(crate) fn see_name(&self, name: &ServiceName) -> bool {
        self.see(Permission::read(Resource::Service, name.as_str()))
    }

    /// Whether a service is shown on a node that is.
    ///
    /// A sidecar is shown to who may read both it and the service that it stands for.
    pub(crate) fn see_service(&self, service: &Service) -> bool {
        let stands_for = service.mesh_door_of().filter(|it| **it != service.name);
        self.see_name(&service.name) && stands_for.is_none_or(|name| self.see_name(name))
    }

    /// Whether an instance is shown.
    pub(crate) fn see_instance(&self, instance: &ServiceInstance) -> bool {
        self.see_node(&instance.node.name) && self.see_service(&instance.service)
    }

    /// Whether a check is shown.
    pub(crate) fn see_check(&self, check: &HealthCheck) -> bool {
        let of = check.service_name.as_ref();
        self.see_node(&check.node) && of.is_none_or(|name| self.see_name(name))
    }
}
