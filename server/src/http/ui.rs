//! `/v1/internal/ui/…`: what the web page shows, each page in one answer.
//!
//! **Source**: Consul: the shapes that its own web page reads.

use std::collections::{BTreeMap, BTreeSet};

use http::Response;
use serde::Serialize;
use serde_json::{Value, json};
use weft_core::acl::{Permission, Resource};
use weft_core::catalog::{
    CatalogRegistration, CheckStatus, HealthCheck, Service, ServiceInstance, ServiceKind,
    aggregate_status,
};
use weft_core::filter::{NODE_DUMP, SERVICE_SUMMARY};
use weft_core::name::{Datacenter, ServiceName};
use weft_core::state::State;
use weft_core::watch::Topic;
use weft_runtime::http::Body;

use super::catalog::node_name;
use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};
use crate::acl::Rights;

pub(super) fn routes(table: Routes) -> Routes {
    const UI: &str = "/v1/internal/ui";
    table
        .get(&format!("{UI}/catalog-overview"), |context, request| {
            Box::pin(overview(context, request))
        })
        .get(&format!("{UI}/node/{{node}}"), |context, request| Box::pin(node(context, request)))
        .get(&format!("{UI}/nodes"), |context, request| Box::pin(nodes(context, request)))
        .get(&format!("{UI}/services"), |context, request| Box::pin(services(context, request)))
}

/// A host with all that is on it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NodeDump {
    #[serde(flatten)]
    node: Value,
    services: Vec<Service>,
    checks: Vec<HealthCheck>,
}

impl NodeDump {
    /// Shows what the caller may see of a host; `None` when that is nothing.
    fn new(found: CatalogRegistration, rights: &Rights) -> Option<Self> {
        if !rights.see_node(&found.node.name) {
            return None;
        }
        let CatalogRegistration { node, mut services, mut checks } = found;
        services.retain(|service| rights.see_service(service));
        checks.retain(|check| rights.see_check(check));
        Some(Self { node: serde_json::to_value(node).unwrap_or_default(), services, checks })
    }
}

/// `GET /v1/internal/ui/nodes`
async fn nodes(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let filter = request.query.filter(Some(&NODE_DUMP))?;
    let topics = [Topic::Nodes, Topic::Checks, Topic::ServiceList];
    let read = page::read(context, request, topics, |state, rights| {
        let (_, nodes) = state.nodes();
        let found = nodes.iter().filter_map(|node| state.node(&node.name));
        let mut dumps: Vec<NodeDump> =
            found.filter_map(|found| NodeDump::new(found, rights)).collect();
        if let Some(filter) = &filter {
            dumps.retain(|dump| filter.matches_record(dump));
        }
        Ok((state.catalog_index(), Some(dumps)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/internal/ui/node/:node`
async fn node(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = node_name(request.params.get("node"))?;
    let read = page::read(context, request, [Topic::node(&name)], |state, rights| {
        let found = state.node(&name).and_then(|found| NodeDump::new(found, rights));
        Ok((state.catalog_index(), found))
    });
    Ok(read.await?.or_not_found(context, format!("Node {name:?} not found")))
}

/// A service with the number of its instances and checks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceSummary {
    kind: ServiceKind,
    pub(super) name: ServiceName,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacenter: Option<Datacenter>,
    tags: BTreeSet<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    external_sources: BTreeSet<String>,
    instance_count: usize,
    checks_passing: usize,
    checks_warning: usize,
    checks_critical: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    connect_native: bool,
    connected_with_proxy: bool,
    connected_with_gateway: bool,
}

impl ServiceSummary {
    /// Counts the instances that the caller sees; with none the service is shown all the same.
    pub(super) fn of(state: &State, name: &ServiceName, rights: &Rights) -> Self {
        let (_, mut instances) = state.service_instances(name);
        instances.retain(|instance| rights.see_instance(instance));
        let mut summary = Self {
            kind: ServiceKind::Typical,
            name: name.clone(),
            datacenter: state.cluster().map(|cluster| cluster.datacenter.clone()),
            tags: BTreeSet::new(),
            nodes: Vec::new(),
            external_sources: BTreeSet::new(),
            instance_count: instances.len(),
            checks_passing: 0,
            checks_warning: 0,
            checks_critical: 0,
            connect_native: false,
            connected_with_proxy: false,
            connected_with_gateway: false,
        };
        for instance in &instances {
            summary.add(instance);
        }
        let (_, doors) = state.connect_instances(name);
        summary.connected_with_proxy =
            doors.iter().any(|door| door.service.kind == ServiceKind::ConnectProxy);
        summary
    }

    fn add(&mut self, instance: &ServiceInstance) {
        self.kind = instance.service.kind;
        self.tags.extend(instance.service.tags.iter().cloned());
        self.connect_native |= instance.service.connect.native;
        self.external_sources.extend(instance.service.meta.get("external-source").cloned());
        let node = instance.node.name.to_string();
        if self.nodes.last() != Some(&node) {
            self.nodes.push(node);
        }
        for check in &instance.checks {
            match check.status {
                CheckStatus::Passing => self.checks_passing += 1,
                CheckStatus::Warning => self.checks_warning += 1,
                CheckStatus::Critical => self.checks_critical += 1,
            }
        }
    }

    /// Leaves the hosts out, as lists do.
    fn without_nodes(mut self) -> Self {
        self.nodes.clear();
        self
    }
}

/// `GET /v1/internal/ui/services`
async fn services(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let filter = request.query.filter(Some(&SERVICE_SUMMARY))?;
    let topics = [Topic::Nodes, Topic::Checks, Topic::ServiceList];
    let read = page::read(context, request, topics, |state, rights| {
        let (_, services) = state.services();
        let seen = services.into_keys().filter(|name| rights.see_name(name));
        let mut bodies: Vec<ServiceSummary> =
            seen.map(|name| ServiceSummary::of(state, &name, rights).without_nodes()).collect();
        if let Some(filter) = &filter {
            bodies.retain(|body| filter.matches_record(body));
        }
        Ok((state.catalog_index(), Some(bodies)))
    });
    Ok(read.await?.or_null(context))
}

/// How many things there are, by how they stand.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tally {
    name: String,
    total: usize,
    passing: usize,
    warning: usize,
    critical: usize,
}

impl Tally {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn count(&mut self, status: CheckStatus) {
        self.total += 1;
        match status {
            CheckStatus::Passing => self.passing += 1,
            CheckStatus::Warning => self.warning += 1,
            CheckStatus::Critical => self.critical += 1,
        }
    }
}

/// `GET /v1/internal/ui/catalog-overview`
async fn overview(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let topics = [Topic::Nodes, Topic::Checks, Topic::ServiceList];
    let read = page::read(context, request, topics, |state, rights| {
        rights.require(Permission::read(Resource::Operator, ""))?;
        let mut nodes = Tally::named("");
        let mut services: BTreeMap<ServiceName, Tally> = BTreeMap::new();
        let mut checks: BTreeMap<String, Tally> = BTreeMap::new();
        for node in state.nodes().1 {
            let Some(found) = state.node(&node.name) else { continue };
            let own = found.checks.iter().filter(|check| check.service_id.is_none());
            nodes.count(aggregate_status(own.map(|check| check.status)));
            for check in &found.checks {
                let tally = checks.entry(check.name.clone());
                tally.or_insert_with(|| Tally::named(&check.name)).count(check.status);
            }
            for service in &found.services {
                let concerns = found.checks.iter().filter(|check| {
                    check.service_id.is_none() || check.service_id.as_ref() == Some(&service.id)
                });
                let status = aggregate_status(concerns.map(|check| check.status));
                let tally = services.entry(service.name.clone());
                tally.or_insert_with(|| Tally::named(service.name.as_str())).count(status);
            }
        }
        let body = json!({
            "Nodes": [nodes],
            "Services": services.into_values().collect::<Vec<_>>(),
            "Checks": checks.into_values().collect::<Vec<_>>(),
        });
        Ok((state.catalog_index(), Some(body)))
    });
    Ok(read.await?.or_null(context))
}
