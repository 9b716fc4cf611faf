//! `/v1/catalog/…`: what exists.
//!
//! **Source**: Consul: api-docs/catalog.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::Response;
use serde::Serialize;
use weft_core::catalog::{Node, Service, ServiceInstance};
use weft_core::filter::{CATALOG_SERVICE, NODE, SERVICE};
use weft_core::name::NodeName;
use weft_core::state::ServiceTags;
use weft_core::watch::Topic;
use weft_proto::json::catalog::CatalogService;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::instances::{Instances, Wanted};
use super::near::Near;
use super::request::{ApiRequest, has_meta};
use super::routes::Routes;
use super::{Context, page};

/// Instances that are told of one address: a name is what is looked for.
const OWNERS_MAX: usize = 64;

pub(super) fn routes(table: Routes) -> Routes {
    table
        .get("/v1/catalog/connect/{service}", |context, request| {
            Box::pin(connect(context, request))
        })
        .get("/v1/catalog/datacenters", |context, request| Box::pin(datacenters(context, request)))
        .get("/v1/catalog/node-services/{node}", |context, request| {
            Box::pin(node_services(context, request))
        })
        .get("/v1/catalog/node/{node}", |context, request| Box::pin(node(context, request)))
        .get("/v1/catalog/nodes", |context, request| Box::pin(nodes(context, request)))
        .get("/v1/catalog/service/{service}", |context, request| {
            Box::pin(service(context, request))
        })
        .get("/v1/catalog/services", |context, request| Box::pin(services(context, request)))
        .get("/v1/internal/service-owners/{address}", |context, request| {
            Box::pin(owners(context, request))
        })
}

/// `GET /v1/catalog/datacenters`
async fn datacenters(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let read = page::read(context, request, [Topic::Cluster], |state, _| {
        let names = state.cluster().map(|cluster| vec![cluster.datacenter.clone()]);
        Ok((state.index(), Some(names.unwrap_or_default())))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/catalog/nodes`
async fn nodes(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let (filter, meta) = (request.query.filter(Some(&NODE))?, request.query.node_meta());
    let near = Near::of(request);
    let read = page::read(context, request, [Topic::Nodes], |state, rights| {
        let (index, mut nodes) = state.nodes();
        nodes.retain(|node| has_meta(node, &meta) && rights.see_node(&node.name));
        if let Some(filter) = &filter {
            nodes.retain(|node| filter.matches_record(node));
        }
        if let Some(near) = &near {
            near.sort(state, &mut nodes, |node| &node.name);
        }
        Ok((index, Some(nodes)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/catalog/services`
async fn services(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let meta = request.query.node_meta();
    let filter = request.query.filter(Some(&CATALOG_SERVICE))?;
    let by_instance = !meta.is_empty() || filter.is_some();
    let mut topics = vec![Topic::ServiceList];
    if by_instance {
        // A filter may ask for anything of an instance, of which no narrower topic tells.
        topics.extend([Topic::Nodes, Topic::Checks]);
    }
    let read = page::read(context, request, topics, |state, rights| {
        let (index, mut services) = state.services();
        services.retain(|name, _| rights.see_name(name));
        if !by_instance {
            return Ok((index, Some(services)));
        }
        let mut chosen = ServiceTags::new();
        for name in services.into_keys() {
            for instance in state.service_instances(&name).1 {
                let is_meant =
                    has_meta(&instance.node, &meta) && rights.see_node(&instance.node.name);
                if !is_meant {
                    continue;
                }
                let body = CatalogService::from(instance);
                if filter.as_ref().is_none_or(|filter| filter.matches_record(&body)) {
                    chosen.entry(body.service_name).or_default().extend(body.service_tags);
                }
            }
        }
        Ok((state.catalog_index(), Some(chosen)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/catalog/service/:name`
async fn service(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    instances(context, request, Instances::Service).await
}

/// `GET /v1/catalog/connect/:name`
async fn connect(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    instances(context, request, Instances::Connect).await
}

async fn instances(
    context: &Context,
    request: &ApiRequest,
    which: Instances,
) -> Result<Response<Body>, ApiError> {
    let wanted = Wanted::read(request, which)?;
    let filter = request.query.filter(Some(&CATALOG_SERVICE))?;
    let read = page::read(context, request, wanted.topics(), |state, rights| {
        let (index, instances) = wanted.look(state, rights);
        let mut bodies: Vec<CatalogService> =
            instances.into_iter().map(CatalogService::from).collect();
        if let Some(filter) = &filter {
            bodies.retain(|body| filter.matches_record(body));
        }
        Ok((index, Some(bodies)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/catalog/node/:node`
async fn node(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct NodeServices {
        node: Node,
        services: BTreeMap<String, Service>,
    }
    let name = node_name(request.params.get("node"))?;
    let filter = request.query.filter(Some(&SERVICE))?;
    let read = page::read(context, request, [Topic::node(&name)], |state, rights| {
        let found = state.node(&name).filter(|found| rights.see_node(&found.node.name));
        let found = found.map(|found| NodeServices {
            node: found.node,
            services: found
                .services
                .into_iter()
                .filter(|it| rights.see_service(it))
                .filter(|it| filter.as_ref().is_none_or(|filter| filter.matches_record(it)))
                .map(|it| (it.id.to_string(), it))
                .collect(),
        });
        Ok((state.catalog_index(), found))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/catalog/node-services/:node`
async fn node_services(
    context: &Context,
    request: &ApiRequest,
) -> Result<Response<Body>, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct NodeServiceList {
        node: Option<Node>,
        services: Vec<Service>,
    }
    let name = node_name(request.params.get("node"))?;
    let filter = request.query.filter(Some(&SERVICE))?;
    let read = page::read(context, request, [Topic::node(&name)], |state, rights| {
        let found = state.node(&name).filter(|found| rights.see_node(&found.node.name));
        let (node, mut services) = match found {
            Some(found) => (Some(found.node), found.services),
            None => (None, Vec::new()),
        };
        services.retain(|it| {
            rights.see_service(it) && filter.as_ref().is_none_or(|filter| filter.matches_record(it))
        });
        Ok((state.catalog_index(), Some(NodeServiceList { node, services })))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/internal/service-owners/:address`: the instances whose own address it is, for the DNS
/// of agents.
async fn owners(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let text = request.params.get("address");
    let address: IpAddr = text
        .parse()
        .map_err(|_| ApiError::bad_request(format!("{text:?} is not an IP address")))?;
    let topics = [Topic::ServiceList, Topic::Nodes, Topic::Checks];
    let read = page::read(context, request, topics, |state, rights| {
        let (index, services) = state.services();
        let has = |text: &str| text.parse::<IpAddr>() == Ok(address);
        let found = services.keys().flat_map(|name| state.service_instances(name).1);
        let found: Vec<ServiceInstance> = found
            .filter(|found| has(&found.service.address) && rights.see_instance(found))
            .take(OWNERS_MAX)
            .collect();
        Ok((index, Some(found)))
    });
    Ok(read.await?.or_null(context))
}

/// Reads a node's name from the path.
pub(super) fn node_name(text: &str) -> Result<NodeName, ApiError> {
    NodeName::parse(text).map_err(|error| ApiError::bad_request(error.to_string()))
}
