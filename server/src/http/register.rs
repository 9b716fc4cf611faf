//! `/v1/catalog/register` and `/v1/catalog/deregister`: records of hosts that have no agent.
//!
//! **Source**: Consul: api-docs/catalog#register-entity, #deregister-entity.

use http::Response;
use weft_core::catalog::Node;
use weft_core::name::{Datacenter, NodeName};
use weft_core::state::Command;
use weft_proto::json::registration::{CatalogRegister, decode_deregister, decode_register};
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};
use crate::read::Consistency;

pub(super) fn routes(table: Routes) -> Routes {
    table
        .put("/v1/catalog/deregister", |context, request| Box::pin(deregister(context, request)))
        .put("/v1/catalog/register", |context, request| Box::pin(register(context, request)))
}

/// `PUT /v1/catalog/register`
async fn register(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let body = decode_register(&request.body)?;
    let present = present(context, &body).await?;
    let registration = body.registration(&own(context)?, present)?;
    let command = match request.caller.is_agent_of(&registration.node.name) {
        true => Command::Register(registration),
        false => Command::RegisterExternal(registration),
    };
    context.proposer.write(&request.caller, command).await?;
    Ok(page::verdict(true))
}

/// `PUT /v1/catalog/deregister`
async fn deregister(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let deregistration = decode_deregister(&request.body)?.deregistration(&own(context)?)?;
    let command = match request.caller.is_agent_of(&deregistration.node) {
        true => Command::Deregister(deregistration),
        false => Command::DeregisterExternal(deregistration),
    };
    context.proposer.write(&request.caller, command).await?;
    Ok(page::verdict(true))
}

/// The node as it is, if it is to stay so.
async fn present(context: &Context, body: &CatalogRegister) -> Result<Option<Node>, ApiError> {
    if !body.skip_node_update {
        return Ok(None);
    }
    // A name that is none is told of with the other faults.
    let Ok(name) = NodeName::parse(&body.node) else { return Ok(None) };
    let state = context.reader.state(Consistency::Default).await?;
    Ok(state.node(&name).map(|found| found.node))
}

pub(super) fn own(context: &Context) -> Result<Datacenter, ApiError> {
    let state = context.reader.newest();
    let cluster = state.cluster().map(|cluster| cluster.datacenter.clone());
    let text = "the cluster has no identity yet";
    cluster.ok_or_else(|| ApiError::new(http::StatusCode::SERVICE_UNAVAILABLE, text))
}
