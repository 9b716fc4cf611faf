//! `/v1/connect/intentions` by id, as older clients write them.
//!
//! **Source**: Consul: api-docs/connect/intentions#deprecated-endpoints.

use http::Response;
use serde_json::json;
use weft_core::acl::{Permission, Resource};
use weft_core::config_entry::{EntryKind, IntentionSource, SourceName};
use weft_core::state::{Command, IntentionCommand};
use weft_core::watch::Topic;
use weft_proto::json::Fault;
use weft_proto::json::intention::{IntentionBody, decode_legacy};
use weft_runtime::http::Body;
use weft_runtime::{clock, entropy};

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    const ONE: &str = "/v1/connect/intentions/{id}";
    table
        .post("/v1/connect/intentions", |context, request| Box::pin(create(context, request)))
        .get(ONE, |context, request| Box::pin(show(context, request)))
        .put(ONE, |context, request| Box::pin(update(context, request)))
        .delete(ONE, |context, request| Box::pin(delete(context, request)))
}

/// `POST /v1/connect/intentions`
async fn create(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let (destination, mut source) = decode(request)?;
    source.legacy_id = entropy::uuid();
    source.legacy_create_time = clock::wall().rfc3339();
    source.legacy_update_time.clone_from(&source.legacy_create_time);
    let body = page::json(&json!({ "ID": source.legacy_id }))?;
    let command = Command::Intention(IntentionCommand::Create { destination, source });
    context.proposer.write(&request.caller, command).await?;
    Ok(page::json_response(body))
}

/// `GET /v1/connect/intentions/:id`
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let id = id(request)?;
    let topic = Topic::EntryKind(EntryKind::ServiceIntentions);
    let read = page::read(context, request, [topic], |state, rights| {
        let found = state.intention(id);
        if let Some((entry, _)) = found {
            rights.require(Permission::read(Resource::Intention, entry.name.as_str()))?;
        }
        let found = found.map(|(entry, source)| IntentionBody::new(entry, source));
        Ok((state.entry_kind_index(EntryKind::ServiceIntentions), found))
    });
    Ok(read.await?.or_not_found(context, "Intention not found".to_owned()))
}

/// `PUT /v1/connect/intentions/:id`
async fn update(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let id = id(request)?;
    let (destination, mut source) = decode(request)?;
    source.legacy_id = id.to_owned();
    source.legacy_update_time = clock::wall().rfc3339();
    let body = page::json(&json!({ "ID": id }))?;
    let command = Command::Intention(IntentionCommand::Update { destination, source });
    context.proposer.write(&request.caller, command).await?;
    Ok(page::json_response(body))
}

/// `DELETE /v1/connect/intentions/:id`
async fn delete(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let id = id(request)?.to_owned();
    let command = Command::Intention(IntentionCommand::Delete { id });
    context.proposer.write(&request.caller, command).await?;
    Ok(page::verdict(true))
}

fn id(request: &ApiRequest) -> Result<&str, ApiError> {
    let id = request.params.get("id");
    let is_uuid = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    match is_uuid {
        true => Ok(id),
        false => Err(ApiError::bad_request("failed intention lookup: the ID is not a UUID")),
    }
}

/// Reads who calls whom and what is done with it.
fn decode(request: &ApiRequest) -> Result<(SourceName, IntentionSource), ApiError> {
    let body = decode_legacy(&request.body)?;
    let mut faults = Vec::new();
    let mut name = |field: &str, text: &str| {
        SourceName::parse(text).map_err(|error| faults.push(Fault::new(field, error.to_string())))
    };
    let names =
        (name("SourceName", &body.source_name), name("DestinationName", &body.destination_name));
    let (Ok(source), Ok(destination)) = names else { return Err(faults.into()) };
    let meta = body.meta.clone();
    let mut source = body.source(source);
    source.legacy_meta = meta;
    Ok((destination, source))
}
