//! How much is in the catalog.

use std::collections::BTreeMap;

use super::State;
use crate::catalog::ServiceKind;

/// Counts of what is in the catalog.
///
/// **Source**: Consul: api-docs/operator/usage.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Nodes.
    pub nodes: usize,
    /// Names of services.
    pub services: usize,
    /// Instances of any kind.
    pub instances: usize,
    /// Instances that are part of the mesh, by kind.
    pub connect_instances: BTreeMap<&'static str, usize>,
    /// Instances of applications.
    pub billable_instances: usize,
}

impl State {
    /// Counts what is in the catalog. Walks through all of it.
    pub fn usage(&self) -> Usage {
        let (nodes, services) = self.catalog_size();
        let (mut instances, mut proxies, mut native) = (0, 0, 0);
        for service in self.nodes.values().flat_map(|row| row.services.values()) {
            instances += 1;
            match service.kind {
                ServiceKind::ConnectProxy => proxies += 1,
                ServiceKind::Typical if service.connect.native => native += 1,
                ServiceKind::Typical => {}
            }
        }
        Usage {
            nodes,
            services,
            instances,
            connect_instances: [("connect-native", native), ("connect-proxy", proxies)].into(),
            billable_instances: instances - proxies,
        }
    }
}
