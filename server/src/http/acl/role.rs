//! `/v1/acl/role…`: roles.
//!
//! **Source**: Consul: api-docs/acl/roles.

use std::sync::Arc;

use ::http::Response;
use weft_core::acl::{Permission, Resource, Role, RoleId, RoleName};
use weft_core::state::{AclCommand, AclState, Command, RoleDraft, Writing};
use weft_core::watch::Topic;
use weft_proto::json::acl::{GrantsBody, RoleFields, decode_role};
use weft_proto::text::Fault;
use weft_runtime::entropy;
use weft_runtime::http::Body;

use super::{enabled, missing, show};
use crate::http::error::ApiError;
use crate::http::request::ApiRequest;
use crate::http::routes::Routes;
use crate::http::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    table
        .get("/v1/acl/roles", |context, request| Box::pin(list(context, request)))
        .put("/v1/acl/role", |context, request| Box::pin(create(context, request)))
        .get("/v1/acl/role/name/{name}", |context, request| Box::pin(named(context, request)))
        .get("/v1/acl/role/{id}", |context, request| Box::pin(read(context, request)))
        .put("/v1/acl/role/{id}", |context, request| Box::pin(update(context, request)))
        .delete("/v1/acl/role/{id}", |context, request| Box::pin(delete(context, request)))
}

/// `GET /v1/acl/roles`; `policy` leaves those that have it.
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let policy = request.query.value("policy");
    let topics = [Topic::AclRoles, Topic::AclPolicies];
    let read = page::read(context, request, topics, |state, rights| {
        rights.require(Permission::read(Resource::Acl, ""))?;
        let acl = state.acl();
        let roles = acl.roles();
        let wanted = roles.iter().filter(|role| {
            policy.is_none_or(|id| role.granted.policies.iter().any(|it| it.as_str() == id))
        });
        let bodies: Vec<_> = wanted.map(|role| show::role(acl, role)).collect();
        Ok((acl.roles_index().max(acl.policies_index()), Some(bodies)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/acl/role/:id`
async fn read(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let id = id(request)?;
    one(context, request, |acl| acl.role(&id)).await
}

/// `GET /v1/acl/role/name/:name`
async fn named(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = RoleName::parse(request.params.get("name"))
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    one(context, request, |acl| acl.role_named(&name)).await
}

async fn one(
    context: &Context,
    request: &ApiRequest,
    find: impl Fn(&AclState) -> Option<Arc<Role>> + Send + Sync,
) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let topics = [Topic::AclRoles, Topic::AclPolicies];
    let read = page::read(context, request, topics, |state, rights| {
        rights.require(Permission::read(Resource::Acl, ""))?;
        let acl = state.acl();
        let found = find(acl).ok_or_else(|| missing("role"))?;
        Ok((acl.roles_index().max(acl.policies_index()), Some(show::role(acl, &found))))
    });
    Ok(read.await?.or_null(context))
}

/// `PUT /v1/acl/role`
async fn create(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let (fields, grants) = decode_role(&request.body)?;
    if !fields.id.is_empty() {
        return Err(ApiError::bad_request("Cannot specify the ID when creating a new role"));
    }
    let id = RoleId::parse(&entropy::uuid())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    write(context, request, draft(id, fields, grants)?, Writing::Create).await
}

/// `PUT /v1/acl/role/:id`
async fn update(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let id = id(request)?;
    let (fields, grants) = decode_role(&request.body)?;
    if !fields.id.is_empty() && fields.id != id.as_str() {
        return Err(ApiError::bad_request("Role ID in URL and payload do not match"));
    }
    write(context, request, draft(id, fields, grants)?, Writing::Update).await
}

/// `DELETE /v1/acl/role/:id`
async fn delete(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let command = Command::Acl(AclCommand::DeleteRole { id: id(request)? });
    context.proposer.write(&request.caller, command).await?;
    Ok(page::verdict(true))
}

fn draft(id: RoleId, fields: RoleFields, grants: GrantsBody) -> Result<RoleDraft, Vec<Fault>> {
    let name = RoleName::parse(&fields.name);
    match (name, grants.grants()) {
        (Ok(name), Ok(grants)) => {
            Ok(RoleDraft { id, name, description: fields.description, grants })
        }
        (name, grants) => {
            let name = name.err().map(|error| Fault::new("Name", error.to_string()));
            Err(name.into_iter().chain(grants.err().into_iter().flatten()).collect())
        }
    }
}

async fn write(
    context: &Context,
    request: &ApiRequest,
    role: RoleDraft,
    writing: Writing,
) -> Result<Response<Body>, ApiError> {
    let id = role.id.clone();
    let command = Command::Acl(AclCommand::WriteRole { role, writing });
    context.proposer.write(&request.caller, command).await?;
    let state = context.reader.newest();
    let written = state.acl().role(&id).ok_or_else(|| missing("role"))?;
    Ok(page::json_response(page::json(&show::role(state.acl(), &written))?))
}

fn id(request: &ApiRequest) -> Result<RoleId, ApiError> {
    RoleId::parse(request.params.get("id"))
        .map_err(|error| ApiError::bad_request(error.to_string()))
}
