//! Auth methods.

use http::Response;
use weft_core::acl::{AuthConfig, AuthMethod, AuthMethodName, JwtKeys, Permission, Resource};
use weft_core::state::{AclCommand, Command, Writing};
use weft_core::watch::Topic;
use weft_proto::json::Fault;
use weft_proto::json::login::{AuthMethodBody, HIDDEN, show_method, show_method_briefly};
use weft_runtime::http::Body;
use weft_runtime::jwt::is_public_key;

use super::{ApiError, ApiRequest, Context, Routes, enabled};
use crate::acl::seal_reviewer;
use crate::http::page;
use crate::read::Consistency;

pub(super) fn routes(table: Routes) -> Routes {
    const ONE: &str = "/v1/acl/auth-method/{name}";
    table
        .get("/v1/acl/auth-methods", |context, request| Box::pin(list(context, request)))
        .put("/v1/acl/auth-method", |context, request| Box::pin(create(context, request)))
        .get(ONE, |context, request| Box::pin(show(context, request)))
        .put(ONE, |context, request| Box::pin(update(context, request)))
        .delete(ONE, |context, request| Box::pin(delete(context, request)))
}

/// `GET /v1/acl/auth-methods`
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let read = page::read(context, request, [Topic::AclLogins], |state, rights| {
        rights.require(Permission::read(Resource::Acl, ""))?;
        let methods = state.acl().auth_methods();
        let shown: Vec<_> = methods.iter().map(|method| show_method_briefly(method)).collect();
        Ok((state.acl().auth_methods_index(), Some(shown)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/acl/auth-method/:name`
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let name = name(request)?;
    let read = page::read(context, request, [Topic::AclLogins], |state, rights| {
        rights.require(Permission::read(Resource::Acl, ""))?;
        let found = state.acl().auth_method(&name).map(|method| show_method(&method));
        Ok((state.acl().auth_methods_index(), found))
    });
    Ok(read.await?.or_not_found(context, format!("auth method {name:?} not found")))
}

/// `PUT /v1/acl/auth-method`
async fn create(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let body = AuthMethodBody::decode(&request.body)?;
    write(context, request, body.method(None)?, Writing::Create).await
}

/// `PUT /v1/acl/auth-method/:name`
async fn update(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = name(request)?;
    let mut body = AuthMethodBody::decode(&request.body)?;
    if body.kind.is_empty() {
        let state = context.reader.state(Consistency::Default).await?;
        let present = state.acl().auth_method(&name);
        body.kind = present.map_or_else(String::new, |present| present.kind().to_owned());
    }
    write(context, request, body.method(Some(name.as_str()))?, Writing::Update).await
}

async fn write(
    context: &Context,
    request: &ApiRequest,
    method: AuthMethod,
    writing: Writing,
) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    // Before anything of the present method is used for the answer.
    request.rights.require(Permission::write(Resource::Acl, ""))?;
    let method = completed(context, method).await?;
    let name = method.name.clone();
    let command = Command::Acl(AclCommand::WriteAuthMethod { method, writing });
    context.proposer.write(&request.caller, command).await?;
    let state = context.reader.newest();
    // Removed again in the meantime: the write was done all the same.
    let written = state.acl().auth_method(&name).map(|method| show_method(&method));
    Ok(page::json_response(page::json(&written)?))
}

/// Checks public keys, and seals the reviewer's token.
async fn completed(context: &Context, mut method: AuthMethod) -> Result<AuthMethod, ApiError> {
    match &mut method.config {
        AuthConfig::Jwt(config) => {
            let JwtKeys::Pem(keys) = &config.keys else { return Ok(method) };
            let wrong: Vec<Fault> = keys
                .iter()
                .enumerate()
                .filter(|(_, key)| !is_public_key(key))
                .map(|(at, _)| {
                    let path = format!("Config.JWTValidationPubKeys[{at}]");
                    Fault::new(path, "is no public key in PEM (RSA, EC or Ed25519)")
                })
                .collect();
            if !wrong.is_empty() {
                return Err(wrong.into());
            }
        }
        AuthConfig::Kubernetes(config) if config.reviewer_jwt == HIDDEN => {
            let state = context.reader.state(Consistency::Default).await?;
            let present = state.acl().auth_method(&method.name);
            let kept = present.and_then(|present| match &present.config {
                AuthConfig::Kubernetes(present) => Some(present.reviewer_jwt.clone()),
                AuthConfig::Jwt(_) => None,
            });
            let reason = "Config.ServiceAccountJWT: there is none that could be kept";
            config.reviewer_jwt = kept.ok_or_else(|| ApiError::bad_request(reason))?;
        }
        AuthConfig::Kubernetes(config) => {
            config.reviewer_jwt = seal_reviewer(&config.reviewer_jwt, &context.seal);
        }
    }
    Ok(method)
}

/// `DELETE /v1/acl/auth-method/:name`
async fn delete(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let command = Command::Acl(AclCommand::DeleteAuthMethod { name: name(request)? });
    context.proposer.write(&request.caller, command).await?;
    Ok(page::verdict(true))
}

fn name(request: &ApiRequest) -> Result<AuthMethodName, ApiError> {
    AuthMethodName::parse(request.params.get("name"))
        .map_err(|error| ApiError::bad_request(error.to_string()))
}
