//! Where the compiler finds config entries, and the list of those it looked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::config_entry::{
    ConfigEntry, EntryKey, EntryKind, HopTransport, LocalityMode, Protocol, ProxyDefaults, Rollout,
    ServiceDefaults, ServiceDestination, ServiceResolver, ServiceRouter, ServiceSplitter,
};
use crate::name::ServiceName;

/// Finds config entries by their key.
pub trait EntryLookup {
    /// Returns the entry, `None` when there is none.
    fn entry(&self, key: &EntryKey) -> Option<&ConfigEntry>;
}

impl EntryLookup for BTreeMap<EntryKey, ConfigEntry> {
    fn entry(&self, key: &EntryKey) -> Option<&ConfigEntry> {
        self.get(key)
    }
}

/// Config entries as the compiler sees them; remembers what was looked for.
pub(super) struct Entries<'a> {
    lookup: &'a dyn EntryLookup,
    reads: RefCell<BTreeSet<EntryKey>>,
}

impl<'a> Entries<'a> {
    pub(super) fn new(lookup: &'a dyn EntryLookup) -> Self {
        Self { lookup, reads: RefCell::default() }
    }

    pub(super) fn into_reads(self) -> BTreeSet<EntryKey> {
        self.reads.into_inner()
    }

    fn find(&self, kind: EntryKind, name: &str) -> Option<&'a ConfigEntry> {
        let key = EntryKey::new(kind, name);
        let entry = self.lookup.entry(&key);
        self.reads.borrow_mut().insert(key);
        entry
    }

    /// Returns what a service speaks: as its own defaults say, else those of all proxies.
    pub(super) fn protocol(&self, service: &ServiceName) -> Protocol {
        let own = self.find(EntryKind::ServiceDefaults, service.as_str());
        let own = own.and_then(ConfigEntry::as_service_defaults).and_then(|entry| entry.protocol);
        own.or_else(|| {
            let all = self.find(EntryKind::ProxyDefaults, ProxyDefaults::NAME)?;
            all.as_proxy_defaults()?.protocol()
        })
        .unwrap_or_default()
    }

    /// Whether a service is outside the mesh: known by a server name of its own, or where it is.
    pub(super) fn is_external(&self, service: &ServiceName) -> bool {
        let own = self.find(EntryKind::ServiceDefaults, service.as_str());
        let own = own.and_then(ConfigEntry::as_service_defaults);
        own.is_some_and(|entry| !entry.external_sni.is_empty() || entry.destination.is_some())
    }

    /// Returns where a service outside the mesh is.
    pub(super) fn outside(&self, service: &ServiceName) -> Option<&'a ServiceDestination> {
        let own = self.find(EntryKind::ServiceDefaults, service.as_str())?;
        own.as_service_defaults()?.destination.as_ref()
    }

    /// Returns over what a service's proxies are reached.
    pub(super) fn transport(&self, service: &ServiceName) -> HopTransport {
        let own = self.find(EntryKind::ServiceDefaults, service.as_str());
        let own = own.and_then(ConfigEntry::as_service_defaults);
        let all = self.find(EntryKind::ProxyDefaults, ProxyDefaults::NAME);
        let all = all.and_then(ConfigEntry::as_proxy_defaults);
        let own = own.map(ServiceDefaults::hop_transport).unwrap_or_default();
        own.or(all.map(ProxyDefaults::hop_transport).unwrap_or_default())
    }

    /// Says whether near instances come first: as the resolver says, else as proxy-defaults does.
    pub(super) fn locality(&self, resolver: Option<&ServiceResolver>) -> LocalityMode {
        let own = resolver.and_then(|entry| entry.prioritize_by_locality.as_ref());
        let all = self.find(EntryKind::ProxyDefaults, ProxyDefaults::NAME);
        let all = all.and_then(ConfigEntry::as_proxy_defaults);
        let all = || all.and_then(|all| all.prioritize_by_locality.as_ref());
        let own = own.filter(|own| own.mode != LocalityMode::Unset);
        own.or_else(all).map_or(LocalityMode::Unset, |found| found.mode)
    }

    pub(super) fn router(&self, service: &ServiceName) -> Option<&'a ServiceRouter> {
        self.find(EntryKind::ServiceRouter, service.as_str())?.as_service_router()
    }

    pub(super) fn rollout(&self, service: &ServiceName) -> Option<&'a Rollout> {
        self.find(EntryKind::Rollout, service.as_str())?.as_rollout()
    }

    pub(super) fn splitter(&self, service: &ServiceName) -> Option<&'a ServiceSplitter> {
        self.find(EntryKind::ServiceSplitter, service.as_str())?.as_service_splitter()
    }

    pub(super) fn resolver(&self, service: &ServiceName) -> Option<&'a ServiceResolver> {
        self.find(EntryKind::ServiceResolver, service.as_str())?.as_service_resolver()
    }
}
