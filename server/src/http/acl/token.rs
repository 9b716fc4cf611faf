//! `/v1/acl/token…`: tokens.
//!
//! **Source**: Consul: api-docs/acl/tokens.

use ::http::Response;
use serde::Serialize;
use weft_core::acl::{AccessorId, Granted, Link, Permission, Resource, Token};
use weft_core::state::{AclCommand, AclState, Command, Expiry, TokenDraft, Writing};
use weft_core::watch::Topic;
use weft_proto::json::acl::{HIDDEN, TokenBody, TokenUpsert, decode_token};
use weft_proto::text::Fault;
use weft_runtime::http::Body;
use weft_runtime::{clock, entropy};

use super::expand::TokenExpanded;
use super::{enabled, missing, show};
use crate::acl::Secret;
use crate::http::error::ApiError;
use crate::http::request::{ApiRequest, Query};
use crate::http::routes::Routes;
use crate::http::{Context, page};
use crate::read::Consistency;

pub(super) fn routes(table: Routes) -> Routes {
    table
        .put("/v1/acl/token", |context, request| Box::pin(create(context, request)))
        .get("/v1/acl/token/self", |context, request| Box::pin(own(context, request)))
        .get("/v1/acl/token/{accessor}", |context, request| Box::pin(read(context, request)))
        .put("/v1/acl/token/{accessor}", |context, request| Box::pin(update(context, request)))
        .delete("/v1/acl/token/{accessor}", |context, request| Box::pin(delete(context, request)))
        .put("/v1/acl/token/{accessor}/clone", |context, request| Box::pin(clone(context, request)))
        .get("/v1/acl/tokens", |context, request| Box::pin(list(context, request)))
}

/// `PUT /v1/acl/token`
async fn create(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let TokenUpsert { fields, grants } = decode_token(&request.body)?;
    let expiry = fields.expiry().map_err(|fault| vec![fault])?;
    let accessor = match fields.accessor_id.as_str() {
        "" => entropy::uuid(),
        text => text.to_owned(),
    };
    let accessor = AccessorId::parse(&accessor)
        .map_err(|error| vec![Fault::new("AccessorID", error.to_string())])?;
    let secret = new_secret(&fields.secret_id)?;
    let draft = TokenDraft {
        accessor,
        secret: Some(secret.hash()),
        description: fields.description,
        grants: grants.grants()?,
        local: fields.local,
        auth_method: String::new(),
        expiry,
    };
    write(context, request, draft, Writing::Create, Some(&secret)).await
}

/// `PUT /v1/acl/token/:accessor`
async fn update(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let accessor = accessor(request)?;
    let TokenUpsert { fields, grants } = decode_token(&request.body)?;
    let expiry = fields.expiry().map_err(|fault| vec![fault])?;
    if !fields.accessor_id.is_empty() && fields.accessor_id != accessor.as_str() {
        let text = "Token Accessor ID in URL and payload do not match";
        return Err(ApiError::bad_request(text));
    }
    let secret = Secret::new(&fields.secret_id).filter(|secret| secret.shown() != HIDDEN);
    let draft = TokenDraft {
        accessor,
        secret: secret.as_ref().map(Secret::hash),
        description: fields.description,
        grants: grants.grants()?,
        local: fields.local,
        auth_method: String::new(),
        expiry,
    };
    write(context, request, draft, Writing::Update, secret.as_ref()).await
}

/// `PUT /v1/acl/token/:accessor/clone`
async fn clone(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    request.rights.require(Permission::write(Resource::Acl, ""))?;
    let accessor = accessor(request)?;
    let TokenUpsert { fields, .. } = decode_token(&request.body)?;
    let state = context.reader.state(Consistency::Default).await?;
    let original = live(state.acl(), &accessor).ok_or_else(|| missing("token"))?;
    let secret = new_secret("")?;
    let new = AccessorId::parse(&entropy::uuid())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let described = Some(fields.description).filter(|text| !text.is_empty());
    let draft = TokenDraft {
        accessor: new,
        secret: Some(secret.hash()),
        description: described.unwrap_or_else(|| format!("Clone of {}", original.description)),
        grants: links(state.acl(), &original.granted),
        local: Some(original.local),
        auth_method: String::new(),
        expiry: original.expires.map_or(Expiry::Unsaid, Expiry::At),
    };
    write(context, request, draft, Writing::Create, Some(&secret)).await
}

/// `DELETE /v1/acl/token/:accessor`
async fn delete(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let accessor = accessor(request)?;
    if request.rights.accessor() == Some(&accessor) && accessor != AccessorId::anonymous() {
        let text = "Deletion of the request's authorization token is not permitted";
        return Err(ApiError::bad_request(text));
    }
    let command = Command::Acl(AclCommand::DeleteToken { accessor });
    context.proposer.write(&request.caller, command).await?;
    Ok(page::verdict(true))
}

/// `GET /v1/acl/token/:accessor`
async fn read(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let accessor = accessor(request)?;
    let topics = [Topic::AclToken(accessor.clone()), Topic::AclPolicies, Topic::AclRoles];
    let read = page::read(context, request, topics, |state, rights| {
        rights.require(Permission::read(Resource::Acl, ""))?;
        let acl = state.acl();
        let found = live(acl, &accessor).ok_or_else(|| missing("token"))?;
        Ok((token_index(acl), Some(shown(context, request, acl, &found, None))))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/acl/token/self`: needs no right, as who shows the secret is told what it is good for.
async fn own(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let secret = request.credential.secret();
    let topics = [Topic::AclPolicies, Topic::AclRoles];
    let read = page::read(context, request, topics, |state, rights| {
        let acl = state.acl();
        let found = rights.accessor().and_then(|accessor| live(acl, accessor));
        let found = found.ok_or_else(|| missing("token"))?;
        Ok((token_index(acl), Some(shown(context, request, acl, &found, secret))))
    });
    Ok(read.await?.or_null(context))
}

/// A token as one is shown: as it is, or with all that it comes to.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown {
    AsItIs(Box<TokenBody>),
    Expanded(Box<TokenExpanded>),
}

fn shown(
    context: &Context,
    request: &ApiRequest,
    acl: &AclState,
    token: &Token,
    secret: Option<&Secret>,
) -> Shown {
    match request.query.has("expanded") {
        true => Shown::Expanded(Box::new(TokenExpanded::new(context, acl, token, secret))),
        false => Shown::AsItIs(Box::new(show::token(acl, token, secret))),
    }
}

/// `GET /v1/acl/tokens`
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let wanted = Wanted::of(&request.query);
    let topics = [Topic::AclTokens, Topic::AclPolicies, Topic::AclRoles];
    let read = page::read(context, request, topics, |state, rights| {
        rights.require(Permission::read(Resource::Acl, ""))?;
        let acl = state.acl();
        let tokens = acl.tokens(clock::wall());
        let tokens = tokens.iter().filter(|token| wanted.matches(token));
        let bodies: Vec<_> = tokens.map(|token| show::token(acl, token, None)).collect();
        Ok((token_index(acl), Some(bodies)))
    });
    Ok(read.await?.or_null(context))
}

/// Which tokens a list has.
struct Wanted<'a> {
    policy: Option<&'a str>,
    role: Option<&'a str>,
    auth_method: Option<&'a str>,
    service: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(query: &'a Query) -> Self {
        Self {
            policy: query.value("policy"),
            role: query.value("role"),
            auth_method: query.value("authmethod"),
            service: query.value("servicename"),
        }
    }

    fn matches(&self, token: &Token) -> bool {
        let Granted { policies, roles, service_identities, .. } = &token.granted;
        self.policy.is_none_or(|id| policies.iter().any(|it| it.as_str() == id))
            && self.role.is_none_or(|id| roles.iter().any(|it| it.as_str() == id))
            && self.auth_method.is_none_or(|name| token.auth_method == name)
            && self.service.is_none_or(|name| {
                service_identities.iter().any(|it| it.service_name.as_str() == name)
            })
    }
}

/// Writes a token and shows what came of it.
async fn write(
    context: &Context,
    request: &ApiRequest,
    token: TokenDraft,
    writing: Writing,
    secret: Option<&Secret>,
) -> Result<Response<Body>, ApiError> {
    let accessor = token.accessor.clone();
    let command = Command::Acl(AclCommand::WriteToken { token, writing });
    context.proposer.write(&request.caller, command).await?;
    // It was applied here before the write returned; nobody else may have removed it, yet.
    let state = context.reader.newest();
    let written = live(state.acl(), &accessor).ok_or_else(|| missing("token"))?;
    Ok(page::json_response(page::json(&show::token(state.acl(), &written, secret))?))
}

/// Returns a token whose time is not over.
fn live(acl: &AclState, accessor: &AccessorId) -> Option<std::sync::Arc<Token>> {
    acl.token(accessor).filter(|token| !token.is_expired(clock::wall()))
}

/// Bodies have the names of policies and roles.
fn token_index(acl: &AclState) -> weft_core::index::Index {
    acl.tokens_index().max(acl.policies_index()).max(acl.roles_index())
}

/// Names again what is granted, as far as it is still there.
fn links(acl: &AclState, granted: &Granted) -> weft_core::acl::Grants {
    let granted = granted.clone();
    let policies = granted.policies.into_iter().filter(|id| acl.policy(id).is_some());
    let roles = granted.roles.into_iter().filter(|id| acl.role(id).is_some());
    weft_core::acl::Grants {
        policies: policies.map(Link::Id).collect(),
        roles: roles.map(Link::Id).collect(),
        service_identities: granted.service_identities,
        node_identities: granted.node_identities,
        templated_policies: granted.templated_policies,
    }
}

/// Takes the secret that was asked for, or makes one.
///
/// **Source**: Consul: a secret is a UUID.
pub(super) fn new_secret(asked: &str) -> Result<Secret, ApiError> {
    let text = if asked.is_empty() { entropy::uuid() } else { asked.to_owned() };
    let secret = AccessorId::parse(&text).ok().and_then(|_| Secret::new(&text));
    secret.ok_or_else(|| vec![Fault::new("SecretID", "must be a UUID")].into())
}

fn accessor(request: &ApiRequest) -> Result<AccessorId, ApiError> {
    AccessorId::parse(request.params.get("accessor"))
        .map_err(|error| ApiError::bad_request(error.to_string()))
}
