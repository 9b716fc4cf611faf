//! `/v1/discovery-chain/:service`: the compiled chain, in the shape that Consul's clients read.
//!
//! **Source**: Consul: api-docs/discovery-chain.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Response;
use serde_json::{Map, Value, json};
use weft_core::acl::{Permission, Resource};
use weft_core::chain::{ChainNode, ChainRoute, CompiledChain, Target};
use weft_core::config_entry::EntryKind;
use weft_core::state::State;
use weft_core::watch::Topic;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::page::Page;
use super::request::{ApiRequest, service_name};
use super::routes::Routes;
use super::{Context, page};
use crate::acl::Rights;

pub(super) fn routes(table: Routes) -> Routes {
    table.get("/v1/discovery-chain/{service}", |context, request| Box::pin(show(context, request)))
}

/// `GET /v1/discovery-chain/:service`
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = service_name(request.params.get("service"))?;
    let topics = |state: &State| -> BTreeSet<Topic> {
        match state.compile_chain(&name) {
            Ok(chain) => chain.reads.into_iter().map(Topic::Entry).collect(),
            Err(_) => EntryKind::OF_CHAINS.into_iter().map(Topic::EntryKind).collect(),
        }
    };
    let answer = |state: &State, rights: &Rights| {
        rights.require(Permission::read(Resource::Service, name.as_str()))?;
        let chain = state.compile_chain(&name).map_err(ApiError::bad_request)?;
        let kinds = EntryKind::OF_CHAINS.into_iter();
        let index = kinds.map(|kind| state.entry_kind_index(kind)).max().unwrap_or_default();
        Ok((index, Some(json!({ "Chain": body(&chain) }))))
    };
    Ok(page::read_page(context, request, Page { topics, answer }).await?.or_null(context))
}

fn body(chain: &CompiledChain) -> Value {
    let nodes: Map<String, Value> =
        chain.nodes.iter().map(|(name, it)| (name.clone(), node(name, it))).collect();
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

fn node(name: &str, node: &ChainNode) -> Value {
    let bare = name.split_once(':').map_or(name, |(_, bare)| bare);
    match node {
        ChainNode::Resolver(resolver) => json!({
            "Type": "resolver",
            "Name": bare,
            "Resolver": {
                "ConnectTimeout": text(resolver.connect_timeout),
                "RequestTimeout": text(resolver.request_timeout),
                "Target": resolver.target,
            },
        }),
        ChainNode::Router(router) => json!({
            "Type": "router",
            "Name": bare,
            "Routes": router.routes.iter().map(route).collect::<Vec<_>>(),
        }),
        ChainNode::Splitter(splitter) => json!({
            "Type": "splitter",
            "Name": bare,
            "Splits": splitter.splits.iter().map(|split| json!({
                "Weight": split.weight,
                "NextNode": split.next_node,
            })).collect::<Vec<_>>(),
        }),
    }
}

fn route(route: &ChainRoute) -> Value {
    let mut destination = Map::new();
    if let Some(prefix) = &route.action.prefix_rewrite {
        destination.insert("PrefixRewrite".to_owned(), json!(prefix));
    }
    if let Some(limit) = route.action.request_timeout {
        destination.insert("RequestTimeout".to_owned(), json!(text(limit)));
    }
    json!({
        "Definition": { "Match": { "HTTP": route.matches }, "Destination": destination },
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
