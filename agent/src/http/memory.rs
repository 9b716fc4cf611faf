//! The pages of services from memory, while no server can be reached: what servers said last,
//! with its age in the headers.
//!
//! A service that is asked for by this door is watched as one asked for by DNS is, so that it is
//! there when it is needed. Which lists are shown is decided as servers do it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use weft_core::acl::Resource;
use weft_core::catalog::{CheckStatus, ServiceInstance};
use weft_core::filter::{CATALOG_SERVICE, SERVICE_INSTANCE};
use weft_core::index::Index;
use weft_core::name::{Datacenter, ServiceName};
use weft_core::time::Span;
use weft_proto::json::catalog::CatalogService;
use weft_runtime::clock;
use weft_runtime::http::Body;

use super::answer::{self, ApiError};
use super::query::Query;
use super::{Api, rights};
use crate::acl::Question;
use crate::config::TokenText;
use crate::dns::Wanted;
use crate::servers::ForwardError;
use crate::views::{Slot, View};

const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");
const CACHE: HeaderName = HeaderName::from_static("x-cache");
/// What a query may have that is answered from memory; `near` changes the order at most, and a
/// server is not needed for it to be served.
const PARAMETERS: [&str; 13] = [
    "cached",
    "dc",
    "filter",
    "index",
    "max_stale",
    "near",
    "node-meta",
    "passing",
    "pretty",
    "stale",
    "tag",
    "token",
    "wait",
];

/// A page that can be answered from memory.
pub(super) struct Page {
    wanted: Wanted,
    is_health: bool,
    query: Query,
    token: Option<TokenText>,
}

impl Page {
    /// Recognises a request for such a page; `None` for all others.
    pub(super) fn of(request: &Request<Body>, own: &Datacenter) -> Option<Self> {
        let path = request.uri().path();
        let (is_health, rest) = match path.strip_prefix("/v1/health/") {
            Some(rest) => (true, rest),
            None => (false, path.strip_prefix("/v1/catalog/")?),
        };
        let (kind, name) = rest.split_once('/')?;
        let name = ServiceName::parse(name).ok()?;
        let wanted = match kind {
            "connect" => Wanted::Connect(name),
            "service" => Wanted::Service(name),
            _ => return None,
        };
        let query = Query::of(request.uri());
        let is_own = query.get("dc").is_none_or(|dc| dc.is_empty() || dc == own.as_str());
        let is_known = query.names().all(|name| PARAMETERS.contains(&name));
        let token = rights::token(&query, request.headers());
        let is_page = *request.method() == Method::GET && is_own && is_known;
        is_page.then_some(Self { wanted, is_health, query, token })
    }
}

impl Api {
    /// Passes a request on; when no server answers, the answer is what was known last, if it is
    /// a page that can be answered so.
    pub(super) async fn forward(&self, request: Request<Body>) -> Result<Response<Body>, ApiError> {
        let own = &self.parts.servers.membership().datacenter;
        let Some(page) = Page::of(&request, own) else {
            return Ok(self.parts.servers.forward(request).await?);
        };
        // Watched from now on, whoever answers this time.
        let noted = async {
            match self.parts.views.is_connected() {
                true => drop(self.parts.names.instances(page.wanted.clone()).await),
                false => drop(self.parts.names.look(&page.wanted)),
            }
        };
        let (answer, ()) = tokio::join!(self.parts.servers.forward(request), noted);
        match answer {
            Err(no_server @ ForwardError::NoServer { .. }) => {
                self.remembered(page).await?.ok_or_else(|| no_server.into())
            }
            Ok(answer) => Ok(answer),
            Err(error @ ForwardError::NotApi) => Err(error.into()),
        }
    }

    /// Answers from memory; `None` when nothing is known, or it is older than the caller takes.
    async fn remembered(&self, page: Page) -> Result<Option<Response<Body>>, ApiError> {
        let Page { wanted, is_health, query, token } = page;
        let filter = match is_health {
            true => query.filter(&SERVICE_INSTANCE)?,
            false => query.filter(&CATALOG_SERVICE)?,
        };
        let view = self.parts.names.look(&wanted);
        let slot = newer(view, Index(query.index()?), query.wait()?).await;
        let (Some(instances), index) = (slot.value, slot.index) else { return Ok(None) };
        let age = self.parts.contact.away_for(clock::instant());
        if let (Some(age), Some(max)) = (age, max_stale(&query)?)
            && age > max
        {
            return Ok(None);
        }
        let token = self.parts.acl.token_of(token);
        let (mut seen, is_filtered) = self.visible(token.as_ref(), &instances).await?;
        let wants = Wants::of(&query);
        seen.retain(|instance| wants.takes(instance, is_health));
        let is_pretty = query.has("pretty");
        let mut response = match is_health {
            true => {
                let takes = |it: &&ServiceInstance| {
                    filter.as_ref().is_none_or(|filter| filter.matches_record(*it))
                };
                let shown: Vec<&ServiceInstance> = seen.into_iter().filter(takes).collect();
                answer::list(&shown, is_pretty, is_filtered)
            }
            false => {
                let shown = seen.into_iter().cloned().map(CatalogService::from);
                let takes = |it: &CatalogService| {
                    filter.as_ref().is_none_or(|filter| filter.matches_record(it))
                };
                let shown: Vec<CatalogService> = shown.filter(takes).collect();
                answer::list(&shown, is_pretty, is_filtered)
            }
        };
        response.headers_mut().insert(answer::INDEX, HeaderValue::from(index.shown()));
        self.mark_age(response.headers_mut());
        Ok(Some(response))
    }

    /// Leaves the instances that the caller may see, which takes rights on node and service, and
    /// tells what [`Api::seen`] tells.
    async fn visible<'a>(
        &self,
        token: Option<&TokenText>,
        instances: &'a [ServiceInstance],
    ) -> Result<(Vec<&'a ServiceInstance>, bool), ApiError> {
        let service =
            |it: &ServiceInstance| Question::read(Resource::Service, it.service.name.as_str());
        let node = |it: &ServiceInstance| Question::read(Resource::Node, it.node.name.as_str());
        let all = instances.iter().map(|instance| (service(instance), instance)).collect();
        let (seen, lacks_services) = self.seen(token, all).await?;
        let left = seen.into_iter().map(|instance| (node(instance), instance)).collect();
        let (seen, lacks_nodes) = self.seen(token, left).await?;
        Ok((seen, lacks_services || lacks_nodes))
    }

    /// Says how old what an answer was made from may be: it is what servers said last.
    ///
    /// **Source**: Consul: api-docs/features/consistency, api-docs/features/caching. Clients fail
    /// when `LastContact` is not a number.
    pub(super) fn mark_age(&self, headers: &mut HeaderMap) {
        let away = self.parts.contact.away_for(clock::instant());
        if away.is_some() {
            self.parts.contact.served_stale();
        }
        let is_known = HeaderValue::from_static(if away.is_none() { "true" } else { "false" });
        let away = away.unwrap_or_default();
        let ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
        headers.insert(KNOWN_LEADER, is_known);
        headers.insert(LAST_CONTACT, HeaderValue::from(ms));
        headers.insert(CACHE, HeaderValue::from_static("HIT"));
        headers.insert(http::header::AGE, HeaderValue::from(away.as_secs()));
    }
}

/// Waits for something newer than what the caller has, as long as it wants to wait.
async fn newer<T>(mut view: View<T>, known: Index, wait: Duration) -> Slot<T> {
    let mut slot = view.latest();
    if known > Index(0) {
        let newer = async {
            while slot.index.shown() <= known.0 {
                slot = view.changed().await;
            }
        };
        // After the wait the present state is the answer, changed or not.
        let _ = tokio::time::timeout(wait, newer).await;
    }
    slot
}

fn max_stale(query: &Query) -> Result<Option<Duration>, ApiError> {
    let Some(text) = query.get("max_stale").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let span: Span = text.parse().map_err(|error: weft_core::time::InvalidSpan| {
        ApiError::Query(format!("max_stale: {error}"))
    })?;
    Ok(Some(span.0))
}

/// What a query leaves of a list, its filter aside.
struct Wants<'a> {
    tags: Vec<&'a str>,
    node_meta: BTreeMap<&'a str, &'a str>,
    only_passing: bool,
}

impl<'a> Wants<'a> {
    fn of(query: &'a Query) -> Self {
        let pairs =
            query.values("node-meta").map(|pair| pair.split_once(':').unwrap_or((pair, "")));
        Self {
            tags: query.values("tag").filter(|tag| !tag.is_empty()).collect(),
            node_meta: pairs.collect(),
            only_passing: query.has("passing"),
        }
    }

    fn takes(&self, instance: &ServiceInstance, is_health: bool) -> bool {
        let has_tag =
            |tag: &&str| instance.service.tags.iter().any(|it| it.eq_ignore_ascii_case(tag));
        let has_meta = |(key, value): (&&str, &&str)| {
            instance.node.meta.get(*key).is_some_and(|it| it == value)
        };
        let is_good = !is_health || !self.only_passing || instance.status() == CheckStatus::Passing;
        is_good && self.tags.iter().all(has_tag) && self.node_meta.iter().all(has_meta)
    }
}

#[cfg(test)]
mod tests {
    use weft_runtime::http::empty;

    use super::*;

    #[test]
    fn only_pages_whose_every_word_is_understood_are_answered_remembered() {
        let own = Datacenter::parse("dc1").expect("a datacenter");
        let is_page = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(empty());
            Page::of(&request.expect("a request"), &own).is_some()
        };
        for path in [
            "/v1/health/service/web",
            "/v1/health/connect/web?passing",
            "/v1/catalog/service/web?tag=a&tag=b&node-meta=x:y&index=7&wait=1m&stale&dc=dc1",
            "/v1/catalog/connect/web?cached&filter=ServiceID==a",
        ] {
            assert!(is_page("GET", path), "{path}");
        }
        for path in [
            "/v1/health/service/web?consistent",
            "/v1/health/service/web?dc=dc2",
            "/v1/health/service/web?peer=west",
            "/v1/health/service/web?merge-central-config",
            "/v1/health/service/a/b",
            "/v1/health/state/any",
            "/v1/catalog/services",
            "/v1/kv/web",
        ] {
            assert!(!is_page("GET", path), "{path}");
        }
        assert!(!is_page("PUT", "/v1/health/service/web"));
    }
}
