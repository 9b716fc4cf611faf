//! Which address stands for which service: one for each service that has a mesh door.
//!
//! Derived from the doors' records, which carry it: a snapshot needs no table. An address goes with
//! the last door; as the search for a free one begins at a place that the name says, a service that
//! comes back has it again unless another one took it, of 268 million.

use imbl::OrdMap;

use super::{ServiceKey, State};
use crate::catalog::{
    CapturedUpstream, CapturedUpstreams, Service, TaggedAddress, VIRTUAL_TAG, VirtualIp,
};
use crate::config_entry::{EntryKey, EntryKind, IntentionAction, Mesh};
use crate::intention::Intention;
use crate::limits;
use crate::name::ServiceName;

/// Both ways.
#[derive(Debug, Default, Clone)]
pub(super) struct VirtualIps {
    of: OrdMap<ServiceKey, VirtualIp>,
    taken: OrdMap<VirtualIp, ServiceKey>,
}

impl VirtualIps {
    /// Writes into the record of a mesh door which address stands for its service. Whatever a host
    /// says of it, servers decide: an address leads to one service.
    pub(super) fn tell(&self, service: &mut Service) {
        let Some(ip) = service.mesh_door_of().map(|destination| self.find(destination)) else {
            return;
        };
        let tagged = TaggedAddress { address: ip.to_string(), port: 0 };
        service.tagged_addresses.insert(VIRTUAL_TAG.to_owned(), tagged);
    }

    fn find(&self, service: &ServiceName) -> VirtualIp {
        let key = ServiceKey::from(service);
        if let Some(known) = self.of.get(&key) {
            return *known;
        }
        let mut ip = VirtualIp::preferred(service.as_str());
        // Ends, as there are far more addresses than a catalog has services.
        while self.taken.contains_key(&ip) {
            ip = ip.next();
        }
        ip
    }

    /// Notes the address that a mesh door carries.
    pub(super) fn add(&mut self, destination: &ServiceName, door: &Service) {
        let told = door.tagged_addresses.get(VIRTUAL_TAG);
        let told = told.and_then(|tagged| VirtualIp::of(tagged.address.parse().ok()?));
        let Some(ip) = told else { return };
        let key = ServiceKey::from(destination);
        // The first holder counts, should records of before disagree.
        if !self.taken.contains_key(&ip) && !self.of.contains_key(&key) {
            self.taken.insert(ip, key.clone());
            self.of.insert(key, ip);
        }
    }

    /// Frees the address of a service whose last mesh door has gone.
    pub(super) fn remove(&mut self, service: &ServiceKey) {
        if let Some(ip) = self.of.remove(service) {
            self.taken.remove(&ip);
        }
    }
}

impl State {
    /// Returns what a service calls when its calls are captured: services that have a virtual address
    /// and whose intentions let it in, or might by the request.
    ///
    /// **Source**: Consul: docs/k8s/connect/transparent-proxy: the upstreams are inferred from
    /// intentions.
    pub fn captured_upstreams(
        &self,
        source: &ServiceName,
        default: IntentionAction,
    ) -> CapturedUpstreams {
        let mut captured = CapturedUpstreams::default();
        for (key, virtual_ip) in &self.virtual_ips.of {
            let Some(service) = self.door_name(key) else { continue };
            let set = self.intentions(&service, default);
            let verdict = set.evaluate(source);
            let might = |by: &Intention| !by.permissions.is_empty() || by.jwt.is_some();
            if !verdict.allowed && !verdict.by.is_some_and(might) {
                continue;
            }
            if captured.upstreams.len() < limits::UPSTREAMS_PER_PROXY_MAX {
                captured.upstreams.push(CapturedUpstream { service, virtual_ip: *virtual_ip });
            } else {
                captured.left_out += 1;
            }
        }
        let mesh = self.entries.get(&EntryKey::new(EntryKind::Mesh, Mesh::NAME));
        captured.destinations_only = mesh
            .and_then(|entry| entry.as_mesh())
            .is_some_and(|mesh| mesh.transparent_proxy.mesh_destinations_only);
        captured
    }

    /// Returns the name of a service as its first mesh door spells it.
    fn door_name(&self, key: &ServiceKey) -> Option<ServiceName> {
        let (node, id) = self.connect.get(key)?.get_min()?;
        self.nodes.get(node)?.services.get(id)?.mesh_door_of().cloned()
    }
}
