//! `/v1/kv/…`: the key/value store.
//!
//! **Source**: Consul: api-docs/kv.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use weft_core::acl::{Permission, Resource};
use weft_core::index::Index;
use weft_core::kv::{KvCommand, KvCondition, KvKey};
use weft_core::session::SessionId;
use weft_core::state::{Command, State};
use weft_core::watch::Topic;
use weft_proto::json::kv::KvShown;
use weft_runtime::http::Body;

use super::error::{ApiError, too_large};
use super::request::ApiRequest;
use super::routes::{BodyBound, Routes};
use super::{Context, page};
use crate::acl::Rights;

/// A key, and the prefix of all.
const PATHS: [&str; 3] = ["/v1/kv/{*key}", "/v1/kv/", "/v1/kv"];

pub(super) fn routes(table: Routes) -> Routes {
    PATHS.into_iter().fold(table, |table, path| {
        table
            .get(path, |context, request| Box::pin(get(context, request)))
            .with_body(Method::PUT, path, BodyBound::Value, |context, request| {
                Box::pin(put(context, request))
            })
            .delete(path, |context, request| Box::pin(delete(context, request)))
    })
}

/// What of the store is asked for.
struct Question {
    key: KvKey,
    shape: Shape,
}

enum Shape {
    /// One entry.
    Entry,
    /// The keys that start with the key, up to a separator.
    Keys { separator: String },
    /// The value of one entry, as it is.
    Raw,
    /// The entries whose keys start with the key.
    Tree,
}

impl page::Question for Question {
    fn topics(&self, _: &State) -> BTreeSet<Topic> {
        let key = self.key.clone();
        BTreeSet::from([match self.shape {
            Shape::Entry | Shape::Raw => Topic::Key(key),
            Shape::Keys { .. } | Shape::Tree => Topic::KeyPrefix(key),
        }])
    }

    fn index(&self, state: &State) -> Option<Index> {
        Some(match self.shape {
            Shape::Entry | Shape::Raw => state.kv().get(self.key.as_str()).0,
            Shape::Keys { .. } | Shape::Tree => state.kv().index_under(self.key.as_str()),
        })
    }

    fn answer(&self, state: &State, rights: &Rights) -> Result<(Index, Option<Bytes>), ApiError> {
        let (kv, key) = (state.kv(), self.key.as_str());
        match &self.shape {
            Shape::Entry | Shape::Raw => rights.require(read(key))?,
            Shape::Keys { .. } | Shape::Tree => rights.require_list_keys(key)?,
        }
        Ok(match &self.shape {
            Shape::Entry => {
                let (index, entry) = kv.get(key);
                (index, entry.map(|entry| page::json(&[KvShown::whole(entry)])).transpose()?)
            }
            Shape::Keys { separator } => {
                let (index, mut keys) = kv.keys(key, separator);
                keys.retain(|key| rights.see(read(key)));
                // The root is there even when nothing is in it.
                let found = !keys.is_empty() || key.is_empty();
                (index, found.then(|| page::json(&keys)).transpose()?)
            }
            Shape::Raw => {
                let (index, entry) = kv.get(key);
                (index, entry.map(|entry| entry.value.clone()))
            }
            Shape::Tree => {
                let (index, entries) = kv.list(key);
                let seen = entries.iter().filter(|entry| rights.see(read(entry.key.as_str())));
                let shown: Vec<_> = seen.map(|entry| KvShown::whole(entry)).collect();
                (index, (!shown.is_empty()).then(|| page::json(&shown)).transpose()?)
            }
        })
    }
}

fn read(key: &str) -> Permission<'_> {
    Permission::read(Resource::Key, key)
}

/// `GET /v1/kv/:key`
async fn get(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let query = &request.query;
    let shape = if query.has("keys") {
        // Some clients spell it so.
        let separator = query.value("separator").or_else(|| query.value("seperator"));
        Shape::Keys { separator: separator.unwrap_or_default().to_owned() }
    } else if query.has("recurse") {
        Shape::Tree
    } else if query.has("raw") {
        Shape::Raw
    } else {
        Shape::Entry
    };
    let key = key(request, matches!(shape, Shape::Keys { .. } | Shape::Tree))?;
    let question = Question { key, shape };
    let answered = page::ask(context, request, &question).await?;
    Ok(match question.shape {
        Shape::Raw => answered.or_nothing_raw(context),
        _ => answered.or_not_found(context, String::new()),
    })
}

/// `PUT /v1/kv/:key`
async fn put(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    exclusive(request, &["acquire", "cas", "release"])?;
    let key = key(request, false)?;
    let query = &request.query;
    let flags = match query.value("flags") {
        None => 0,
        Some(text) => text.parse::<u64>().map_err(|_| {
            ApiError::bad_request(format!("Invalid value for ?flags: {text:?} is not a number"))
        })?,
    };
    let condition = match (session(request, "acquire")?, session(request, "release")?) {
        (Some(session), _) => KvCondition::Acquire(session),
        (None, Some(session)) => KvCondition::Release(session),
        (None, None) => query.cas()?.map_or(KvCondition::Always, KvCondition::Cas),
    };
    check_value(context, request.body.len())?;
    // A copy: a short value must not hold on to the buffer that the request came in.
    let value = Bytes::copy_from_slice(&request.body);
    let command = KvCommand::Set { key, value, flags, condition };
    let written = context.proposer.write(&request.caller, Command::Kv(command)).await?;
    Ok(page::verdict(written.matched))
}

/// `DELETE /v1/kv/:key`
async fn delete(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    exclusive(request, &["cas", "recurse"])?;
    let is_tree = request.query.has("recurse");
    let key = key(request, is_tree)?;
    let command = match is_tree {
        true => KvCommand::DeleteTree { prefix: key },
        false => KvCommand::Delete { key, cas: request.query.cas()? },
    };
    let written = context.proposer.write(&request.caller, Command::Kv(command)).await?;
    Ok(page::verdict(written.matched))
}

/// Refuses a value that is too long.
pub(super) fn check_value(context: &Context, length: usize) -> Result<(), ApiError> {
    let limit = context.limits.kv_value_bytes_max;
    if length <= limit {
        return Ok(());
    }
    let text = too_large(&format!("({length} bytes)"), limit);
    Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text))
}

/// Reads the key from the path.
///
/// Differs: Consul lets its HTTP library fold `//` and `/./` in a path; here a key is taken as
/// it is written.
fn key(request: &ApiRequest, may_be_empty: bool) -> Result<KvKey, ApiError> {
    let text = request.params.get("key");
    if text.is_empty() && !may_be_empty {
        return Err(ApiError::bad_request("Missing key name"));
    }
    check_key(text)?;
    KvKey::parse(text).map_err(|error| ApiError::bad_request(format!("Invalid key name: {error}")))
}

/// Refuses keys that somebody on the way would take for another path.
///
/// **Source**: Consul 1.22: keys with `..` segments or with blanks at an end are refused.
pub(super) fn check_key(text: &str) -> Result<(), ApiError> {
    let reason = if text.split('/').any(|segment| segment == "..") {
        "it has a segment \"..\""
    } else if text.trim() != text {
        "it begins or ends with a blank"
    } else {
        return Ok(());
    };
    Err(ApiError::bad_request(format!("Invalid key name {text:?}: {reason}")))
}

/// Refuses parameters that exclude one another.
fn exclusive(request: &ApiRequest, names: &[&str]) -> Result<(), ApiError> {
    let given: Vec<&str> = names.iter().copied().filter(|name| request.query.has(name)).collect();
    match given.as_slice() {
        [] | [_] => Ok(()),
        several => Err(ApiError::bad_request(format!("Conflicting flags: {}", several.join("&")))),
    }
}

fn session(request: &ApiRequest, name: &str) -> Result<Option<SessionId>, ApiError> {
    let Some(text) = request.query.values(name).next() else { return Ok(None) };
    if text.is_empty() {
        let text = "missing session";
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    // As of one that is not there: there is none with such an id.
    let unknown = |_| {
        let text = format!("invalid session {text:?}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    };
    text.parse().map(Some).map_err(unknown)
}
