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
use crate::acl::{Gate, Rights, UnknownToken};
use crate::read::{Answer, Ask, Consistency, ReadOptions};

/// A question of one page.
pub(super) trait Question: Send + Sync {
    /// The topics whose change may change the answer.
    fn topics(&self, state: &State) -> BTreeSet<Topic>;
    /// When the answer last changed, where that is known without the answer and moves with
    /// nothing else.
    fn index(&self, _: &State) -> Option<Index> {
        None
    }
    /// The answer to who has these rights; `None` for what does not exist.
    fn answer(&self, state: &State, rights: &Rights) -> Result<(Index, Option<Bytes>), ApiError>;
}

/// A question whose answer is JSON.
pub(super) struct Page<T, A> {
    /// The topics whose change may change the answer.
    pub(super) topics: T,
    /// The answer to who has these rights; `None` for what does not exist.
    pub(super) answer: A,
}

impl<T, A, R> Question for Page<T, A>
where
    T: Fn(&State) -> BTreeSet<Topic> + Send + Sync,
    A: Fn(&State, &Rights) -> Result<(Index, Option<R>), ApiError> + Send + Sync,
    R: Serialize,
{
    fn topics(&self, state: &State) -> BTreeSet<Topic> {
        (self.topics)(state)
    }

    fn answer(&self, state: &State, rights: &Rights) -> Result<(Index, Option<Bytes>), ApiError> {
        let (index, found) = (self.answer)(state, rights)?;
        Ok((index, found.map(|found| json(&found)).transpose()?))
    }
}

/// A page as one caller asks for it: who the caller is and what they may do is judged on each
/// state that is answered from, so that a wait ends with the token that it began with.
struct Asked<'a, Q> {
    question: &'a Q,
    gate: &'a Gate,
    request: &'a ApiRequest,
}

impl<Q: Question> Ask<ApiError> for Asked<'_, Q> {
    fn topics(&self, state: &State) -> BTreeSet<Topic> {
        let mut topics = self.question.topics(state);
        topics.extend(self.gate.topics(state, &self.request.credential));
        topics
    }

    fn index(&self, state: &State) -> Option<Index> {
        // With ACLs the answer also changes with what the caller may do, which moves no index of
        // the question's: who may no longer ask must be told so.
        if self.gate.is_enabled() { None } else { self.question.index(state) }
    }

    fn answer(&self, state: &State) -> Result<Answer, ApiError> {
        let rights = self.gate.rights(state, &self.request.credential)?;
        let (index, body) = self.question.answer(state, &rights)?;
        Ok(Answer { index, body, is_filtered: rights.tells_of_filtering() })
    }

    fn name(&self) -> Option<String> {
        Some(self.request.question())
    }
}

/// Reads a page whose topics are always the same.
///
/// The answer is made for who has the rights given with the state: it shows of a list what
/// [`Rights::see`] lets through, and begins with [`Rights::require`] where it names one thing.
///
/// Like [`read_page`] no `async fn`: each of those would hold its arguments twice.
pub(super) fn read<A, R>(
    context: &Context,
    request: &ApiRequest,
    topics: impl IntoIterator<Item = Topic> + Clone + Send + Sync,
    answer: A,
) -> impl Future<Output = Result<Read, ApiError>> + Send
where
    A: Fn(&State, &Rights) -> Result<(Index, Option<R>), ApiError> + Send + Sync,
    R: Serialize,
{
    // Only who waits is asked for topics.
    let topics = move |_: &State| topics.clone().into_iter().collect();
    read_page(context, request, Page { topics, answer })
}

/// Reads a page.
#[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice")]
pub(super) fn read_page<T, A, R>(
    context: &Context,
    request: &ApiRequest,
    page: Page<T, A>,
) -> impl Future<Output = Result<Read, ApiError>> + Send
where
    T: Fn(&State) -> BTreeSet<Topic> + Send + Sync,
    A: Fn(&State, &Rights) -> Result<(Index, Option<R>), ApiError> + Send + Sync,
    R: Serialize,
{
    async move { ask(context, request, &page).await }
}

/// Reads the answer to a question of a page's own kind.
pub(super) async fn ask(
    context: &Context,
    request: &ApiRequest,
    question: &impl Question,
) -> Result<Read, ApiError> {
    let options = request.query.read_options()?;
    let options = options.bounded(context.reader.standing().last_contact);
    ask_with(context, request, question, options).await
}

/// Reads the answer to a question with options that are not those of the query string.
pub(super) async fn ask_with(
    context: &Context,
    request: &ApiRequest,
    question: &impl Question,
    options: ReadOptions,
) -> Result<Read, ApiError> {
    let gate = &context.gate;
    let time_left = gate.time_left(&context.reader.newest(), &request.credential);
    let asked = Asked { question, gate, request };
    let answer = match time_left {
        None => context.reader.read(&options, &asked).await?,
        Some(left) => {
            let reading = tokio::time::timeout(left, context.reader.read(&options, &asked));
            // Nothing is lost with a wait that is given up: it only read.
            Box::pin(reading).await.map_err(|_| UnknownToken)??
        }
    };
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
        let mut response = match self.answer.body.clone() {
            Some(body) => json_response(body),
            None => ApiError::not_found(text).into_response(),
        };
        self.dress(context, response.headers_mut());
        response
    }

    /// Dresses bytes that are not to be looked into; what does not exist is 404 without a text.
    ///
    /// **Source**: Consul: api-docs/kv#raw. A browser must not run what somebody wrote.
    pub(super) fn or_nothing_raw(self, context: &Context) -> Response<Body> {
        let mut response = match self.answer.body.clone() {
            Some(body) => Response::new(full(body)),
            None => ApiError::not_found("").into_response(),
        };
        self.dress(context, response.headers_mut());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let policy = HeaderValue::from_static("sandbox");
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        response
    }

    /// Dresses it; what does not exist is JSON's null.
    pub(super) fn or_null(self, context: &Context) -> Response<Body> {
        let body = self.answer.body.clone().unwrap_or(Bytes::from_static(b"null"));
        let mut response = json_response(body);
        self.dress(context, response.headers_mut());
        response
    }

    /// Writes the headers by which clients follow an answer.
    ///
    /// **Source**: Consul: api-docs/features/blocking, api-docs/features/consistency. Clients
    /// fail when `LastContact` is not a number.
    fn dress(&self, context: &Context, headers: &mut HeaderMap) {
        let standing = context.reader.standing();
        let mut put = |name: &'static str, value: HeaderValue| {
            headers.insert(HeaderName::from_static(name), value);
        };
        put("x-consul-index", self.answer.index.shown().into());
        put("x-consul-knownleader", truth(standing.leader.is_some()));
        let contact = u64::try_from(standing.last_contact.as_millis()).unwrap_or(u64::MAX);
        put("x-consul-lastcontact", contact.into());
        put(
            "x-consul-effective-consistency",
            HeaderValue::from_static(match self.options.consistency {
                Consistency::Consistent => "consistent",
                Consistency::Default => "leader",
                Consistency::Stale => "stale",
            }),
        );
        put("x-consul-query-backend", HeaderValue::from_static("blocking-query"));
        if self.answer.is_filtered {
            put("x-consul-results-filtered-by-acls", truth(true));
        }
    }
}

/// Answers with JSON.
pub(super) fn json_response(body: Bytes) -> Response<Body> {
    let mut response = Response::new(full(body));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Answers with nothing, as some writes do.
pub(super) fn empty_response() -> Response<Body> {
    Response::new(weft_runtime::http::empty())
}

/// Answers `true` or `false`, with which writes answer.
pub(super) fn verdict(holds: bool) -> Response<Body> {
    json_response(Bytes::from_static(if holds { b"true" } else { b"false" }))
}

/// A JSON text shorter than this is kept in as many bytes: the writer starts with room for 128.
const SHORT_BYTES: usize = 64;

/// Writes JSON.
pub(super) fn json(value: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(value)
        .map(|json| match json.len() {
            // What those who wait keep is not to have room for more.
            0..SHORT_BYTES => Bytes::copy_from_slice(&json),
            _ => Bytes::from(json),
        })
        .map_err(|error| ApiError::new(http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn truth(holds: bool) -> HeaderValue {
    HeaderValue::from_static(if holds { "true" } else { "false" })
}
