//! `/v1/internal/ui/…` about one service or gateway: who calls whom, and what is let through.
//!
//! **Source**: Consul: the shapes that its own web page reads.

use std::collections::{BTreeMap, BTreeSet};

use http::Response;
use serde_json::{Value, json};
use weft_core::acl::{Permission, Resource};
use weft_core::catalog::ServiceKind;
use weft_core::config_entry::{EntryKind, IntentionAction, ServiceIntentions, SourceName};
use weft_core::name::ServiceName;
use weft_core::state::State;
use weft_core::watch::Topic;
use weft_proto::json::intention::IntentionBody;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::gateway;
use super::request::{ApiRequest, service_name};
use super::routes::Routes;
use super::ui::ServiceSummary;
use super::{Context, page};
use crate::acl::Rights;

pub(super) fn routes(table: Routes) -> Routes {
    const UI: &str = "/v1/internal/ui";
    table
        .get(&format!("{UI}/gateway-intentions/{{gateway}}"), |context, request| {
            Box::pin(intentions(context, request))
        })
        .get(&format!("{UI}/gateway-services-nodes/{{gateway}}"), |context, request| {
            Box::pin(services(context, request))
        })
        .get(&format!("{UI}/service-topology/{{service}}"), |context, request| {
            Box::pin(topology(context, request))
        })
}

/// Everything on which the page of a service depends.
fn topics() -> Vec<Topic> {
    vec![
        Topic::Nodes,
        Topic::Checks,
        Topic::ServiceList,
        Topic::EntryKind(EntryKind::ServiceIntentions),
        Topic::EntryKind(EntryKind::Mesh),
        Topic::EntryKind(EntryKind::ServiceDefaults),
        Topic::EntryKind(EntryKind::ProxyDefaults),
    ]
}

/// `GET /v1/internal/ui/service-topology/:service`
async fn topology(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = service_name(request.params.get("service"))?;
    let read = page::read(context, request, topics(), |state, rights| {
        rights.require(Permission::read(Resource::Service, name.as_str()))?;
        let calls = calls(state);
        let upstreams = calls.iter().filter(|((from, _), _)| *from == name);
        let upstreams: Vec<Value> = upstreams
            .filter(|((_, to), _)| rights.see_name(to))
            .map(|((from, to), source)| side(context, state, rights, (from, to), to, source))
            .collect();
        let downstreams = calls.iter().filter(|((_, to), _)| *to == name);
        let downstreams: Vec<Value> = downstreams
            .filter(|((from, _), _)| rights.see_name(from))
            .map(|((from, to), source)| side(context, state, rights, (from, to), from, source))
            .collect();
        let body = json!({
            "Protocol": state.service_defaults(&name).protocol,
            "TransparentProxy": false,
            "Upstreams": upstreams,
            "Downstreams": downstreams,
            "FilteredByACLs": rights.tells_of_filtering(),
        });
        Ok((state.catalog_index().max(state.intentions_index()), Some(body)))
    });
    Ok(read.await?.or_null(context))
}

/// Who calls whom, and how that is known: a sidecar's registration counts before an intention.
fn calls(state: &State) -> BTreeMap<(ServiceName, ServiceName), &'static str> {
    let mut calls = BTreeMap::new();
    let (_, entries) = state.entries(Some(EntryKind::ServiceIntentions));
    for entry in entries.iter().filter_map(|entry| entry.as_service_intentions()) {
        let SourceName::Service(to) = &entry.name else { continue };
        for source in &entry.sources {
            if let SourceName::Service(from) = &source.name {
                calls.insert((from.clone(), to.clone()), "specific-intention");
            }
        }
    }
    for node in state.nodes().1 {
        let Some(found) = state.node(&node.name) else { continue };
        for service in found.services.iter().filter(|it| it.kind == ServiceKind::ConnectProxy) {
            let Some(from) = &service.proxy.destination_service_name else { continue };
            for upstream in &service.proxy.upstreams {
                calls.insert((from.clone(), upstream.destination_name.clone()), "registration");
            }
        }
    }
    calls
}

/// One side of a call, with what is decided about it.
fn side(
    context: &Context,
    state: &State,
    rights: &Rights,
    (from, to): (&ServiceName, &ServiceName),
    shown: &ServiceName,
    source: &str,
) -> Value {
    let set = state.intentions(to, context.default_intention);
    let verdict = set.evaluate(from);
    let is_exact = verdict.by.is_some_and(|by| {
        by.source.as_str() == from.as_str() && by.destination.as_str() == to.as_str()
    });
    let has_permissions = verdict.by.is_some_and(|by| !by.permissions.is_empty());
    let mut body =
        serde_json::to_value(ServiceSummary::of(state, shown, rights)).unwrap_or_default();
    body["Source"] = source.into();
    body["Intention"] = json!({
        // An edge is drawn where some requests may pass.
        "Allowed": verdict.allowed || has_permissions,
        "HasPermissions": has_permissions,
        "HasExact": is_exact,
        "DefaultAllow": context.default_intention == IntentionAction::Allow,
        "ExternalSource": "",
    });
    body
}

/// `GET /v1/internal/ui/gateway-services-nodes/:gateway`
async fn services(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = service_name(request.params.get("gateway"))?;
    let topics = gateway::topics(&name).into_iter().chain([Topic::Nodes, Topic::Checks]);
    let read = page::read(context, request, topics, |state, rights| {
        rights.require(Permission::read(Resource::Service, name.as_str()))?;
        let (index, linked) = linked_names(state, &name);
        let seen = linked.iter().filter(|name| rights.see_name(name));
        let bodies: Vec<ServiceSummary> =
            seen.map(|name| ServiceSummary::of(state, name, rights)).collect();
        Ok((index.max(state.catalog_index()), Some(bodies)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/internal/ui/gateway-intentions/:gateway`
async fn intentions(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = service_name(request.params.get("gateway"))?;
    let kind = Topic::EntryKind(EntryKind::ServiceIntentions);
    let topics = gateway::topics(&name).into_iter().chain([kind]);
    let read = page::read(context, request, topics, |state, rights| {
        rights.require(Permission::read(Resource::Service, name.as_str()))?;
        let (index, linked) = linked_names(state, &name);
        let (_, entries) = state.entries(Some(EntryKind::ServiceIntentions));
        let concerns = |entry: &&ServiceIntentions| match &entry.name {
            SourceName::Any => true,
            SourceName::Service(name) => linked.contains(name),
        };
        let entries = entries.iter().filter_map(|entry| entry.as_service_intentions());
        let bodies: Vec<IntentionBody> = entries
            .filter(concerns)
            .filter(|it| rights.see(Permission::read(Resource::Intention, it.name.as_str())))
            .flat_map(|entry| entry.sources.iter().map(|it| IntentionBody::new(entry, it)))
            .collect();
        let own = state.entry_kind_index(EntryKind::ServiceIntentions);
        Ok((index.max(own), Some(bodies)))
    });
    Ok(read.await?.or_null(context))
}

fn linked_names(
    state: &State,
    gateway: &ServiceName,
) -> (weft_core::index::Index, BTreeSet<ServiceName>) {
    let (index, linked) = gateway::linked(state, gateway);
    let names = linked.iter().filter_map(|link| link["Service"]["Name"].as_str());
    (index, names.filter_map(|name| ServiceName::parse(name).ok()).collect())
}
