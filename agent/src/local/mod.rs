//! The services and checks of this host: the truth that the catalog is kept to.
//!
//! Never the catalog of others (`views`).

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use weft_core::catalog::{HealthCheck, Service};
use weft_core::name::{CheckId, InstanceId};

/// What is registered on this host at one moment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LocalServices {
    /// Applications and sidecars.
    pub services: BTreeMap<InstanceId, Service>,
    /// Checks of them and of the node itself, with their present state.
    pub checks: BTreeMap<CheckId, HealthCheck>,
}

/// The registrations of this host; clones share them.
#[derive(Debug, Clone)]
pub struct Local {
    current: Arc<watch::Sender<Arc<LocalServices>>>,
}

impl Local {
    /// Returns what is registered now.
    pub fn current(&self) -> Arc<LocalServices> {
        self.current.borrow().clone()
    }

    /// Returns a receiver that always holds the newest registrations.
    pub fn subscribe(&self) -> watch::Receiver<Arc<LocalServices>> {
        self.current.subscribe()
    }
}
