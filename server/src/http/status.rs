//! `/v1/status/…`: who leads, and who takes part.
//!
//! **Source**: Consul: api-docs/status.

use http::Response;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    table
        .get("/v1/status/leader", |context, request| Box::pin(leader(context, request)))
        .get("/v1/status/peers", |context, request| Box::pin(peers(context, request)))
}

/// `GET /v1/status/leader`
async fn leader(context: &Context, _request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let leader = context.reader.standing().leader.map(|leader| leader.address);
    Ok(page::json_response(page::json(&leader.unwrap_or_default())?))
}

/// `GET /v1/status/peers`
async fn peers(context: &Context, _request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let mut peers: Vec<String> =
        context.reader.members().into_iter().map(|member| member.address).collect();
    peers.sort();
    Ok(page::json_response(page::json(&peers)?))
}
