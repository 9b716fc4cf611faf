//! What the state answers. Every answer comes with the index at which it last changed, in the
//! grain of `consul`'s blocking queries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{ClusterRecord, InstanceKey, NodeKey, NodeRow, ServiceKey, State};
use crate::ca::{CaRoot, CaSettings, CaTerms, TrustBundle};
use crate::catalog::{
    CatalogRegistration, CheckStatus, HealthCheck, Node, Service, ServiceInstance, ServiceKind,
};
use crate::config_entry::{
    ConfigEntry, EntryKey, EntryKind, IntentionAction, IntentionPrecedence, Mesh, MeshTls,
    MutualTlsMode, Protocol, ProxyMode, ServiceDefaults, TransparentProxy,
};
use crate::index::Index;
use crate::intention::IntentionSet;
use crate::name::{InstanceId, NodeName, ServiceName};

/// Services by name, each with all tags of its instances.
pub type ServiceTags = BTreeMap<ServiceName, BTreeSet<String>>;

impl State {
    /// Returns the last index applied.
    pub fn index(&self) -> Index {
        self.index
    }

    /// Returns who the cluster is, `None` before its first write.
    pub fn cluster(&self) -> Option<&ClusterRecord> {
        self.cluster.as_ref()
    }

    /// Returns every instance of a service in any spelling of its name, by node and id.
    pub fn service_instances(&self, name: &ServiceName) -> (Index, Vec<ServiceInstance>) {
        let name = ServiceKey::from(name);
        match self.instances.get(&name) {
            Some(keys) => (
                self.rows.services.get(&name).copied().unwrap_or_default(),
                keys.iter().filter_map(|key| self.instance(key)).collect(),
            ),
            None => (self.rows.service_extinction, Vec::new()),
        }
    }

    /// Returns the mesh doors of a service in any spelling of its name (sidecars and native
    /// instances), by node and id. The checks of the application behind a sidecar are among the
    /// sidecar's.
    ///
    /// Each spelling is an identity of its own; `chain::select` takes the one that is meant.
    pub fn connect_instances(&self, name: &ServiceName) -> (Index, Vec<ServiceInstance>) {
        let name = ServiceKey::from(name);
        match self.connect.get(&name) {
            Some(keys) => (
                self.rows.connect.get(&name).copied().unwrap_or_default(),
                keys.iter().filter_map(|key| self.mesh_door(key)).collect(),
            ),
            None => (self.rows.connect_extinction, Vec::new()),
        }
    }

    /// Returns the names of all services as they are registered, and their tags.
    pub fn services(&self) -> (Index, ServiceTags) {
        (self.rows.service_list, self.names.with_tags())
    }

    /// Returns how many nodes and how many names of services there are.
    pub fn catalog_size(&self) -> (usize, usize) {
        (self.nodes.len(), self.names.len())
    }

    /// Returns every node, by name.
    pub fn nodes(&self) -> (Index, Vec<Arc<Node>>) {
        (self.rows.nodes, self.nodes.values().map(|row| row.node.clone()).collect())
    }

    /// Returns a node's own record.
    pub fn node_record(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.get(&NodeKey::from(name)).map(|row| &*row.node)
    }

    /// Returns a node with all that is on it.
    pub fn node(&self, name: &NodeName) -> Option<CatalogRegistration> {
        let row = self.nodes.get(&NodeKey::from(name))?;
        Some(CatalogRegistration {
            node: Node::clone(&row.node),
            services: row.services.values().map(|it| Service::clone(it)).collect(),
            checks: row.checks.values().map(|it| HealthCheck::clone(it)).collect(),
        })
    }

    /// Returns the index of everything in the catalog taken together; what answers about one
    /// node or many checks go by.
    pub fn catalog_index(&self) -> Index {
        self.rows
            .nodes
            .max(self.rows.checks)
            .max(self.rows.service_list)
            .max(self.rows.services.values().copied().max().unwrap_or_default())
    }

    /// Returns the checks of every instance of a service in any spelling of its name, by node
    /// and id.
    pub fn checks_of_service(&self, name: &ServiceName) -> (Index, Vec<Arc<HealthCheck>>) {
        let (index, instances) = self.service_instances(name);
        let checks = instances.into_iter().flat_map(|instance| instance.checks);
        (index, checks.filter(|check| check.service_id.is_some()).collect())
    }

    /// Returns the checks of a node, by id.
    pub fn checks_of_node(&self, name: &NodeName) -> (Index, Vec<Arc<HealthCheck>>) {
        let row = self.nodes.get(&NodeKey::from(name));
        let checks = row.into_iter().flat_map(|row| row.checks.values());
        (self.rows.checks, checks.cloned().collect())
    }

    /// Returns all checks with a status, or all there are, by node and id.
    pub fn checks_in_state(&self, status: Option<CheckStatus>) -> (Index, Vec<Arc<HealthCheck>>) {
        let checks = self.nodes.values().flat_map(|row| row.checks.values());
        let checks = checks.filter(|check| status.is_none_or(|status| check.status == status));
        (self.rows.checks, checks.cloned().collect())
    }

    /// Returns one config entry.
    pub fn entry(&self, key: &EntryKey) -> Option<&Arc<ConfigEntry>> {
        self.entries.get(key)
    }

    /// Returns the entries of one kind, or all, by kind and name.
    pub fn entries(&self, kind: Option<EntryKind>) -> (Index, Vec<Arc<ConfigEntry>>) {
        let index = match kind {
            Some(kind) => self.entry_kind_index(kind),
            None => self.rows.entries.values().copied().max().unwrap_or_default(),
        };
        let entries = self.entries.iter().filter(|(key, _)| kind.is_none_or(|it| it == key.kind));
        (index, entries.map(|(_, entry)| entry.clone()).collect())
    }

    /// Returns when any entry of a kind was last written or removed.
    pub fn entry_kind_index(&self, kind: EntryKind) -> Index {
        self.rows.entries.get(&kind).copied().unwrap_or_default()
    }

    /// Returns a service's defaults with the protocol and the mode of mutual TLS resolved through
    /// proxy-defaults; never absent.
    pub fn service_defaults(&self, name: &ServiceName) -> ServiceDefaults {
        let key = EntryKey::new(EntryKind::ServiceDefaults, name.as_str());
        let present = self.entries.get(&key).and_then(|entry| entry.as_service_defaults());
        let mut defaults = present.cloned().unwrap_or_else(|| ServiceDefaults::new(name.clone()));
        if defaults.protocol.is_none() {
            defaults.protocol = Some(self.default_protocol());
        }
        if defaults.mutual_tls_mode == MutualTlsMode::Unset {
            defaults.mutual_tls_mode = self.proxy_defaults_mode();
        }
        let key = EntryKey::new(EntryKind::ProxyDefaults, "global");
        let all = self.entries.get(&key).and_then(|entry| entry.as_proxy_defaults());
        if defaults.envoy_extensions.is_empty() {
            defaults.envoy_extensions =
                all.map(|all| all.envoy_extensions.clone()).unwrap_or_default();
        }
        if let Some(all) = all {
            if defaults.mode == ProxyMode::Unset {
                defaults.mode = all.mode;
            }
            if defaults.transparent_proxy == TransparentProxy::default() {
                defaults.transparent_proxy = all.transparent_proxy.clone();
            }
            if defaults.expose.paths.is_empty() {
                defaults.expose.paths.clone_from(&all.expose.paths);
            }
            defaults.expose.checks |= all.expose.checks;
            let transport = defaults.hop_transport().or(all.hop_transport());
            defaults.mesh_transport = transport.mesh_transport;
            defaults.mesh_congestion_control = transport.congestion_control;
        }
        if defaults.access_logs.is_none() {
            defaults.access_logs = all.and_then(|all| all.access_logs.clone());
        }
        if defaults.tracing.is_none() {
            defaults.tracing = all.and_then(|all| all.tracing.clone());
        }
        let headers = defaults.forwarded_headers.or(all.and_then(|all| all.forwarded_headers));
        defaults.forwarded_headers = Some(headers.unwrap_or_default().resolved(self.sanitises()));
        defaults
    }

    /// Returns which TLS proxies speak with each other; the defaults where no entry says it.
    pub fn mesh_tls(&self) -> MeshTls {
        let entry = self.entries.get(&EntryKey::new(EntryKind::Mesh, Mesh::NAME));
        let mesh = entry.and_then(|entry| entry.as_mesh());
        mesh.and_then(|mesh| mesh.tls.clone()).unwrap_or_default()
    }

    /// Whether services get no `x-forwarded-client-cert` where no other entry says it.
    fn sanitises(&self) -> bool {
        let entry = self.entries.get(&EntryKey::new(EntryKind::Mesh, Mesh::NAME));
        let http = entry.and_then(|entry| entry.as_mesh()?.http.as_ref());
        http.is_some_and(|http| http.sanitize_x_forwarded_client_cert)
    }

    fn proxy_defaults_mode(&self) -> MutualTlsMode {
        let key = EntryKey::new(EntryKind::ProxyDefaults, "global");
        self.entries.get(&key).map(|entry| entry.mutual_tls_mode()).unwrap_or_default()
    }

    fn default_protocol(&self) -> Protocol {
        let key = EntryKey::new(EntryKind::ProxyDefaults, "global");
        let defaults = self.entries.get(&key).and_then(|entry| entry.as_proxy_defaults());
        let word = defaults.and_then(|entry| entry.config.get("protocol")?.as_str());
        word.and_then(|word| word.parse().ok()).unwrap_or_default()
    }

    /// Returns who may call a service, with what is done when nothing says so.
    pub fn intentions(&self, name: &ServiceName, default: IntentionAction) -> IntentionSet {
        let keys = IntentionSet::reads(name);
        let entries = keys.iter().filter_map(|key| self.entries.get(key)?.as_service_intentions());
        let provider = |name: &ServiceName| {
            let key = EntryKey::new(EntryKind::JwtProvider, name.as_str());
            self.entries.get(&key)?.as_jwt_provider()
        };
        let decides = (self.intention_precedence(), default);
        IntentionSet::for_destination(name, entries, decides).with_providers(provider)
    }

    /// Returns which intention decides where several are for one call.
    pub fn intention_precedence(&self) -> IntentionPrecedence {
        match self.entries.get(&EntryKey::new(EntryKind::Mesh, Mesh::NAME)).map(Arc::as_ref) {
            Some(ConfigEntry::Mesh(mesh)) => mesh.intention_precedence,
            Some(_) | None => IntentionPrecedence::default(),
        }
    }

    /// Returns when intentions, or which of them decides, last changed.
    pub fn intentions_index(&self) -> Index {
        let kinds = [EntryKind::ServiceIntentions, EntryKind::Mesh];
        kinds.map(|kind| self.entry_kind_index(kind)).into_iter().max().unwrap_or_default()
    }

    /// Returns the roots, the active one first.
    pub fn roots(&self) -> (Index, Vec<Arc<CaRoot>>) {
        let mut roots: Vec<_> = self.roots.values().cloned().collect();
        roots.sort_by_key(|root| !root.active);
        (self.rows.roots, roots)
    }

    /// Returns how the CA signs, where operators have said so.
    pub fn ca_settings(&self) -> Option<&CaSettings> {
        self.ca_settings.as_ref()
    }

    /// Returns the lifetimes in force, with that of leaves as servers are configured.
    pub fn ca_terms(&self, leaf_default: Duration) -> CaTerms {
        self.ca_settings.as_ref().unwrap_or(&CaSettings::default()).terms(leaf_default)
    }

    /// Returns when the CA last changed: its roots or how it signs.
    pub fn ca_index(&self) -> Index {
        let settings = self.ca_settings.as_ref().map(|settings| settings.modify_index);
        self.rows.roots.max(settings.unwrap_or_default())
    }

    /// Returns what every member trusts, `None` until the cluster has a root.
    pub fn trust_bundle(&self) -> Option<TrustBundle> {
        let cluster = self.cluster.as_ref()?;
        let (_, roots) = self.roots();
        Some(TrustBundle {
            trust_domain: cluster.trust_domain.clone(),
            active_root: roots.iter().find(|root| root.active)?.fingerprint.clone(),
            roots_pem: roots.iter().map(|root| root.certificate_pem.clone()).collect(),
            roots: roots.iter().map(|root| root.public()).collect(),
            revoked: self.revocations().values().map(|it| it.what.clone()).collect(),
            retired: Vec::clone(&self.roots_retired),
        })
    }

    fn instance(&self, (node, id): &InstanceKey) -> Option<ServiceInstance> {
        let row = self.nodes.get(node)?;
        let service = row.services.get(id)?;
        let mut checks: Vec<_> = checks_of(row, |of| of.is_none()).collect();
        checks.extend(checks_of(row, |of| of == Some(id)));
        Some(ServiceInstance { node: row.node.clone(), service: service.clone(), checks })
    }

    fn mesh_door(&self, key: &InstanceKey) -> Option<ServiceInstance> {
        let mut instance = self.instance(key)?;
        if instance.service.kind == ServiceKind::ConnectProxy
            && let Some(app) = &instance.service.proxy.destination_service_id
        {
            let row = self.nodes.get(&key.0)?;
            instance.checks.extend(checks_of(row, |of| of == Some(app)));
        }
        Some(instance)
    }
}

fn checks_of(
    row: &NodeRow,
    speaks_of: impl Fn(Option<&InstanceId>) -> bool,
) -> impl Iterator<Item = Arc<HealthCheck>> {
    row.checks.values().filter(move |check| speaks_of(check.service_id.as_ref())).cloned()
}
