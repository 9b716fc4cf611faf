//! The certificates of the services on this host, kept fresh.
//!
//! One manager per service, for as long as somebody holds its receiver. When to renew is
//! decided by `core::ca::renewal`; what may be signed, by the servers. Certificates are kept
//! over restarts of the agent.

mod kept;
mod keypair;
mod manager;
mod metrics;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use weft_core::ca::{KeyKind, Leaf};
use weft_core::name::ServiceName;
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::metrics::Registry;

use crate::grpc::Calls;
use crate::keep::Keep;
use crate::servers::Membership;
use crate::views::Views;

pub use kept::KeptLeaves;
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
    key_kind: KeyKind,
    metrics: metrics::LeafMetrics,
    tasks: TaskTree,
    managed: Mutex<BTreeMap<ServiceName, watch::Sender<Option<Arc<Leaf>>>>>,
    /// What an earlier run left and nobody has asked for yet.
    kept: Mutex<BTreeMap<ServiceName, Leaf>>,
    keep: Option<Arc<Keep>>,
}

impl Leaves {
    /// Gets ready; nothing is signed until somebody asks.
    pub fn start(
        calls: Calls,
        views: Views,
        (membership, kept, key_kind): (Arc<Membership>, KeptLeaves, KeyKind),
        (registry, tasks): (&Registry, &TaskTree),
    ) -> Self {
        let metrics = metrics::LeafMetrics::register(registry);
        let (tasks, managed) = (tasks.child("leaves"), Mutex::default());
        let KeptLeaves { keep, leaves } = kept;
        let kept = Mutex::new(leaves);
        let shared =
            Shared { calls, views, membership, key_kind, metrics, tasks, managed, kept, keep };
        Self { shared: Arc::new(shared) }
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
    /// Forgets a manager unless somebody came back; returns whether it is to end.
    fn release(&self, service: &ServiceName, sender: &watch::Sender<Option<Arc<Leaf>>>) -> bool {
        let mut managed = self.managed.lock();
        if sender.receiver_count() > 0 {
            return false;
        }
        managed.remove(service);
        true
    }

    /// Takes what an earlier run left for a service.
    fn take_kept(&self, service: &ServiceName) -> Option<Leaf> {
        self.kept.lock().remove(service)
    }

    /// Keeps a certificate over restarts. Blocks its thread.
    fn keep(&self, service: &ServiceName, leaf: &Leaf) {
        if let Some(keep) = &self.keep {
            kept::write(keep, service, leaf);
        }
    }

    /// Keeps a service's certificate no longer, unless somebody came back. Blocks its thread.
    fn forget(&self, service: &ServiceName) {
        let Some(keep) = &self.keep else { return };
        // Held while the file goes, so that a new manager's is not taken away.
        let managed = self.managed.lock();
        if !managed.contains_key(service) {
            kept::remove(keep, service);
        }
    }
}

#[cfg(test)]
mod tests;
