//! `/v1/connect/intentions…`: who may call whom, source by source.
//!
//! **Source**: Consul: api-docs/connect/intentions.

use http::Response;
use weft_core::acl::{Permission, Resource};
use weft_core::config_entry::{EntryKey, EntryKind, ServiceIntentions, SourceName};
use weft_core::filter::INTENTION;
use weft_core::name::ServiceName;
use weft_core::state::{Command, State};
use weft_core::watch::Topic;
use weft_proto::json::Fault;
use weft_proto::json::intention::{
    IntentionBody, IntentionCheck, IntentionMatch, IntentionUpsert, decode_upsert,
};
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::{ApiRequest, Query};
use super::routes::Routes;
use super::{Context, page};
use crate::acl::Rights;

/// Names in one match: each of them gets a list of its own of all intentions that concern it.
const MATCH_NAMES_MAX: usize = 64;

const KIND: Topic = Topic::EntryKind(EntryKind::ServiceIntentions);

pub(super) fn routes(table: Routes) -> Routes {
    table
        .get("/v1/connect/intentions", |context, request| Box::pin(list(context, request)))
        .get("/v1/connect/intentions/check", |context, request| Box::pin(judge(context, request)))
        .get("/v1/connect/intentions/exact", |context, request| Box::pin(show(context, request)))
        .put("/v1/connect/intentions/exact", |context, request| Box::pin(write(context, request)))
        .delete("/v1/connect/intentions/exact", |context, request| {
            Box::pin(delete(context, request))
        })
        .get("/v1/connect/intentions/match", |context, request| {
            Box::pin(matching(context, request))
        })
}

/// `GET /v1/connect/intentions`
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let filter = request.query.filter(Some(&INTENTION))?;
    let read = page::read(context, request, [KIND], |state, rights| {
        let mut bodies = all(state);
        bodies.retain(|body| is_seen(body, rights));
        if let Some(filter) = &filter {
            bodies.retain(|body| filter.matches_record(body));
        }
        Ok((state.entry_kind_index(EntryKind::ServiceIntentions), Some(bodies)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/connect/intentions/exact`
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let (source, destination) = pair(&request.query)?;
    let key = EntryKey::new(EntryKind::ServiceIntentions, destination.as_str());
    let read = page::read(context, request, [Topic::Entry(key.clone())], |state, rights| {
        if !rights.may(read(&source)) {
            rights.require(read(&destination))?;
        }
        let entry = state.entry(&key).and_then(|entry| entry.as_service_intentions());
        let found = entry.and_then(|entry| {
            let source = entry.sources.iter().find(|it| it.name == source)?;
            Some(IntentionBody::new(entry, source))
        });
        let index = found.as_ref().map_or_else(
            || state.entry_kind_index(EntryKind::ServiceIntentions),
            |body| body.modify_index,
        );
        Ok((index, found))
    });
    Ok(read.await?.or_not_found(context, "Intention not found".to_owned()))
}

/// `PUT /v1/connect/intentions/exact`
async fn write(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let (source, destination) = pair(&request.query)?;
    let body = decode_upsert(&request.body)?;
    check(&body, &source, &destination)?;
    let source = body.source(source);
    let command = Command::UpsertIntention { destination, source };
    context.proposer.write(&request.caller, command).await?;
    Ok(page::verdict(true))
}

/// `DELETE /v1/connect/intentions/exact`
async fn delete(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let (source, destination) = pair(&request.query)?;
    let command = Command::DeleteIntention { destination, source };
    context.proposer.write(&request.caller, command).await?;
    Ok(page::verdict(true))
}

/// `GET /v1/connect/intentions/match`
async fn matching(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let by_source = match request.query.required("by")? {
        "source" => true,
        "destination" => false,
        _ => {
            let text = "'by' parameter must be one of 'source' or 'destination'";
            return Err(ApiError::bad_request(text));
        }
    };
    request.query.required("name")?;
    if request.query.values("name").count() > MATCH_NAMES_MAX {
        let text = format!("more than {MATCH_NAMES_MAX} 'name' parameters");
        return Err(ApiError::bad_request(text));
    }
    let names = request
        .query
        .values("name")
        .map(|text| name("name", text).map(|name| (text.to_owned(), name)))
        .collect::<Result<Vec<_>, _>>()?;
    let read = page::read(context, request, [KIND], |state, rights| {
        for (_, name) in &names {
            rights.require(read(name))?;
        }
        let bodies = all(state);
        let matching = names.iter().map(|(text, name)| {
            let concerns = |body: &&IntentionBody| {
                let side = if by_source { &body.source_name } else { &body.destination_name };
                *side == SourceName::Any || side == name
            };
            (text.clone(), bodies.iter().filter(concerns).cloned().collect())
        });
        let matching = IntentionMatch(matching.collect());
        Ok((state.entry_kind_index(EntryKind::ServiceIntentions), Some(matching)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/connect/intentions/check`
async fn judge(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let (source, destination) =
        (exact(&request.query, "source")?, exact(&request.query, "destination")?);
    let default = context.default_intention;
    let topics = [KIND, Topic::EntryKind(EntryKind::Mesh)];
    let read = page::read(context, request, topics, |state, rights| {
        rights.require(Permission::read(Resource::Service, destination.as_str()))?;
        let set = state.intentions(&destination, default);
        let check = IntentionCheck {
            allowed: set.evaluate(&source).allowed,
            reason: set.explain(&source, &destination),
        };
        Ok((state.intentions_index(), Some(check)))
    });
    Ok(read.await?.or_null(context))
}

/// The right to see who may call a service, or whom it may call.
fn read(name: &SourceName) -> Permission<'_> {
    Permission::read(Resource::Intention, name.as_str())
}

/// An intention is seen from both of its ends.
fn is_seen(body: &IntentionBody, rights: &Rights) -> bool {
    rights.may(read(&body.source_name)) || rights.see(read(&body.destination_name))
}

/// Every intention, by falling precedence, then by destination and source.
fn all(state: &State) -> Vec<IntentionBody> {
    let (_, entries) = state.entries(Some(EntryKind::ServiceIntentions));
    let of_entry = |entry: &ServiceIntentions| -> Vec<IntentionBody> {
        entry.sources.iter().map(|source| IntentionBody::new(entry, source)).collect()
    };
    let entries = entries.iter().filter_map(|entry| entry.as_service_intentions());
    let mut bodies: Vec<IntentionBody> = entries.flat_map(of_entry).collect();
    bodies.sort_by(|a, b| {
        (b.precedence, &a.destination_name, &a.source_name).cmp(&(
            a.precedence,
            &b.destination_name,
            &b.source_name,
        ))
    });
    bodies
}

/// The body may say source and destination once more, but not others.
fn check(
    body: &IntentionUpsert,
    source: &SourceName,
    destination: &SourceName,
) -> Result<(), ApiError> {
    let mut faults = Vec::new();
    for (field, said, asked) in [
        ("SourceName", &body.source_name, source),
        ("DestinationName", &body.destination_name, destination),
    ] {
        if !said.is_empty() && said != asked.as_str() {
            faults.push(Fault::new(field, format!("is {said:?}, but the query says {asked}")));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.into()) }
}

fn pair(query: &Query) -> Result<(SourceName, SourceName), ApiError> {
    let (source, destination) = (query.required("source")?, query.required("destination")?);
    Ok((name("source", source)?, name("destination", destination)?))
}

/// Takes `name` or `default/name`: there is one namespace.
fn name(parameter: &str, text: &str) -> Result<SourceName, ApiError> {
    let plain = text.strip_prefix("default/").unwrap_or(text);
    SourceName::parse(plain)
        .map_err(|error| ApiError::bad_request(format!("Invalid {parameter}: {error}")))
}

pub(super) fn exact(query: &Query, parameter: &str) -> Result<ServiceName, ApiError> {
    match name(parameter, query.required(parameter)?)? {
        SourceName::Service(name) => Ok(name),
        SourceName::Any => {
            let text = format!("Invalid {parameter}: name one service");
            Err(ApiError::bad_request(text))
        }
    }
}
