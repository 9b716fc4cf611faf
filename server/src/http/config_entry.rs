//! `/v1/config…`: config entries.
//!
//! **Source**: Consul: api-docs/config.

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use weft_core::config_entry::{ConfigEntry, EntryKey, EntryKind, UnknownKind};
use weft_core::state::Command;
use weft_core::watch::Topic;
use weft_proto::json;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};
use crate::acl::read_entry;
use crate::ca::seal_entry_key;

pub(super) fn routes(table: Routes) -> Routes {
    table
        .put("/v1/config", |context, request| Box::pin(write(context, request)))
        .get("/v1/config/{kind}", |context, request| Box::pin(list(context, request)))
        .get("/v1/config/{kind}/{name}", |context, request| Box::pin(show(context, request)))
        .delete("/v1/config/{kind}/{name}", |context, request| Box::pin(delete(context, request)))
}

/// `PUT /v1/config`
async fn write(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let entry = with_sealed_key(context, json::config_entry::decode(&request.body)?)?;
    let warnings = entry.warnings();
    let command = Command::UpsertEntry { entry, cas: request.query.cas()? };
    let written = context.proposer.write(&request.caller, command).await?;
    let mut response = page::verdict(written.matched);
    if written.matched {
        warn(response.headers_mut(), &warnings);
    }
    Ok(response)
}

/// What of an entry has no effect yet is told beside the answer, whose shape is Consul's.
fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    for warning in warnings {
        // Names are ASCII; what came of a map's key and is not cannot stand in a header.
        let plain: String =
            warning.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
        if let Ok(value) = HeaderValue::from_str(&plain) {
            headers.append(HeaderName::from_static("x-weft-warning"), value);
        }
    }
}

/// A certificate's key is sealed before anything else sees it.
fn with_sealed_key(context: &Context, entry: ConfigEntry) -> Result<ConfigEntry, ApiError> {
    let key = entry.key();
    let ConfigEntry::InlineCertificate(mut entry) = entry else { return Ok(entry) };
    let state = context.reader.newest();
    let present = state.entry(&key).and_then(|present| present.as_inline_certificate());
    entry.private_key =
        seal_entry_key(&entry, present, &context.seal).map_err(ApiError::bad_request)?;
    Ok(ConfigEntry::InlineCertificate(entry))
}

/// `GET /v1/config/:kind`
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let kind = kind(request.params.get("kind"))?;
    let filter = request.query.filter(None)?;
    let read = page::read(context, request, [Topic::EntryKind(kind)], |state, rights| {
        let (index, entries) = state.entries(Some(kind));
        let mut entries: Vec<_> = entries
            .iter()
            .filter(|entry| read_entry(&entry.key()).is_none_or(|asked| rights.see(asked)))
            .map(ConfigEntry::shown)
            .collect();
        if let Some(filter) = &filter {
            entries.retain(|entry| filter.matches_record(&**entry));
        }
        Ok((index, Some(entries)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/config/:kind/:name`
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let (key, missing) = key(request)?;
    let read = page::read(context, request, [Topic::Entry(key.clone())], |state, rights| {
        if let Some(asked) = read_entry(&key) {
            rights.require(asked)?;
        }
        let found = state.entry(&key).map(ConfigEntry::shown);
        let index = match &found {
            Some(entry) => entry.indexes().1,
            None => state.entry_kind_index(key.kind),
        };
        Ok((index, found))
    });
    Ok(read.await?.or_not_found(context, missing))
}

/// `DELETE /v1/config/:kind/:name`
async fn delete(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let (key, _) = key(request)?;
    let cas = request.query.cas()?;
    let command = Command::DeleteEntry { key, cas };
    let written = context.proposer.write(&request.caller, command).await?;
    match cas {
        Some(_) => Ok(page::verdict(written.matched)),
        None => Ok(page::json_response(bytes::Bytes::from_static(b"{}"))),
    }
}

fn key(request: &ApiRequest) -> Result<(EntryKey, String), ApiError> {
    let (word, name) = (request.params.get("kind"), request.params.get("name"));
    let kind = kind(word)?;
    Ok((EntryKey::new(kind, name), format!("Config entry not found for {word:?} / {name:?}")))
}

fn kind(word: &str) -> Result<EntryKind, ApiError> {
    word.parse().map_err(|error: UnknownKind| ApiError::bad_request(error.to_string()))
}
