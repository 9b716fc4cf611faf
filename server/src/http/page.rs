//! What every page is made of: a question to the read door, and the headers of its answer.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use serde::Serialize;
use weft_core::index::Index;
use weft_core::state::State;
use weft_core::watch::Topic;
use weft_runtime::http::{Body, full};

use super::Context;
use super::error::ApiError;
use super::request::ApiRequest;
use crate::read::{Answer, Ask, Consistency, ReadOptions};

/// A question of one page.
pub(super) struct Page<T, A> {
    /// The topics whose change may change the answer.
    pub(super) topics: T,
    /// The answer; `None` for what does not exist.
    pub(super) answer: A,
}

impl<T, A, R> Ask<ApiError> for Page<T, A>
where
    T: Fn(&State) -> BTreeSet<Topic> + Send,
    A: Fn(&State) -> Result<(Index, Option<R>), ApiError> + Send,
    R: Serialize,
{
    fn topics(&self, state: &State) -> BTreeSet<Topic> {
        (self.topics)(state)
    }

    fn answer(&self, state: &State) -> Result<Answer, ApiError> {
        let (index, found) = (self.answer)(state)?;
        let body = found.map(|found| json(&found)).transpose()?;
        Ok(Answer { index, body })
    }
}

/// Reads a page whose topics are always the same.
pub(super) async fn read<A, R>(
    context: &Context,
    request: &ApiRequest,
    topics: impl IntoIterator<Item = Topic>,
    answer: A,
) -> Result<Read, ApiError>
where
    A: Fn(&State) -> Result<(Index, Option<R>), ApiError> + Send,
    R: Serialize,
{
    let topics: BTreeSet<Topic> = topics.into_iter().collect();
    read_page(context, request, Page { topics: move |_: &State| topics.clone(), answer }).await
}

/// Reads a page.
pub(super) async fn read_page<T, A, R>(
    context: &Context,
    request: &ApiRequest,
    page: Page<T, A>,
) -> Result<Read, ApiError>
where
    T: Fn(&State) -> BTreeSet<Topic> + Send,
    A: Fn(&State) -> Result<(Index, Option<R>), ApiError> + Send,
    R: Serialize,
{
    let options = request.query.read_options()?;
    let answer = context.reader.read(&options, &page).await?;
    Ok(Read { answer, options })
}

/// An answer of the read door, not yet dressed.
pub(super) struct Read {
    pub(super) answer: Answer,
    options: ReadOptions,
}

impl Read {
    /// Dresses it; what does not exist is 404 with a text. The headers are there either way.
    pub(super) fn or_not_found(self, context: &Context, text: String) -> Response<Body> {
        let mut response = match self.answer.body {
            Some(body) => json_response(body),
            None => ApiError::not_found(text).into_response(),
        };
        self.options.dress(context, self.answer.index, response.headers_mut());
        response
    }

    /// Dresses it; what does not exist is JSON's null.
    pub(super) fn or_null(self, context: &Context) -> Response<Body> {
        let body = self.answer.body.unwrap_or(Bytes::from_static(b"null"));
        let mut response = json_response(body);
        self.options.dress(context, self.answer.index, response.headers_mut());
        response
    }
}

impl ReadOptions {
    /// Writes the headers by which clients follow an answer.
    ///
    /// **Source**: Consul: api-docs/features/blocking, api-docs/features/consistency. Clients
    /// fail when `LastContact` is not a number.
    fn dress(&self, context: &Context, index: Index, headers: &mut HeaderMap) {
        let standing = context.reader.standing();
        let mut put = |name: &'static str, value: HeaderValue| {
            headers.insert(HeaderName::from_static(name), value);
        };
        put("x-consul-index", index.shown().into());
        put("x-consul-knownleader", truth(standing.leader.is_some()));
        let contact = u64::try_from(standing.last_contact.as_millis()).unwrap_or(u64::MAX);
        put("x-consul-lastcontact", contact.into());
        put(
            "x-consul-effective-consistency",
            HeaderValue::from_static(match self.consistency {
                Consistency::Consistent => "consistent",
                Consistency::Default => "leader",
                Consistency::Stale => "stale",
            }),
        );
        put("x-consul-query-backend", HeaderValue::from_static("blocking-query"));
    }
}

/// Answers with JSON.
pub(super) fn json_response(body: Bytes) -> Response<Body> {
    let mut response = Response::new(full(body));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Answers `true` or `false`, with which writes answer.
pub(super) fn verdict(holds: bool) -> Response<Body> {
    json_response(Bytes::from_static(if holds { b"true" } else { b"false" }))
}

/// Writes JSON.
pub(super) fn json(value: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| ApiError::new(http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn truth(holds: bool) -> HeaderValue {
    HeaderValue::from_static(if holds { "true" } else { "false" })
}
