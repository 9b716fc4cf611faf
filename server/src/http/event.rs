//! `/v1/event/…`: user events.
//!
//! **Source**: Consul: api-docs/event.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use regex::{Regex, RegexBuilder};
use weft_core::acl::{Permission, Resource};
use weft_core::catalog::CatalogRegistration;
use weft_core::index::Index;
use weft_core::limits;
use weft_core::state::{Command, State, UserEvent};
use weft_core::watch::Topic;
use weft_proto::json::event::EventBody;
use weft_runtime::entropy;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};
use crate::acl::Rights;
use crate::propose::Caller;

pub(super) fn routes(table: Routes) -> Routes {
    table
        .put("/v1/event/fire/{*name}", |context, request| Box::pin(fire(context, request)))
        .get("/v1/event/list", |context, request| Box::pin(list(context, request)))
}

/// `PUT /v1/event/fire/:name`
async fn fire(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let length = request.body.len();
    if length > limits::EVENT_PAYLOAD_BYTES_MAX {
        let most = limits::EVENT_PAYLOAD_BYTES_MAX;
        let text = format!("Request body({length} bytes) too large, max size: {most} bytes");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let filter = |name: &str| {
        let text = request.query.value(name).unwrap_or_default();
        pattern(text)
            .map(|_| text.to_owned())
            .map_err(|reason| ApiError::bad_request(format!("Invalid {name} filter: {reason}")))
    };
    let event = UserEvent {
        id: entropy::uuid(),
        name: request.params.get("name").to_owned(),
        payload: Bytes::copy_from_slice(&request.body),
        node_filter: filter("node")?,
        service_filter: filter("service")?,
        tag_filter: filter("tag")?,
        ltime: 0,
        index: Index::default(),
    };
    if !event.tag_filter.is_empty() && event.service_filter.is_empty() {
        return Err(ApiError::bad_request("Cannot provide tag filter without service filter"));
    }
    let shown = page::json(&EventBody::from(&event))?;
    context.proposer.write(&request.caller, Command::Event(event)).await?;
    Ok(page::json_response(shown))
}

/// The events that are for whoever asks.
struct Question<'a> {
    name: &'a str,
    filters: [&'a str; 3],
    caller: &'a Caller,
}

impl page::Question for Question<'_> {
    fn topics(&self, _: &State) -> std::collections::BTreeSet<Topic> {
        [Topic::Events].into()
    }

    fn answer(&self, state: &State, rights: &Rights) -> Result<(Index, Option<Bytes>), ApiError> {
        let asking = AskingNode::of(self.caller, state);
        let events = state.events().list().filter(|event| {
            let filters = [&event.node_filter, &event.service_filter, &event.tag_filter];
            let asked = self.filters.iter().zip(filters);
            (self.name.is_empty() || event.name == self.name)
                && asked.into_iter().all(|(asked, has)| asked.is_empty() || asked == has)
                && asking.as_ref().is_none_or(|asking| asking.is_meant(event))
                && rights.see(Permission::read(Resource::Event, &event.name))
        });
        let events: Vec<_> = events.collect();
        let index = events.last().map_or(Index::default(), |event| event.index);
        let shown: Vec<EventBody> = events.iter().map(|event| EventBody::from(&***event)).collect();
        Ok((index, Some(page::json(&shown)?)))
    }
}

/// `GET /v1/event/list`
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let query = &request.query;
    let question = Question {
        name: query.value("name").unwrap_or_default(),
        filters: ["node", "service", "tag"].map(|name| query.value(name).unwrap_or_default()),
        caller: &request.caller,
    };
    let mut options = query.read_options()?;
    if let Some(given) = options.newer_than.take() {
        // The index that clients know stands for the last event: equal means nothing is new.
        let at_hand = page::ask_with(context, request, &question, options).await?;
        if Index(stands_for(&at_hand)) == given {
            options.newer_than = Some(Index(at_hand.answer.index.0.max(1)));
        }
    }
    let read = page::ask_with(context, request, &question, options).await?;
    let index = stands_for(&read);
    let mut response = read.or_null(context);
    let name = HeaderName::from_static("x-consul-index");
    response.headers_mut().insert(name, HeaderValue::from(index));
    Ok(response)
}

/// Makes a number of the last event's id, never 0.
///
/// **Source**: Consul: api-docs/event#list-events: the index is compared for equality only.
fn stands_for(read: &page::Read) -> u64 {
    let body = read.answer.body.clone().unwrap_or_default();
    let events: Vec<EventBody> = serde_json::from_slice(&body).unwrap_or_default();
    let hex: String = events.last().map_or(String::new(), |event| event.id.replace('-', ""));
    let half = |at: std::ops::Range<usize>| {
        hex.get(at).and_then(|half| u64::from_str_radix(half, 16).ok()).unwrap_or_default()
    };
    (half(0..16) ^ half(16..32)).max(1)
}

/// The node whose agent asks, with what is on it.
struct AskingNode(CatalogRegistration);

impl AskingNode {
    fn of(caller: &Caller, state: &State) -> Option<Self> {
        let name = super::session::node_of(caller)?;
        state.node(&name.parse().ok()?).map(Self)
    }

    /// Whether an event is for this node.
    fn is_meant(&self, event: &UserEvent) -> bool {
        let matches = |filter: &str, text: &str| {
            pattern(filter).is_ok_and(|pattern| pattern.is_none_or(|it| it.is_match(text)))
        };
        if !matches(&event.node_filter, self.0.node.name.as_str()) {
            return false;
        }
        event.service_filter.is_empty()
            || self.0.services.iter().any(|service| {
                matches(&event.service_filter, service.name.as_str())
                    && (event.tag_filter.is_empty()
                        || service.tags.iter().any(|tag| matches(&event.tag_filter, tag)))
            })
    }
}

/// Reads a filter; the empty one lets everything through.
fn pattern(text: &str) -> Result<Option<Regex>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > limits::REGEX_BYTES_MAX {
        return Err(format!("more than {} bytes", limits::REGEX_BYTES_MAX));
    }
    let built = RegexBuilder::new(text).size_limit(limits::REGEX_COMPILED_BYTES_MAX).build();
    built.map(Some).map_err(|error| error.to_string())
}
