//! Binding rules.

use http::Response;
use weft_core::acl::{AuthMethodName, BindingRule, BindingRuleId, Permission, Resource};
use weft_core::state::{AclCommand, Command, Writing};
use weft_core::watch::Topic;
use weft_proto::json::login::{BindingRuleBody, show_rule};
use weft_runtime::entropy;
use weft_runtime::http::Body;

use super::{ApiError, ApiRequest, Context, Routes, enabled};
use crate::http::page;
use crate::read::Consistency;

pub(super) fn routes(table: Routes) -> Routes {
    const ONE: &str = "/v1/acl/binding-rule/{id}";
    table
        .get("/v1/acl/binding-rules", |context, request| Box::pin(list(context, request)))
        .put("/v1/acl/binding-rule", |context, request| Box::pin(create(context, request)))
        .get(ONE, |context, request| Box::pin(show(context, request)))
        .put(ONE, |context, request| Box::pin(update(context, request)))
        .delete(ONE, |context, request| Box::pin(delete(context, request)))
}

/// `GET /v1/acl/binding-rules`
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let method = request.query.value("authmethod").map(AuthMethodName::parse).transpose();
    let method = method.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let read = page::read(context, request, [Topic::AclLogins], |state, rights| {
        rights.require(Permission::read(Resource::Acl, ""))?;
        let rules = state.acl().binding_rules(method.as_ref());
        let shown: Vec<_> = rules.iter().map(|rule| show_rule(rule)).collect();
        Ok((state.acl().binding_rules_index(), Some(shown)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/acl/binding-rule/:id`
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let id = id(request)?;
    let read = page::read(context, request, [Topic::AclLogins], |state, rights| {
        rights.require(Permission::read(Resource::Acl, ""))?;
        let found = state.acl().binding_rule(&id).map(|rule| show_rule(&rule));
        Ok((state.acl().binding_rules_index(), found))
    });
    Ok(read.await?.or_not_found(context, format!("binding rule {id} not found")))
}

/// `PUT /v1/acl/binding-rule`
async fn create(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let id = BindingRuleId::parse(&entropy::uuid()).expect("a UUID that was just made is one");
    let rule = BindingRuleBody::decode(&request.body)?.rule(id)?;
    write(context, request, rule, Writing::Create).await
}

/// `PUT /v1/acl/binding-rule/:id`
async fn update(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let id = id(request)?;
    let mut body = BindingRuleBody::decode(&request.body)?;
    if body.auth_method.is_empty() {
        let state = context.reader.state(Consistency::Default).await?;
        let present = state.acl().binding_rule(&id);
        let method = present.map(|rule| rule.auth_method.to_string());
        body.auth_method = method.unwrap_or_default();
    }
    write(context, request, body.rule(id)?, Writing::Update).await
}

async fn write(
    context: &Context,
    request: &ApiRequest,
    rule: BindingRule,
    writing: Writing,
) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let id = rule.id.clone();
    let command = Command::Acl(AclCommand::WriteBindingRule { rule, writing });
    context.proposer.write(&request.caller, command).await?;
    let written = context.reader.newest().acl().binding_rule(&id).map(|rule| show_rule(&rule));
    Ok(page::json_response(page::json(&written)?))
}

/// `DELETE /v1/acl/binding-rule/:id`
async fn delete(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let command = Command::Acl(AclCommand::DeleteBindingRule { id: id(request)? });
    context.proposer.write(&request.caller, command).await?;
    Ok(page::verdict(true))
}

fn id(request: &ApiRequest) -> Result<BindingRuleId, ApiError> {
    BindingRuleId::parse(request.params.get("id"))
        .map_err(|error| ApiError::bad_request(error.to_string()))
}
