//! Which instances a page about one service shows; the pages are `catalog` and `health`.

use weft_core::catalog::ServiceInstance;
use weft_core::index::Index;
use weft_core::name::ServiceName;
use weft_core::state::State;
use weft_core::watch::Topic;

use crate::acl::Rights;

/// What a service's name stands for on a page.
#[derive(Debug, Clone, Copy)]
pub(super) enum Instances {
    /// `/connect/:name`: the sidecars and native instances that speak for it.
    Connect,
    /// `/service/:name`: its own instances.
    Service,
}

impl Instances {
    /// Returns what a page waits on.
    pub(super) fn topic(self, name: &ServiceName) -> Topic {
        match self {
            Self::Connect => Topic::connect(name),
            Self::Service => Topic::service(name),
        }
    }

    /// Returns the instances that a caller sees, with the index of the last change to any.
    pub(super) fn read(
        self,
        state: &State,
        name: &ServiceName,
        rights: &Rights,
    ) -> (Index, Vec<ServiceInstance>) {
        let (index, mut instances) = match self {
            Self::Connect => state.connect_instances(name),
            Self::Service => state.service_instances(name),
        };
        instances.retain(|instance| rights.see_instance(instance));
        (index, instances)
    }
}
