//! `/v1/connect/intentions/explain` and `…/lint`: which rule decides about one request and why,
//! and which rules never decide. Consul has neither.

use std::net::IpAddr;
use std::sync::Arc;

use http::Response;
use serde_json::{Map, Value, json};
use weft_core::acl::{Permission, Resource};
use weft_core::canonical_path::CanonicalPath;
use weft_core::config_entry::{EntryKey, EntryKind, IntentionPermission, JwtProvider};
use weft_core::intention::{
    Asked, Call, Cause, Judge, Surroundings, Token, TokenState, in_words, lint,
};
use weft_core::limits;
use weft_core::name::ServiceName;
use weft_core::state::State;
use weft_core::watch::Topic;
use weft_runtime::http::Body;

use super::asked_line::line;
use super::error::ApiError;
use super::intention::exact;
use super::request::{ApiRequest, Query};
use super::routes::Routes;
use super::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    table
        .get("/v1/connect/intentions/explain", |context, request| {
            Box::pin(explain(context, request))
        })
        .get("/v1/connect/intentions/lint", |context, request| Box::pin(findings(context, request)))
}

fn topics() -> [Topic; 6] {
    [
        Topic::EntryKind(EntryKind::ServiceIntentions),
        Topic::EntryKind(EntryKind::Mesh),
        Topic::EntryKind(EntryKind::ServiceDefaults),
        Topic::EntryKind(EntryKind::ProxyDefaults),
        Topic::EntryKind(EntryKind::JwtProvider),
        Topic::ServiceList,
    ]
}

/// `GET /v1/connect/intentions/explain`
async fn explain(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let query = &request.query;
    let (source, destination) = (exact(query, "source")?, exact(query, "destination")?);
    let address = parsed::<IpAddr>(query, "address")?;
    let port = parsed::<u16>(query, "port")?;
    let sni = sni(query)?;
    let line = line(query)?;
    let claims = claims(query)?;
    let path = line.as_ref().map(|line| CanonicalPath::parse(line.path.as_bytes()));
    let default = context.default_intention;
    let read = page::read(context, request, topics(), |state, rights| {
        rights.require(Permission::read(Resource::Intention, destination.as_str()))?;
        let judge = Judge::new(state.intentions(&destination, default));
        let standing = judge.standing(&source);
        let tokens = tokens(query, &claims, judge.providers(standing));
        let protocol = state.service_defaults(&destination).protocol.unwrap_or_default();
        let asked = match (&line, &path) {
            (Some(line), Some(path)) if protocol.is_http_like() => {
                let path = path.as_ref().map_err(|unclear| *unclear);
                Some(Asked { request: line, path, tokens: &tokens })
            }
            _ => None,
        };
        if asked.is_none() && protocol.is_http_like() && judge.is_by_content(standing) {
            let text = "Missing query parameter 'path': the intention judges each request by \
                        itself";
            return Err(ApiError::bad_request(text));
        }
        let judgement = judge.evaluate(standing, &Call { address, port, sni, request: asked });
        let permission = match judgement.cause {
            Cause::Permission(at) | Cause::Unreadable(at, _) | Cause::NoTokenFor(at, _) => {
                Some(at + 1)
            }
            Cause::Action
            | Cause::Default
            | Cause::NoPermission
            | Cause::NoRequest
            | Cause::NoToken(_)
            | Cause::Unusable => None,
        };
        let canonical = path.as_ref().and_then(|path| path.as_ref().ok());
        let body = json!({
            "Allowed": judgement.allowed,
            "DryRun": judgement.is_dry_run,
            "Reason": judge.explain(&judgement, &source, &destination),
            "Protocol": protocol.as_str(),
            "Path": canonical.map(|path| String::from_utf8_lossy(path.as_bytes())),
            "SourceName": judgement.by.map(|by| by.source.as_str()),
            "DestinationName": judgement.by.map(|by| by.destination.as_str()),
            "Precedence": judgement.by.map(|by| by.precedence),
            "Permission": permission,
            "Permissions": judgement.by.map(|by| by.permissions.iter().map(asks).collect::<Vec<_>>()),
        });
        Ok((state.intentions_index(), Some(body)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/connect/intentions/lint`
async fn findings(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let only = request.query.value("destination").filter(|name| !name.is_empty());
    let read = page::read(context, request, topics(), |state, rights| {
        let (_, entries) = state.entries(Some(EntryKind::ServiceIntentions));
        let wildcard = state.entry(&EntryKey::new(EntryKind::ServiceIntentions, "*"));
        let around = Surroundings {
            precedence: state.intention_precedence(),
            wildcard: wildcard.and_then(|entry| entry.as_service_intentions()),
            protocol: &|name| state.service_defaults(name).protocol.unwrap_or_default(),
            is_known: &|name| is_known(state, name),
            is_provider: &|name| {
                state.entry(&EntryKey::new(EntryKind::JwtProvider, name.as_str())).is_some()
            },
        };
        let mut found = Vec::new();
        for entry in entries.iter().filter_map(|entry| entry.as_service_intentions()) {
            let name = entry.name.as_str();
            if only.is_some_and(|only| only != name)
                || !rights.see(Permission::read(Resource::Intention, name))
            {
                continue;
            }
            found.extend(lint(entry, &around));
        }
        let shown = found.iter().map(|finding| {
            json!({
                "SourceName": finding.source,
                "DestinationName": finding.destination,
                "Permission": finding.permission,
                "Reason": finding.reason,
            })
        });
        let body: Vec<_> = shown.collect();
        Ok((state.intentions_index(), Some(body)))
    });
    Ok(read.await?.or_null(context))
}

fn asks(permission: &IntentionPermission) -> Value {
    json!({ "Action": permission.action, "Asks": in_words(permission) })
}

fn is_known(state: &State, name: &ServiceName) -> bool {
    !state.service_instances(name).1.is_empty()
}

/// Reads the claims of the token that is asked about; without any there is no token.
fn claims(query: &Query) -> Result<Option<Map<String, Value>>, ApiError> {
    let mut claims = Map::new();
    for text in query.values("jwt-claim") {
        let pair: Option<(&str, &str)> = str::split_once(text, '=');
        let (path, value) = pair.filter(|(path, _)| !path.is_empty()).ok_or_else(|| {
            let text =
                "Invalid jwt-claim: write it as name=value, a name within as /name/name=value";
            ApiError::bad_request(text.to_owned())
        })?;
        let names: Vec<&str> = match path.strip_prefix('/') {
            Some(path) => path.split('/').collect(),
            None => vec![path],
        };
        let mut nested = Value::from(value);
        for name in names[1..].iter().rev() {
            nested = json!({ *name: nested });
        }
        merge(&mut claims, names[0], nested);
    }
    let has_token = !claims.is_empty() || query.value("jwt-provider").is_some();
    Ok(has_token.then_some(claims))
}

/// Adds a claim; one that is there becomes a list, or has more in it.
fn merge(claims: &mut Map<String, Value>, name: &str, value: Value) {
    match (claims.get_mut(name), value) {
        (Some(Value::Object(inner)), Value::Object(more)) => {
            more.into_iter().for_each(|(name, value)| merge(inner, &name, value));
        }
        (Some(Value::Array(items)), value) => items.push(value),
        (Some(present), value) => *present = json!([present.take(), value]),
        (None, value) => {
            claims.insert(name.to_owned(), value);
        }
    }
}

/// Takes the token that is asked about for one of the provider that is named, or else of any.
fn tokens<'a>(
    query: &Query,
    claims: &Option<Map<String, Value>>,
    providers: impl Iterator<Item = &'a JwtProvider>,
) -> Vec<Token> {
    let only = query.value("jwt-provider").filter(|name| !name.is_empty());
    let token = |provider: &JwtProvider| Token {
        provider: provider.name.clone(),
        version: provider.modify_index,
        state: match claims {
            Some(claims) if only.is_none_or(|only| only == provider.name.as_str()) => {
                TokenState::Verified(Arc::new(claims.clone()))
            }
            Some(_) | None => TokenState::Absent,
        },
    };
    providers.map(token).collect()
}

/// Reads the server name that the caller gives.
fn sni(query: &Query) -> Result<Option<&str>, ApiError> {
    let name = query.value("sni").filter(|name| !name.is_empty());
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match name {
        Some(name) if name.len() > limits::HOST_NAME_BYTES_MAX || !name.bytes().all(is_host) => {
            Err(ApiError::bad_request(format!("Invalid sni: {name:?} is not a host name")))
        }
        given => Ok(given),
    }
}

fn parsed<T: std::str::FromStr>(query: &Query, name: &str) -> Result<Option<T>, ApiError> {
    let text = query.value(name).filter(|text| !text.is_empty());
    let read = |text: &str| {
        let wrong = || ApiError::bad_request(format!("Invalid {name}: {text:?}"));
        text.parse().map_err(|_| wrong())
    };
    text.map(read).transpose()
}
