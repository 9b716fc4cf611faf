//! Templated policies: which there are, and what one comes to.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use weft_core::acl::{Permission, Resource, Template, TemplateVariables, UnknownTemplate};
use weft_proto::json::{Unknown, from_slice};
use weft_runtime::http::Body;

use super::{ApiError, ApiRequest, Context, Routes, enabled};
use crate::http::page;

pub(super) fn routes(table: Routes) -> Routes {
    table
        .get("/v1/acl/templated-policies", |context, request| Box::pin(list(context, request)))
        .get("/v1/acl/templated-policy/name/{*name}", |context, request| {
            Box::pin(show(context, request))
        })
        .post("/v1/acl/templated-policy/preview/{*name}", |context, request| {
            Box::pin(preview(context, request))
        })
}

/// `GET /v1/acl/templated-policies`
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    may_read(context, request)?;
    let all: BTreeMap<&str, Value> =
        Template::ALL.into_iter().map(|it| (it.as_str(), describe(it))).collect();
    Ok(page::json_response(page::json(&all)?))
}

/// `GET /v1/acl/templated-policy/name/:name`
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    may_read(context, request)?;
    let template = template(request)?;
    Ok(page::json_response(page::json(&describe(template))?))
}

/// `POST /v1/acl/templated-policy/preview/:name`
async fn preview(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    may_read(context, request)?;
    let template = template(request)?;
    let body =
        if request.body.is_empty() { Bytes::from_static(b"{}") } else { request.body.clone() };
    let TemplateVariables { name } = from_slice(&body, Unknown::Ignore)?;
    if template.needs_name() && name.is_empty() {
        return Err(ApiError::bad_request(format!("Name: {template} needs one")));
    }
    let rules = template.rules(&name);
    let shown = json!({
        "Name": "synthetic policy",
        "Description": format!("synthetic policy generated from templated policy: {template}"),
        "Rules": rules.to_string(),
    });
    Ok(page::json_response(page::json(&shown)?))
}

fn may_read(context: &Context, request: &ApiRequest) -> Result<(), ApiError> {
    enabled(context)?;
    Ok(request.rights.require(Permission::read(Resource::Acl, ""))?)
}

fn template(request: &ApiRequest) -> Result<Template, ApiError> {
    let name = request.params.get("name");
    name.parse().map_err(|error: UnknownTemplate| ApiError::bad_request(error.to_string()))
}

fn describe(template: Template) -> Value {
    let (schema, shown) = match template.needs_name() {
        true => (
            r#"{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}"#,
            "${name}",
        ),
        false => ("", ""),
    };
    json!({
        "TemplateName": template.as_str(),
        "Schema": schema,
        "Template": template.rules(shown).to_string(),
        "Description": template.description(),
    })
}
