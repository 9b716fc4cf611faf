//! The certificates of the services on this host, kept fresh.
//!
//! One manager per service, for as long as somebody holds its receiver. When to renew is
//! decided by `core::ca::renewal`; what may be signed, by the servers.

mod keypair;
mod manager;
mod metrics;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use weft_core::ca::Leaf;
use weft_core::identity::SpiffeId;
use weft_core::name::ServiceName;
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::metrics::Registry;

use crate::grpc::Calls;
use crate::servers::Membership;
use crate::views::Views;

pub use keypair::{KeyError, KeyRequest, generate};

/// The certificates of local services; clones share them.
#[derive(Clone)]
pub struct Leaves {
    shared: Arc<Shared>,
}

struct Shared {
    calls: Calls,
    views: Views,
    membership: Arc<Membership>,
    metrics: metrics::LeafMetrics,
    tasks: TaskTree,
    managed: Mutex<BTreeMap<ServiceName, watch::Sender<Option<Arc<Leaf>>>>>,
}

impl Leaves {
    /// Gets ready; nothing is signed until somebody asks.
    pub fn start(
        calls: Calls,
        views: Views,
        membership: Arc<Membership>,
        (registry, tasks): (&Registry, &TaskTree),
    ) -> Self {
        let metrics = metrics::LeafMetrics::register(registry);
        let (tasks, managed) = (tasks.child("leaves"), Mutex::default());
        Self { shared: Arc::new(Shared { calls, views, membership, metrics, tasks, managed }) }
    }

    /// Returns a receiver of the service's certificate: `None` until the first one is signed,
    /// and again if one ends before it could be renewed.
    ///
    /// The service must be registered on this host, or the servers refuse to sign.
    pub fn leaf(&self, service: &ServiceName) -> watch::Receiver<Option<Arc<Leaf>>> {
        let mut managed = self.shared.managed.lock();
        if let Some(sender) = managed.get(service) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(None);
        managed.insert(service.clone(), sender.clone());
        drop(managed);
        let manager = manager::run(self.shared.clone(), service.clone(), sender);
        self.shared.tasks.spawn(format!("leaf/{service}"), manager);
        receiver
    }
}

impl Shared {
    fn identity(&self, service: &ServiceName) -> SpiffeId {
        let Membership { trust_domain, datacenter, .. } = &*self.membership;
        SpiffeId::service(trust_domain.clone(), datacenter.clone(), service.clone())
    }

    /// Forgets a manager unless somebody came back; returns whether it is to end.
    fn release(&self, service: &ServiceName, sender: &watch::Sender<Option<Arc<Leaf>>>) -> bool {
        let mut managed = self.managed.lock();
        if sender.receiver_count() > 0 {
            return false;
        }
        managed.remove(service);
        true
    }
}

#[cfg(test)]
mod tests;
