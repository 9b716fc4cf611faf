//! `/v1/discovery-chain/:service`: the compiled chain, in the shape that Consul's clients read.
//!
//! **Source**: Consul: api-docs/discovery-chain.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use weft_core::acl::{Permission, Resource};
use weft_core::chain::{ChainNode, ChainOverrides, ChainRoute, CompiledChain, Target};
use weft_core::config_entry::{EntryKey, EntryKind, UnknownProtocol};
use weft_core::state::State;
use weft_core::time::Span;
use weft_core::watch::Topic;
use weft_proto::json::{self, Unknown};
use weft_runtime::http::Body;

use super::error::ApiError;
use super::page::Page;
use super::request::{ApiRequest, service_name};
use super::routes::Routes;
use super::{Context, page};
use crate::acl::Rights;

pub(super) fn routes(table: Routes) -> Routes {
    const CHAIN: &str = "/v1/discovery-chain/{service}";
    table
        .get(CHAIN, |context, request| Box::pin(show(context, request)))
        .post(CHAIN, |context, request| Box::pin(show(context, request)))
}

/// What one caller wants of a chain in place of what the entries say.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Overrides {
    /// How long to wait for a connection.
    override_connect_timeout: Option<Span>,
    /// What is spoken; empty for what the entries say.
    override_protocol: String,
}

impl Overrides {
    /// Reads the body of a POST.
    fn read(request: &ApiRequest) -> Result<ChainOverrides, ApiError> {
        if request.method != Method::POST {
            return Ok(ChainOverrides::default());
        }
        let body: Self = json::from_slice(&request.body, Unknown::Ignore)?;
        let protocol = match body.override_protocol.as_str() {
            "" => None,
            word => Some(word.parse().map_err(|error: UnknownProtocol| {
                ApiError::bad_request(format!("OverrideProtocol: {error}"))
            })?),
        };
        let connect_timeout = body.override_connect_timeout.map(|timeout| timeout.0);
        Ok(ChainOverrides {
            protocol,
            connect_timeout: connect_timeout.filter(|timeout| !timeout.is_zero()),
        })
    }
}

/// `GET /v1/discovery-chain/:service`, and `POST` with overrides
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = service_name(request.params.get("service"))?;
    let overrides = Overrides::read(request)?;
    let topics = |state: &State| -> BTreeSet<Topic> {
        match state.compile_chain_with(&name, overrides) {
            Ok(chain) => chain.reads.into_iter().map(Topic::Entry).collect(),
            Err(_) => EntryKind::OF_CHAINS.into_iter().map(Topic::EntryKind).collect(),
        }
    };
    let answer = |state: &State, rights: &Rights| {
        rights.require(Permission::read(Resource::Service, name.as_str()))?;
        let compiled = state.compile_chain_with(&name, overrides);
        let chain = compiled.map_err(ApiError::bad_request)?;
        let kinds = EntryKind::OF_CHAINS.into_iter();
        let index = kinds.map(|kind| state.entry_kind_index(kind)).max().unwrap_or_default();
        Ok((index, Some(json!({ "Chain": body(state, &chain) }))))
    };
    Ok(page::read_page(context, request, Page { topics, answer }).await?.or_null(context))
}

fn body(state: &State, chain: &CompiledChain) -> Value {
    let nodes: Map<String, Value> =
        chain.nodes.iter().map(|(name, it)| (name.clone(), node(state, chain, name, it))).collect();
    let targets: Map<String, Value> =
        chain.targets.iter().map(|(id, it)| (id.to_string(), target(it))).collect();
    json!({
        "ServiceName": chain.service_name,
        "Namespace": "default",
        "Partition": "default",
        "Datacenter": chain.datacenter,
        "Protocol": chain.protocol,
        "StartNode": chain.start_node,
        "Nodes": nodes,
        "Targets": targets,
    })
}

fn node(state: &State, chain: &CompiledChain, name: &str, node: &ChainNode) -> Value {
    let bare = name.split_once(':').map_or(name, |(_, bare)| bare);
    match node {
        ChainNode::Resolver(resolver) => {
            let target = chain.targets.get(&resolver.target);
            let entry = target.and_then(|target| {
                state.entry(&EntryKey::new(EntryKind::ServiceResolver, target.service.as_str()))
            });
            let mut body = json!({
                "Default": entry.is_none(),
                "ConnectTimeout": text(resolver.connect_timeout),
                "RequestTimeout": text(resolver.request_timeout),
                "Target": resolver.target,
            });
            if !resolver.failover.is_empty() {
                body["Failover"] = json!({ "Targets": resolver.failover });
            }
            let mut node = json!({ "Type": "resolver", "Name": bare, "Resolver": body });
            if let Some(balancer) = target.and_then(|target| target.load_balancer.as_ref()) {
                node["LoadBalancer"] = json!(balancer);
            }
            node
        }
        ChainNode::Router(router) => json!({
            "Type": "router",
            "Name": bare,
            "Routes": router.routes.iter().map(route).collect::<Vec<_>>(),
        }),
        ChainNode::Splitter(splitter) => {
            let mut node = json!({
                "Type": "splitter",
                "Name": bare,
                "Splits": splitter.splits.iter().map(|split| json!({
                    "Weight": split.weight,
                    "NextNode": split.next_node,
                })).collect::<Vec<_>>(),
            });
            if let Some(sticky) = &splitter.sticky {
                node["Sticky"] = json!(sticky);
            }
            node
        }
    }
}

fn route(route: &ChainRoute) -> Value {
    json!({
        "Definition": { "Match": { "HTTP": route.matches }, "Destination": route.action.shown() },
        "NextNode": route.next_node,
    })
}

fn target(target: &Target) -> Value {
    json!({
        "ID": target.id,
        "Service": target.service,
        "ServiceSubset": target.service_subset,
        "Namespace": "default",
        "Partition": "default",
        "Datacenter": target.datacenter,
        "Subset": { "Filter": target.filter, "OnlyPassing": target.only_passing },
        "SNI": target.sni,
        "Name": target.sni,
    })
}

fn text(duration: Duration) -> String {
    weft_core::time::Span(duration).to_string()
}
