//! `/v1/discovery-chain/:service/explain`: where one request goes, by which decisions, and who is
//! there. Consul has no such page.

use http::Response;
use serde_json::{Map, Value, json};
use weft_core::acl::{Permission, Resource};
use weft_core::chain::{ChainOverrides, CompiledChain, select};
use weft_core::config_entry::EntryKind;
use weft_core::state::State;
use weft_core::traffic::{RequestView, explain};
use weft_core::watch::Topic;
use weft_runtime::http::Body;

use super::asked_line::line;
use super::error::ApiError;
use super::request::{ApiRequest, service_name};
use super::routes::Routes;
use super::{Context, page};
use crate::acl::Rights;

pub(super) fn routes(table: Routes) -> Routes {
    table.get("/v1/discovery-chain/{service}/explain", |context, request| {
        Box::pin(show(context, request))
    })
}

/// `GET /v1/discovery-chain/:service/explain`
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = service_name(request.params.get("service"))?;
    let line = line(&request.query)?;
    let source = request.query.value("source").map(service_name).transpose()?;
    let topics = EntryKind::OF_CHAINS.into_iter().map(Topic::EntryKind).chain([Topic::ServiceList]);
    let read = page::read(context, request, topics, |state, rights| {
        rights.require(Permission::read(Resource::Service, name.as_str()))?;
        let chain = state.compile_chain_with(&name, ChainOverrides::default());
        let chain = chain.map_err(ApiError::bad_request)?;
        let is_http = chain.protocol.is_http_like();
        if is_http && line.is_none() {
            let text = "Missing query parameter 'path': each request is routed by itself";
            return Err(ApiError::bad_request(text.to_owned()));
        }
        let asked = line.as_ref().filter(|_| is_http).map(|line| line as &dyn RequestView);
        let decided = explain(&chain, asked, source.as_ref());
        let decided = decided.map_err(|error| ApiError::bad_request(error.to_string()))?;
        let body = json!({
            "Service": chain.service_name,
            "Protocol": chain.protocol,
            "Decision": decided,
            "Targets": targets(state, rights, &chain),
        });
        let kinds = EntryKind::OF_CHAINS.into_iter();
        let index = kinds.map(|kind| state.entry_kind_index(kind)).max().unwrap_or_default();
        Ok((index, Some(body)))
    });
    Ok(read.await?.or_null(context))
}

/// What is behind each target: the instances that would be called, as far as the caller may see them.
fn targets(state: &State, rights: &Rights, chain: &CompiledChain) -> Map<String, Value> {
    let shown = chain.targets.iter().map(|(id, target)| {
        let (_, instances) = state.connect_instances(&target.service);
        let seen = instances.iter().filter(|it| rights.see_instance(it)).cloned();
        let seen: Vec<_> = seen.collect();
        let endpoints: Vec<Value> = select(target, &seen)
            .into_iter()
            .map(|endpoint| {
                json!({
                    "ID": endpoint.instance,
                    "Address": endpoint.address,
                    "Weight": endpoint.weight,
                })
            })
            .collect();
        let body = json!({
            "Service": target.service,
            "ServiceSubset": target.service_subset,
            "SNI": target.sni,
            "Outside": target.outside.as_ref().map(|outside| &outside.addresses),
            "Instances": seen.len(),
            "Endpoints": endpoints,
        });
        (id.to_string(), body)
    });
    shown.collect()
}
