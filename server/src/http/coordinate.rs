//! `/v1/coordinate/…`: where nodes are, as they say.
//!
//! **Source**: Consul: api-docs/coordinate.

use http::Response;
use weft_core::name::NodeName;
use weft_core::state::Command;
use weft_core::watch::Topic;
use weft_proto::json::coordinate::{DatacenterCoordinates, decode_update};
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page, register};

pub(super) fn routes(table: Routes) -> Routes {
    table
        .get("/v1/coordinate/datacenters", |context, _| Box::pin(datacenters(context)))
        .get("/v1/coordinate/node/{node}", |context, request| Box::pin(node(context, request)))
        .get("/v1/coordinate/nodes", |context, request| Box::pin(nodes(context, request)))
        .put("/v1/coordinate/update", |context, request| Box::pin(update(context, request)))
}

/// `GET /v1/coordinate/datacenters`
async fn datacenters(context: &Context) -> Result<Response<Body>, ApiError> {
    let (datacenter, area_id) = (register::own(context)?, "wan".to_owned());
    let own = DatacenterCoordinates { datacenter, area_id, coordinates: Vec::new() };
    Ok(page::json_response(page::json(&[own])?))
}

/// `GET /v1/coordinate/nodes`
async fn nodes(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let segment = request.query.value("segment").unwrap_or_default();
    let read = page::read(context, request, [Topic::Coordinates], |state, rights| {
        let all = state.coordinates().list();
        let seen = all.filter(|it| it.segment == segment && rights.see_node(&it.node)).cloned();
        Ok((state.coordinates().index(), Some(seen.collect::<Vec<_>>())))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/coordinate/node/:node`
async fn node(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = NodeName::parse(request.params.get("node"))
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let read = page::read(context, request, [Topic::Coordinates], |state, rights| {
        let found = state.coordinates().of_node(&name).filter(|_| rights.see_node(&name));
        Ok((state.coordinates().index(), found.map(|found| vec![found.clone()])))
    });
    Ok(read.await?.or_not_found(context, String::new()))
}

/// `PUT /v1/coordinate/update`
async fn update(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let command = Command::Coordinate(decode_update(&request.body)?);
    context.proposer.write(&request.caller, command).await?;
    Ok(page::json_response(bytes::Bytes::new()))
}
