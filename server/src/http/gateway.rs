//! What is linked to gateways, and what is exported.
//!
//! **Source**: Consul: api-docs/catalog#list-services-for-gateway, api-docs/exported-services.

use std::collections::BTreeSet;

use http::Response;
use serde_json::{Map, Value, json};
use weft_core::acl::{Permission, Resource};
use weft_core::config_entry::{
    ConfigEntry, EntryKey, EntryKind, IngressGateway, Protocol, SourceName, TerminatingGateway,
};
use weft_core::index::Index;
use weft_core::name::ServiceName;
use weft_core::state::State;
use weft_core::watch::Topic;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::{ApiRequest, service_name};
use super::routes::Routes;
use super::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    table
        .get("/v1/catalog/gateway-services/{gateway}", |context, request| {
            Box::pin(services(context, request))
        })
        .get("/v1/exported-services", |context, request| Box::pin(exported(context, request)))
}

/// `GET /v1/catalog/gateway-services/:gateway`
async fn services(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = service_name(request.params.get("gateway"))?;
    let topics = topics(&name);
    let read = page::read(context, request, topics, |state, rights| {
        rights.require(Permission::read(Resource::Service, name.as_str()))?;
        let (index, mut linked) = linked(state, &name);
        linked.retain(|link| {
            let name = link["Service"]["Name"].as_str().unwrap_or_default();
            rights.see(Permission::read(Resource::Service, name))
        });
        Ok((index, Some(linked)))
    });
    Ok(read.await?.or_null(context))
}

/// What the list of a gateway's services depends on; wildcards follow the catalog.
pub(super) fn topics(gateway: &ServiceName) -> Vec<Topic> {
    let entry = |kind| Topic::Entry(EntryKey::new(kind, gateway.as_str()));
    vec![
        entry(EntryKind::IngressGateway),
        entry(EntryKind::TerminatingGateway),
        Topic::EntryKind(EntryKind::ServiceDefaults),
        Topic::EntryKind(EntryKind::ProxyDefaults),
        Topic::ServiceList,
    ]
}

/// Returns the services of a gateway, each with the link by which it is one.
pub(super) fn linked(state: &State, gateway: &ServiceName) -> (Index, Vec<Value>) {
    let find = |kind| state.entry(&EntryKey::new(kind, gateway.as_str()));
    let kinds = [
        EntryKind::IngressGateway,
        EntryKind::TerminatingGateway,
        EntryKind::ServiceDefaults,
        EntryKind::ProxyDefaults,
    ];
    let index = kinds.map(|kind| state.entry_kind_index(kind)).into_iter().max();
    let index = index.unwrap_or_default().max(state.services().0);
    let mut links = Vec::new();
    if let Some(entry) = find(EntryKind::IngressGateway).and_then(|it| it.as_ingress_gateway()) {
        links.extend(behind_ingress(state, entry));
    }
    if let Some(entry) =
        find(EntryKind::TerminatingGateway).and_then(|it| it.as_terminating_gateway())
    {
        links.extend(behind_terminating(state, entry));
    }
    (index, links)
}

fn behind_ingress(state: &State, entry: &IngressGateway) -> Vec<Value> {
    let mut links = Vec::new();
    for listener in &entry.listeners {
        for service in &listener.services {
            let names = meant(state, &service.name, Some(listener.protocol));
            links.extend(names.into_iter().map(|name| {
                let mut link = link(&entry.name, &name, "ingress-gateway", entry.modify_index);
                link.insert("Port".to_owned(), listener.port.into());
                link.insert("Protocol".to_owned(), listener.protocol.as_str().into());
                if !service.hosts.is_empty() {
                    link.insert("Hosts".to_owned(), json!(service.hosts));
                }
                if service.name == SourceName::Any {
                    link.insert("FromWildcard".to_owned(), true.into());
                }
                Value::Object(link)
            }));
        }
    }
    links
}

fn behind_terminating(state: &State, entry: &TerminatingGateway) -> Vec<Value> {
    let mut links = Vec::new();
    let own: BTreeSet<&SourceName> = entry.services.iter().map(|service| &service.name).collect();
    for service in &entry.services {
        for name in meant(state, &service.name, None) {
            // A service that is named itself is not meant by the wildcard as well.
            let is_named = own.contains(&SourceName::Service(name.clone()));
            if service.name == SourceName::Any && is_named {
                continue;
            }
            let mut link = link(&entry.name, &name, "terminating-gateway", entry.modify_index);
            for (field, text) in [
                ("CAFile", &service.ca_file),
                ("CertFile", &service.cert_file),
                ("KeyFile", &service.key_file),
                ("SNI", &service.sni),
            ] {
                if !text.is_empty() {
                    link.insert(field.to_owned(), text.as_str().into());
                }
            }
            if service.name == SourceName::Any {
                link.insert("FromWildcard".to_owned(), true.into());
            }
            links.push(Value::Object(link));
        }
    }
    links
}

fn link(
    gateway: &ServiceName,
    service: &ServiceName,
    kind: &str,
    index: Index,
) -> Map<String, Value> {
    let named = |name: &ServiceName| json!({ "Name": name, "Namespace": "default" });
    let link = json!({
        "Gateway": named(gateway),
        "Service": named(service),
        "GatewayKind": kind,
        "CreateIndex": index,
        "ModifyIndex": index,
    });
    match link {
        Value::Object(link) => link,
        _ => Map::new(),
    }
}

/// The services that a name stands for: itself, or with a wildcard those of the catalog that have
/// instances of their own and, with an ingress gateway, speak what the listener does.
fn meant(state: &State, name: &SourceName, protocol: Option<Protocol>) -> Vec<ServiceName> {
    match name {
        SourceName::Service(name) => vec![name.clone()],
        SourceName::Any => {
            let (_, services) = state.services();
            let speaks = |name: &ServiceName| state.service_defaults(name).protocol;
            let suits = |name: &ServiceName| match protocol {
                // Sidecars speak for others, and in the mesh nothing goes out through a gateway.
                None => state.connect_instances(name).1.is_empty(),
                Some(protocol) => speaks(name) == Some(protocol),
            };
            let is_own = |name: &ServiceName| {
                let (_, instances) = state.service_instances(name);
                instances.iter().any(|instance| instance.service.kind.is_typical())
            };
            services.into_keys().filter(|name| is_own(name) && suits(name)).collect()
        }
    }
}

/// `GET /v1/exported-services`
async fn exported(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let topics = [Topic::EntryKind(EntryKind::ExportedServices), Topic::ServiceList];
    let read = page::read(context, request, topics, |state, rights| {
        let (index, entries) = state.entries(Some(EntryKind::ExportedServices));
        let mut bodies = Vec::new();
        for entry in entries.iter().filter_map(|entry: &_| ConfigEntry::as_exported_services(entry))
        {
            for service in &entry.services {
                let peers: Vec<&str> =
                    service.consumers.iter().map(|it| it.peer.as_str()).collect();
                let names = exported_names(state, &service.name);
                for name in names.into_iter().filter(|name| rights.see_name(name)) {
                    bodies.push(json!({ "Service": name, "Consumers": { "Peers": peers } }));
                }
            }
        }
        Ok((index.max(state.services().0), Some(bodies)))
    });
    Ok(read.await?.or_null(context))
}

fn exported_names(state: &State, name: &SourceName) -> Vec<ServiceName> {
    match name {
        SourceName::Service(name) => vec![name.clone()],
        SourceName::Any => {
            let (_, services) = state.services();
            let is_own = |name: &ServiceName| {
                let (_, instances) = state.service_instances(name);
                instances.iter().any(|instance| instance.service.kind.is_typical())
            };
            services.into_keys().filter(is_own).collect()
        }
    }
}
