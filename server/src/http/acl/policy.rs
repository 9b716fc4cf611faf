//! `/v1/acl/polic…`: policies.
//!
//! **Source**: Consul: api-docs/acl/policies.

use std::sync::Arc;

use ::http::Response;
use weft_core::acl::{Permission, Policy, PolicyId, PolicyName, Resource};
use weft_core::state::{AclCommand, AclState, Command, Writing};
use weft_core::watch::Topic;
use weft_proto::json::acl::PolicyUpsert;
use weft_proto::json::{Unknown, from_slice};
use weft_runtime::entropy;
use weft_runtime::http::Body;

use super::{enabled, missing, show};
use crate::http::error::ApiError;
use crate::http::request::ApiRequest;
use crate::http::routes::Routes;
use crate::http::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    table
        .get("/v1/acl/policies", |context, request| Box::pin(list(context, request)))
        .put("/v1/acl/policy", |context, request| Box::pin(create(context, request)))
        .get("/v1/acl/policy/name/{*name}", |context, request| Box::pin(named(context, request)))
        .get("/v1/acl/policy/{id}", |context, request| Box::pin(read(context, request)))
        .put("/v1/acl/policy/{id}", |context, request| Box::pin(update(context, request)))
        .delete("/v1/acl/policy/{id}", |context, request| Box::pin(delete(context, request)))
}

/// `GET /v1/acl/policies`
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let read = page::read(context, request, [Topic::AclPolicies], |state, rights| {
        rights.require(Permission::read(Resource::Acl, ""))?;
        let policies = state.acl().policies();
        let bodies: Vec<_> = policies.iter().map(|policy| show::policy(policy, false)).collect();
        Ok((state.acl().policies_index(), Some(bodies)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/acl/policy/:id`
async fn read(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let id = id(request)?;
    one(context, request, |acl| acl.policy(&id)).await
}

/// `GET /v1/acl/policy/name/:name`
async fn named(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = PolicyName::parse(request.params.get("name"))
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    one(context, request, |acl| acl.policy_named(&name)).await
}

async fn one(
    context: &Context,
    request: &ApiRequest,
    find: impl Fn(&AclState) -> Option<Arc<Policy>> + Send + Sync,
) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let read = page::read(context, request, [Topic::AclPolicies], |state, rights| {
        rights.require(Permission::read(Resource::Acl, ""))?;
        let found = find(state.acl()).ok_or_else(|| missing("policy"))?;
        Ok((state.acl().policies_index(), Some(show::policy(&found, true))))
    });
    Ok(read.await?.or_null(context))
}

/// `PUT /v1/acl/policy`
async fn create(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let body: PolicyUpsert = from_slice(&request.body, Unknown::Ignore)?;
    if !body.id.is_empty() {
        return Err(ApiError::bad_request("Cannot specify the ID when creating a new policy"));
    }
    let id = PolicyId::parse(&entropy::uuid())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    write(context, request, body.policy(id)?, Writing::Create).await
}

/// `PUT /v1/acl/policy/:id`
async fn update(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let id = id(request)?;
    let body: PolicyUpsert = from_slice(&request.body, Unknown::Ignore)?;
    if !body.id.is_empty() && body.id != id.as_str() {
        return Err(ApiError::bad_request("Policy ID in URL and payload do not match"));
    }
    write(context, request, body.policy(id)?, Writing::Update).await
}

/// `DELETE /v1/acl/policy/:id`
async fn delete(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let command = Command::Acl(AclCommand::DeletePolicy { id: id(request)? });
    context.proposer.write(&request.caller, command).await?;
    Ok(page::verdict(true))
}

async fn write(
    context: &Context,
    request: &ApiRequest,
    policy: Policy,
    writing: Writing,
) -> Result<Response<Body>, ApiError> {
    let id = policy.id.clone();
    let command = Command::Acl(AclCommand::WritePolicy { policy, writing });
    context.proposer.write(&request.caller, command).await?;
    let written = context.reader.newest().acl().policy(&id).ok_or_else(|| missing("policy"))?;
    Ok(page::json_response(page::json(&show::policy(&written, true))?))
}

fn id(request: &ApiRequest) -> Result<PolicyId, ApiError> {
    PolicyId::parse(request.params.get("id"))
        .map_err(|error| ApiError::bad_request(error.to_string()))
}
