//! Which instances a page about one service shows, and in which order; the pages are `catalog`,
//! which lists them flat, and `health`. Both show the same ones in the same order, as clients lay
//! the two lists side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_core::catalog::{Service, ServiceInstance, ServiceKind};
use weft_core::config_entry::{EntryKey, EntryKind, ProxyDefaults};
use weft_core::index::Index;
use weft_core::name::ServiceName;
use weft_core::state::State;
use weft_core::watch::Topic;

use super::error::ApiError;
use super::gateway;
use super::near::Near;
use super::request::{ApiRequest, has_meta, service_name};
use crate::acl::Rights;

/// What a service's name stands for on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instances {
    /// `/connect/:name`: the sidecars and native instances that speak for it.
    Connect,
    /// `/ingress/:name`: the ingress gateways through which it is reached.
    Ingress,
    /// `/service/:name`: its own instances.
    Service,
}

/// What a page asks for, but for its filter.
pub(super) struct Wanted {
    which: Instances,
    name: ServiceName,
    node_meta: BTreeMap<String, String>,
    tags: Vec<String>,
    near: Option<Near>,
    /// Whether sidecars are shown with what entries say for all of them.
    with_central_config: bool,
}

impl Wanted {
    /// Reads the path and the query.
    pub(super) fn read(request: &ApiRequest, which: Instances) -> Result<Self, ApiError> {
        let tags = request.query.values("tag").filter(|tag| !tag.is_empty());
        Ok(Self {
            which,
            name: service_name(request.params.get("service"))?,
            node_meta: request.query.node_meta(),
            tags: tags.map(str::to_owned).collect(),
            near: Near::of(request),
            with_central_config: request.query.has("merge-central-config"),
        })
    }

    /// Returns what the page waits on.
    pub(super) fn topics(&self) -> Vec<Topic> {
        let mut topics = match self.which {
            Instances::Connect => vec![Topic::connect(&self.name)],
            Instances::Ingress => vec![
                Topic::EntryKind(EntryKind::IngressGateway),
                Topic::EntryKind(EntryKind::ServiceDefaults),
                Topic::EntryKind(EntryKind::ProxyDefaults),
                Topic::Checks,
                Topic::Nodes,
                Topic::ServiceList,
            ],
            Instances::Service => vec![Topic::service(&self.name)],
        };
        if self.with_central_config {
            topics.push(Topic::EntryKind(EntryKind::ServiceDefaults));
            topics.push(Topic::EntryKind(EntryKind::ProxyDefaults));
        }
        topics
    }

    /// Returns the instances that a caller sees, with the index of the last change to any.
    pub(super) fn look(&self, state: &State, rights: &Rights) -> (Index, Vec<ServiceInstance>) {
        let (mut index, mut instances) = match self.which {
            Instances::Connect => state.connect_instances(&self.name),
            Instances::Ingress => ingress(state, &self.name),
            Instances::Service => state.service_instances(&self.name),
        };
        instances.retain(|instance| {
            rights.see_instance(instance)
                && has_meta(&instance.node, &self.node_meta)
                && has_tags(&instance.service, &self.tags)
        });
        if self.with_central_config {
            let kinds = [EntryKind::ServiceDefaults, EntryKind::ProxyDefaults];
            index =
                kinds.into_iter().map(|kind| state.entry_kind_index(kind)).fold(index, Ord::max);
            instances.iter_mut().for_each(|instance| add_central_config(state, instance));
        }
        if let Some(near) = &self.near {
            near.sort(state, &mut instances, |instance| &instance.node.name);
        }
        (index, instances)
    }
}

/// The instances of the gateways whose entries lead to a service.
fn ingress(state: &State, name: &ServiceName) -> (Index, Vec<ServiceInstance>) {
    let (_, entries) = state.entries(Some(EntryKind::IngressGateway));
    let mut index = state.entry_kind_index(EntryKind::IngressGateway);
    let mut instances = Vec::new();
    for entry in entries.iter().filter_map(|entry| entry.as_ingress_gateway()) {
        let (linked_at, linked) = gateway::linked(state, &entry.name);
        if linked.iter().any(|link| link["Service"]["Name"] == name.as_str()) {
            let (changed, found) = state.service_instances(&entry.name);
            index = index.max(changed);
            instances.extend(found);
        }
        index = index.max(linked_at);
    }
    (index, instances)
}

/// Shows a sidecar with what entries say for all sidecars of its service; what it was registered
/// with counts more.
///
/// **Source**: Consul: api-docs/health#merge-central-config: proxy-defaults, then service-defaults,
/// then the instance's own.
fn add_central_config(state: &State, instance: &mut ServiceInstance) {
    if instance.service.kind != ServiceKind::ConnectProxy {
        return;
    }
    let key = EntryKey::new(EntryKind::ProxyDefaults, ProxyDefaults::NAME);
    let defaults = state.entry(&key).and_then(|entry| entry.as_proxy_defaults());
    let mut config = defaults.map(|entry| entry.config.clone()).unwrap_or_default();
    if let Some(name) = &instance.service.proxy.destination_service_name {
        let protocol = state.service_defaults(name).protocol.unwrap_or_default();
        config.insert("protocol".to_owned(), protocol.as_str().into());
    }
    let service = Arc::make_mut(&mut instance.service);
    config.append(&mut service.proxy.config);
    service.proxy.config = config;
}

/// Whether a service has all the tags, without regard to case.
pub(super) fn has_tags(service: &Service, wanted: &[String]) -> bool {
    wanted.iter().all(|wanted| service.tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted)))
}
