//! Which proxies belong on this host: one for each registered sidecar.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::info;
use weft_core::catalog::{Locality, Service, ServiceKind};
use weft_core::name::{InstanceId, ServiceName};
use weft_core::proxycfg::Site;
use weft_runtime::task::TaskTree;

use super::driver;
use super::flows::FlowReports;
use super::proxy::Proxy;
use super::taps::Taps;
use crate::jwks::KeySets;
use crate::leaf::Leaves;
use crate::local::{Local, LocalServices};
use crate::servers::Membership;
use crate::views::Views;

/// The setting in a proxy's registration (`Proxy.Config`) that is false for one with a process of
/// its own where a host proxy serves the others.
const HOST_PROXY: &str = "host_proxy";

/// Where configuration comes from.
#[derive(Clone)]
pub struct Sources {
    /// What servers say.
    pub views: Views,
    /// Public keys of providers of tokens.
    pub keys: KeySets,
    /// Certificates.
    pub leaves: Leaves,
}

/// The proxies of this host; clones share them.
#[derive(Clone)]
pub struct Proxies {
    shared: Arc<Shared>,
}

struct Shared {
    local: Local,
    sources: Sources,
    site: Site,
    tasks: TaskTree,
    taps: Taps,
    flows: FlowReports,
    table: Mutex<BTreeMap<InstanceId, Entry>>,
}

struct Entry {
    proxy: Arc<Proxy>,
    sidecar: watch::Sender<Service>,
    tasks: TaskTree,
}

impl Proxies {
    /// Follows the registrations of this host.
    pub fn start(
        local: &Local,
        sources: Sources,
        (membership, (bind_address, advertise_address), locality): (
            &Membership,
            (IpAddr, IpAddr),
            Option<Locality>,
        ),
        tasks: &TaskTree,
    ) -> Self {
        let site = Site {
            bind_address,
            advertise_address,
            datacenter: membership.datacenter.clone(),
            trust_domain: membership.trust_domain.clone(),
            locality,
        };
        let (local, tasks) = (local.clone(), tasks.child("proxycfg"));
        let (taps, table) = (Taps::default(), Mutex::default());
        let flows = FlowReports::new(taps.announcer());
        let shared = Shared { local, sources, site, tasks, taps, flows, table };
        let proxies = Self { shared: Arc::new(shared) };
        let follow = follow(proxies.shared.clone(), proxies.shared.local.subscribe());
        proxies.shared.tasks.spawn("registry", follow);
        proxies
    }

    /// Returns the proxy with a registration's id.
    pub fn by_id(&self, id: &str) -> Option<Arc<Proxy>> {
        self.shared.adopt();
        self.shared.table.lock().get(id).map(|entry| entry.proxy.clone())
    }

    /// Returns the proxy that stands beside an instance; of several, the first by id.
    pub fn sidecar_of(&self, instance: &str) -> Option<Arc<Proxy>> {
        self.shared.adopt();
        let stands_beside = |entry: &&Entry| {
            let sidecar = entry.sidecar.borrow();
            let beside = sidecar.proxy.destination_service_id.as_ref();
            beside.is_some_and(|id| id.as_str() == instance)
        };
        let table = self.shared.table.lock();
        table.values().find(stands_beside).map(|entry| entry.proxy.clone())
    }

    /// Returns the service that a proxy speaks for, as it is registered; `None` for one that is
    /// registered no more.
    pub(crate) fn service_of(&self, id: &InstanceId) -> Option<ServiceName> {
        let table = self.shared.table.lock();
        let sidecar = table.get(id)?.sidecar.borrow();
        sidecar.proxy.destination_service_name.clone()
    }

    /// Returns those who watch what the proxies do.
    pub(crate) fn taps(&self) -> &Taps {
        &self.shared.taps
    }

    /// Returns what the proxies have counted, for those who follow it.
    pub(crate) fn flows(&self) -> &FlowReports {
        &self.shared.flows
    }

    /// Has the keys of a provider of tokens fetched again soon.
    pub fn want_keys(&self, provider: &ServiceName) {
        self.shared.sources.keys.want(provider);
    }

    /// Returns the proxies that the host proxy is, if there is one: all but those whose registration
    /// says that they have a process of their own.
    pub(crate) fn hosted(&self) -> Vec<InstanceId> {
        self.shared.adopt();
        let table = self.shared.table.lock();
        let is_hosted = |entry: &&Entry| {
            let sidecar = entry.sidecar.borrow();
            sidecar.proxy.config.get(HOST_PROXY) != Some(&serde_json::Value::Bool(false))
        };
        table.values().filter(is_hosted).map(|entry| entry.proxy.id.clone()).collect()
    }

    /// Returns what tells that registrations have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<LocalServices>> {
        self.shared.local.subscribe()
    }

    /// Returns every proxy, by id.
    pub fn all(&self) -> Vec<Arc<Proxy>> {
        self.shared.adopt();
        self.shared.table.lock().values().map(|entry| entry.proxy.clone()).collect()
    }
}

impl Shared {
    /// Starts, tells and ends assemblers so that each sidecar of this moment has one. Look-ups
    /// call it too, so that a proxy that starts right after its registration is known.
    fn adopt(&self) {
        let mut table = self.table.lock();
        // Read under the lock: of two calls the later one sees the newer registrations.
        let local = self.local.current();
        let is_sidecar = |service: &&Service| service.kind == ServiceKind::ConnectProxy;
        table.retain(|id, entry| {
            let stays = local.services.get(id).as_ref().is_some_and(is_sidecar);
            if !stays {
                info!(proxy = %id, "a sidecar is no longer registered");
                entry.tasks.cancel();
            }
            stays
        });
        for sidecar in local.services.values().filter(is_sidecar) {
            match table.get(&sidecar.id) {
                Some(entry) => {
                    entry.sidecar.send_if_modified(|known| {
                        let is_new = known != sidecar;
                        known.clone_from(sidecar);
                        is_new
                    });
                }
                None => {
                    table.insert(sidecar.id.clone(), self.entry(sidecar));
                }
            }
        }
    }

    fn entry(&self, sidecar: &Service) -> Entry {
        let tasks = self.tasks.child(sidecar.id.as_str());
        let proxy = Arc::new(Proxy::new(sidecar.id.clone(), tasks.token()));
        let (sender, receiver) = watch::channel(sidecar.clone());
        let world = (self.sources.clone(), self.site.clone(), self.local.clone());
        tasks.spawn("driver", driver::run(proxy.clone(), receiver, world));
        Entry { proxy, sidecar: sender, tasks }
    }
}

async fn follow(shared: Arc<Shared>, mut local: watch::Receiver<Arc<LocalServices>>) {
    loop {
        local.mark_unchanged();
        shared.adopt();
        tokio::select! {
            () = shared.tasks.cancelled() => return,
            changed = local.changed() => if changed.is_err() { return },
        }
    }
}
